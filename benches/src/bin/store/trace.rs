//! The hit ratio of a cache that fills on a miss, over a trace in which few keys are hot, next to
//! an exact LRU list.

use std::collections::{BTreeMap, HashMap};

use workload::{Report, Rng, Spread, Zipf};
use zswap::{AtLimit, Store};

const KEYS: usize = 100_000;
const LOOKUPS: usize = 600_000;
/// The number of first look-ups, which fill the cache and do not count.
const WARM: usize = 200_000;
/// Long enough for objects to dominate the limit, and short enough for a trace to take a second.
const LEN: usize = 512;
/// Limits for about 1/10 to 1/3 of the keys.
const LIMITS: [usize; 3] = [3 << 20, 6 << 20, 16 << 20];

pub(crate) fn measure(report: &mut Report) {
    let ratios = LIMITS.into_iter().enumerate().map(|(n, limit)| {
        let (ours, entries) = ours(n as u64 + 1, limit);
        ours / lru(n as u64 + 1, entries)
    });
    report.push(
        Spread::of(ratios).expect("every trace has hits").figure("hit_ratio_over_lru", "ratio"),
    );
}

fn trace(seed: u64) -> impl Iterator<Item = u64> {
    let (zipf, mut rng) = (Zipf::new(KEYS), Rng::new(seed));
    (0..LOOKUPS).map(move |_| zipf.sample(&mut rng) as u64)
}

/// Returns the share of hits of a store, and its average number of entries.
fn ours(seed: u64, limit: usize) -> (f64, usize) {
    let store: Store<u64> = Store::builder()
        .limit_bytes(limit)
        .at_limit(AtLimit::Evict)
        .build()
        .expect("a store of the default back ends");
    let (mut noise, mut buffer) = (Rng::new(9), [0; LEN]);
    let (mut hits, mut entries, mut samples) = (0u64, 0, 0);
    for (n, key) in trace(seed).enumerate() {
        let hit = store.load(&key, &mut buffer).expect("no fault").is_some();
        hits += u64::from(hit && n >= WARM);
        if !hit {
            buffer
                .as_chunks_mut::<8>()
                .0
                .iter_mut()
                .for_each(|word| *word = noise.next_u64().to_le_bytes());
            store.store(key, buffer).expect("it evicts");
        }
        if n >= WARM && n.is_multiple_of(10_000) {
            entries += store.len();
            samples += 1;
        }
    }
    (hits as f64 / (LOOKUPS - WARM) as f64, entries / samples)
}

/// Returns the share of hits of an LRU list with that many entries.
fn lru(seed: u64, entries: usize) -> f64 {
    let (mut used, mut by_time) = (HashMap::new(), BTreeMap::new());
    let mut hits = 0u64;
    for (n, key) in trace(seed).enumerate() {
        if let Some(before) = used.insert(key, n) {
            by_time.remove(&before);
            hits += u64::from(n >= WARM);
        }
        by_time.insert(n, key);
        if used.len() > entries
            && let Some((_, oldest)) = by_time.pop_first()
        {
            used.remove(&oldest);
        }
    }
    hits as f64 / (LOOKUPS - WARM) as f64
}
