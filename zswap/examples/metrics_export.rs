//! A store's statistics through the facade of the crate `metrics`:
//! `cargo run -p zswap --example metrics_export`.
//!
//! Gauges and counters are set from a snapshot at intervals: the store itself knows nothing of
//! metrics, and calls of it cost nothing more. Any exporter that has a recorder for `metrics` shows
//! them. The recorder of this example keeps them in a map.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, Key, KeyName, Metadata, Recorder, SharedString,
    Unit,
};
use zswap::{Store, StoreStats};

/// Exports `stats` to the recorder of `metrics`.
fn export(stats: &StoreStats) {
    for (name, value) in [
        ("zswap_entries", stats.entries),
        ("zswap_stored_bytes", stats.stored_bytes),
        ("zswap_held_bytes", stats.bytes_held()),
        ("zswap_pool_bytes", stats.pool_bytes),
        ("zswap_index_bytes", stats.index_bytes),
        ("zswap_context_bytes", stats.context_bytes),
        ("zswap_same_filled", stats.same_filled),
        ("zswap_incompressible", stats.stored_raw),
        ("zswap_pools", stats.manager.pools_alive),
    ] {
        metrics::gauge!(name).set(value as f64);
    }
    for (name, value) in [
        ("zswap_stores", stats.stores),
        ("zswap_loads_hit", stats.loads_hit),
        ("zswap_loads_missed", stats.loads_missed),
        ("zswap_peeks_hit", stats.peeks_hit),
        ("zswap_peeks_missed", stats.peeks_missed),
        ("zswap_taken", stats.taken),
        ("zswap_takes_missed", stats.takes_missed),
        ("zswap_evicted", stats.evicted),
        ("zswap_moved", stats.moved),
        ("zswap_rejected", stats.rejected.total()),
        ("zswap_decompress_failed", stats.decompress_failed),
    ] {
        metrics::counter!(name).absolute(value);
    }
    // Only with a thrash meter: of a sample of the blocks that were evicted or made cold, how many
    // were asked for again in less than 8 seconds, and how many were removed without that.
    let Some(thrash) = &stats.thrash else { return };
    for (asked, removed, counts) in [
        ("zswap_evicted_asked_in_8s", "zswap_evicted_removed_unasked", &thrash.evicted),
        ("zswap_cold_asked_in_8s", "zswap_cold_removed_unasked", &thrash.cold),
    ] {
        metrics::counter!(asked).absolute(counts.asked_again[..4].iter().sum());
        metrics::counter!(removed).absolute(counts.removed_unasked);
    }
}

/// A recorder that keeps the last value of everything. It stands for an exporter.
#[derive(Debug, Clone, Default)]
struct Remembers(Arc<Mutex<BTreeMap<String, f64>>>);

/// One of its values.
struct Cell(Remembers, String);

impl Cell {
    fn change(&self, change: impl FnOnce(f64) -> f64) {
        let mut values = self.0.0.lock().unwrap_or_else(|e| e.into_inner());
        let value = values.entry(self.1.clone()).or_default();
        *value = change(*value);
    }
}

impl CounterFn for Cell {
    fn increment(&self, value: u64) {
        self.change(|before| before + value as f64);
    }
    fn absolute(&self, value: u64) {
        self.change(|before| before.max(value as f64));
    }
}

impl GaugeFn for Cell {
    fn increment(&self, value: f64) {
        self.change(|before| before + value);
    }
    fn decrement(&self, value: f64) {
        self.change(|before| before - value);
    }
    fn set(&self, value: f64) {
        self.change(|_| value);
    }
}

impl Recorder for Remembers {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(Arc::new(Cell(self.clone(), key.name().to_owned())))
    }
    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(Arc::new(Cell(self.clone(), key.name().to_owned())))
    }
    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

/// Runs the example; its assertions say what it shows.
pub fn main() -> Result<(), Box<dyn std::error::Error>> {
    let recorder = Remembers::default();
    let store: Store<u64> = Store::builder().thrash_meter(true).build()?;
    metrics::with_local_recorder(&recorder, || -> Result<(), zswap::Error> {
        for key in 0..100 {
            store.store(key, format!("block {key} ").repeat(100).as_bytes())?;
            store.load_vec(&(key * 2))?;
            export(&store.stats());
        }
        Ok(())
    })?;
    let values = recorder.0.lock().unwrap_or_else(|e| e.into_inner());
    values.iter().for_each(|(name, value)| println!("{name} {value}"));
    assert_eq!(
        (values["zswap_stores"], values["zswap_entries"], values["zswap_loads_missed"]),
        (100.0, 100.0, 99.0)
    );
    Ok(())
}
