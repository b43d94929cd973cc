//! Statistics through the `metrics` facade.
#![cfg(feature = "metrics")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use metrics::{
    Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit,
    with_local_recorder,
};
use zswap_cache::Cache;

/// A recorder that remembers each value under its name and labels.
#[derive(Default)]
struct Remembering(Mutex<BTreeMap<String, Arc<AtomicU64>>>);

impl Remembering {
    fn value(&self, key: &Key) -> Arc<AtomicU64> {
        let labels: Vec<_> = key.labels().map(|label| label.value()).collect();
        let name = format!("{} {}", key.name(), labels.join(" "));
        self.0.lock().unwrap().entry(name).or_default().clone()
    }

    fn read(&self, name: &str) -> u64 {
        let values = self.0.lock().unwrap();
        let value = values.get(name).unwrap_or_else(|| panic!("{name}: {:?}", values.keys()));
        value.load(Ordering::Relaxed)
    }
}

impl Recorder for Remembering {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.value(key))
    }
    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.value(key))
    }
    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

/// Each statistic has a metric with the cache's name.
#[test]
fn stats_are_recorded_under_the_cache_name() {
    let cache: Cache<u64> = Cache::builder().limit_bytes(16 << 20).build().unwrap();
    cache.get_or_insert_with(&1, || vec![1; 5000]).unwrap();
    cache.get_or_insert_with(&1, || "never").unwrap();
    cache.insert(1, "two").unwrap();
    let recorder = Remembering::default();
    with_local_recorder(&recorder, || cache.stats().record("pages"));
    let gauge = |name: &str| f64::from_bits(recorder.read(name));
    assert_eq!(gauge("zswap_cache_entries pages"), 1.0);
    assert_eq!(gauge("zswap_cache_value_bytes pages"), 3.0);
    assert_eq!(gauge("zswap_cache_limit_bytes pages"), f64::from(16 << 20));
    assert_eq!(recorder.read("zswap_cache_hits pages"), 1);
    assert_eq!(recorder.read("zswap_cache_misses pages"), 1);
    assert_eq!(recorder.read("zswap_cache_loads pages"), 1);
    assert_eq!(recorder.read("zswap_cache_removals pages replaced"), 1);
    assert_eq!(recorder.read("zswap_cache_removals pages expired"), 0);
}
