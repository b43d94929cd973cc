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
use zswap::stats::ThrashStats;
use zswap::tier::TierStats;
#[cfg(unix)]
use zswap::{AtLimit, tier::FileTier};
use zswap::{Store, StoreStats};

/// Exports `stats` to the recorder of `metrics`.
fn export(stats: &StoreStats) {
    for (name, value) in [
        ("zswap_entries", stats.entries),
        ("zswap_stored_bytes", stats.stored_bytes),
        ("zswap_bytes_held", stats.bytes_held()),
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
    stats.thrash.iter().for_each(export_thrash);
    stats.tier.iter().for_each(export_tier);
}

/// Exports what a thrash meter knows: of a sample of the blocks that were evicted or made cold, how
/// many were asked for again in less than 8 seconds, and how many were removed without that.
fn export_thrash(thrash: &ThrashStats) {
    for (asked, removed, counts) in [
        ("zswap_evicted_asked_in_8s", "zswap_evicted_removed_unasked", &thrash.evicted),
        ("zswap_cold_asked_in_8s", "zswap_cold_removed_unasked", &thrash.cold),
    ] {
        metrics::counter!(asked).absolute(counts.reloaded[..4].iter().sum());
        metrics::counter!(removed).absolute(counts.removed_unread);
    }
}

/// Exports the statistics of a tier below memory. Alert on lost blocks, on errors, and on a tier
/// that is off.
fn export_tier(tier: &TierStats) {
    for (name, value) in [
        ("zswap_tier_backed", tier.backed),
        ("zswap_tier_backed_bytes", tier.backed_bytes),
        ("zswap_tier_live_bytes", tier.live_bytes),
        ("zswap_tier_segments", tier.segments),
        ("zswap_tier_segments_used", tier.segments_used),
        ("zswap_tier_memory_bytes", tier.memory_bytes),
        ("zswap_tier_is_off", usize::from(tier.is_off)),
    ] {
        metrics::gauge!(name).set(value as f64);
    }
    for (name, value) in [
        ("zswap_tier_segments_written", tier.segments_written),
        ("zswap_tier_segments_dropped", tier.segments_dropped),
        ("zswap_tier_bytes_written", tier.bytes_written),
        ("zswap_tier_put", tier.put),
        ("zswap_tier_bytes_put", tier.bytes_put),
        ("zswap_tier_put_clean", tier.put_clean),
        ("zswap_tier_carried", tier.carried),
        ("zswap_tier_reads", tier.reads),
        ("zswap_tier_bytes_read", tier.bytes_read),
        ("zswap_tier_readmitted", tier.readmitted),
        ("zswap_tier_lost_dropped", tier.lost.dropped),
        ("zswap_tier_lost_gone", tier.lost.gone),
        ("zswap_tier_lost_corrupt", tier.lost.corrupt),
        ("zswap_tier_write_errors", tier.write_errors),
        ("zswap_tier_full_errors", tier.full_errors),
        ("zswap_tier_read_errors", tier.read_errors),
    ] {
        metrics::counter!(name).absolute(value);
    }
    // With `StoreBuilder::latency_histograms`: reads wait for the disk, and so may stores.
    for (name, latency) in [
        ("zswap_tier_read_p99_seconds", tier.read_latency),
        ("zswap_tier_write_p99_seconds", tier.write_latency),
    ] {
        if let Some(latency) = latency {
            metrics::gauge!(name).set(latency.p99.as_secs_f64());
        }
    }
}

/// A recorder that keeps the last value of everything. It stands for an exporter.
#[derive(Debug, Clone, Default)]
struct MapRecorder(Arc<Mutex<BTreeMap<String, f64>>>);

/// One of its values.
struct Cell(MapRecorder, String);

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

impl Recorder for MapRecorder {
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
    let recorder = MapRecorder::default();
    let store = store()?;
    metrics::with_local_recorder(&recorder, || -> Result<(), zswap::Error> {
        for key in 0..100 {
            store.store(key, format!("block {key} ").repeat(100).as_bytes())?;
            store.load_vec(&(key * 2))?;
            export(&store.stats());
        }
        // A store at its limit does this by itself.
        store.write_back();
        export(&store.stats());
        Ok(())
    })?;
    let values = recorder.0.lock().unwrap_or_else(|e| e.into_inner());
    values.iter().for_each(|(name, value)| println!("{name} {value}"));
    assert_eq!(
        (values["zswap_stores"], values["zswap_entries"], values["zswap_loads_missed"]),
        (100.0, 100.0, 99.0)
    );
    if store.stats().tier.is_some() {
        assert!(values["zswap_tier_backed"] > 0.0 && values["zswap_tier_write_errors"] == 0.0);
        assert_eq!(values["zswap_tier_put"], values["zswap_tier_backed"]);
    }
    Ok(())
}

/// Creates a store with a thrash meter and latency histograms and, on Unix, a tier in a temporary
/// file.
fn store() -> Result<Store<u64>, Box<dyn std::error::Error>> {
    let builder = Store::builder().thrash_meter(true).latency_histograms(true);
    #[cfg(unix)]
    let builder = {
        let file = FileTier::builder(std::env::temp_dir(), 4 << 20).segment_bytes(256 << 10);
        builder.limit_bytes(64 << 20).at_limit(AtLimit::Evict).tier(Arc::new(file.build()?))
    };
    Ok(builder.build()?)
}
