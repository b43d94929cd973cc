//! A block takes the place of another under its key: in one pool, across a switch, of every kind, and with checksums.
#![cfg(not(zpool_loom))]

mod common;

use common::{Look, block, builder, check_books, spec};
use zswap::{AtLimit, ByNumber, Store};

const LOOKS: [Look; 3] = [Look::Runs, Look::Noise, Look::SameFilled];

/// Every kind after every kind, in the same pool or in another, where the shard's other entries keep the old pool or where nothing does.
#[test]
fn every_block_can_follow_every_other_in_its_pool_or_another() {
    for checksums in [false, true] {
        for keep_all in [false, true] {
            let store = builder().spec(spec("zsmalloc+lz4")).checksums(checksums).build().unwrap();
            let specs = ["zsmalloc+lz4", "zbud+rle", "reference+rle"].map(spec);
            if keep_all {
                for (n, spec) in specs.iter().enumerate() {
                    store.switch(spec).unwrap();
                    // Some for most shards.
                    for key in 0..500 {
                        let key = 1_000_000 * (n as u64 + 1) + key;
                        store.store(key, &block(key, 100, Look::Noise)).unwrap();
                    }
                }
            }
            let mut turn = 0;
            for first in LOOKS {
                for second in LOOKS {
                    for (from, to) in [(0, 0), (0, 1), (1, 2), (2, 0)] {
                        turn += 1;
                        store.switch(&specs[from]).unwrap();
                        (0..40).for_each(|key| store.store(key, &block(key + turn, 3000, first)).unwrap());
                        store.switch(&specs[to]).unwrap();
                        for key in 0..40 {
                            store.store(key, &block(key + 7 * turn, 1000 + key as usize, second)).unwrap();
                        }
                        for key in 0..40 {
                            let expected = block(key + 7 * turn, 1000 + key as usize, second);
                            let what = format!("{first:?}, then {second:?}, {from} to {to}");
                            assert_eq!(store.load_vec(&key).unwrap().unwrap(), expected, "{what}");
                        }
                        check_books(&store);
                    }
                }
            }
            let entries = if keep_all { 1540 } else { 40 };
            assert_eq!((store.stats().entries, store.stats().free_failed), (entries, 0));
            store.manager().flush().unwrap();
            let alive = if keep_all { 3 } else { 1 };
            assert_eq!(store.stats().manager.pools_alive, alive, "no reference is left behind");
        }
    }
}

#[test]
fn a_block_that_is_stored_again_counts_as_used() {
    let limited = builder().spec(spec("reference+rle")).limit_bytes(2 << 20).at_limit(AtLimit::Evict);
    let store = limited.build().unwrap();
    for key in 0..3_000u64 {
        store.store(key, &block(key, 2000, Look::Noise)).unwrap();
        store.store(key % 50, &block(key + 1, 2000, Look::Noise)).unwrap();
    }
    let there = |range: std::ops::Range<u64>| range.filter(|key| store.contains(key)).count();
    assert_eq!((there(0..50), there(50..100)), (50, 0), "{}", store.stats());
}

/// The last four strides are Fibonacci numbers times eight.
#[test]
fn a_store_by_number_takes_numbers_of_any_stride() {
    let powers = (0..=48).step_by(4).map(|power| 1u64 << power);
    for stride in powers.chain([3, 12_288, 971_144, 1_571_344, 6_656_320, 17_426_472]) {
        let store: Store<u64, ByNumber> = Store::builder().hasher(ByNumber::default()).build().unwrap();
        let key = |i: u64| i.wrapping_mul(stride);
        for i in 0..20_000 {
            store
                .store(key(i), &i.to_le_bytes().repeat(2))
                .unwrap_or_else(|error| panic!("stride {stride}, {i}: {error}"));
        }
        for i in (0..20_000).step_by(7) {
            assert_eq!(store.load_vec(&key(i)).unwrap().unwrap(), i.to_le_bytes().repeat(2));
        }
    }
}
