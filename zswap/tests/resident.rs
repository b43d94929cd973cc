//! The limit holds for what the system counts, even if entries take more memory than their blocks.
#![cfg(all(target_os = "linux", not(zpool_loom)))]

mod common;

use std::hash::Hash;

use common::{Look, block};
use zpool_testing::child::run_in_child;
use zswap::{AtLimit, Store};

const LIMIT: usize = 24 << 20;

/// Heap memory of small tables, and what every process needs.
const SLACK: usize = 2 << 20;

/// Returns the resident anonymous bytes of this process.
fn anonymous() -> usize {
    let text = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap();
    let line = text.lines().find(|line| line.starts_with("Anonymous:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() << 10
}

/// Stores many more small blocks than fit, in a process of its own: other tests' memory is not in
/// the figure.
fn resident_stays_below_limit<K: Hash + Eq + std::fmt::Debug>(
    name: &str,
    stores: u64,
    key: impl Fn(u64) -> K,
) {
    if std::env::var_os("ZSWAP_RESIDENT").is_none() {
        run_in_child(name, "ZSWAP_RESIDENT", "1");
        return;
    }
    let before = anonymous();
    let store = Store::<K>::builder().limit_bytes(LIMIT).at_limit(AtLimit::Evict).build().unwrap();
    let mut most = 0;
    for n in 0..stores {
        store.store(key(n), block(n, 9 + (n % 56) as usize, Look::Noise)).unwrap();
        if n % 10_000 == 0 {
            most = most.max(anonymous() - before);
        }
    }
    assert!(store.stats().evicted > 0, "the limit was reached");
    assert!(most < LIMIT + SLACK, "{most} bytes are resident, {} in the books", store.bytes_held());
}

/// Short blocks under `u64` keys: the index is a third of the store.
#[test]
fn small_blocks_stay_below_limit() {
    resident_stays_below_limit("small_blocks_stay_below_limit", 500_000, |n| n);
}

/// Keys of 100 bytes within the index.
#[test]
fn keys_of_100_bytes_stay_below_limit() {
    resident_stays_below_limit("keys_of_100_bytes_stay_below_limit", 300_000, |n| [n as u32; 25]);
}
