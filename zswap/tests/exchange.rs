//! A block replaces another under its key: in one pool, across a switch, of every kind, and with
//! checksums.

use std::sync::atomic::Ordering;

use crate::common::codec::CodecScript;
use crate::common::pool::{OnExchange, PoolScript};
use crate::common::{Look, block, builder, check_books, scripted, spec};
use zswap::{AtLimit, Error, SequentialKeys, Store};

const LOOKS: [Look; 3] = [Look::Runs, Look::Noise, Look::SameFilled];

/// Every kind replaces every kind, in the same pool or in another, whether or not other entries of
/// the shard keep the old pool.
#[test]
fn any_kind_of_block_replaces_any_other() {
    for checksums in [false, true] {
        for keep_all in [false, true] {
            let store = builder().spec(spec("zsmalloc+lz4")).checksums(checksums).build().unwrap();
            let specs = ["zsmalloc+lz4", "zbud+rle", "reference+rle"].map(spec);
            if keep_all {
                for (n, spec) in specs.iter().enumerate() {
                    store.switch(spec).unwrap();
                    // Some entries for most shards.
                    for key in 0..500 {
                        let key = 1_000_000 * (n as u64 + 1) + key;
                        store.store(key, block(key, 100, Look::Noise)).unwrap();
                    }
                }
            }
            let mut turn = 0;
            for first in LOOKS {
                for second in LOOKS {
                    for (from, to) in [(0, 0), (0, 1), (1, 2), (2, 0)] {
                        turn += 1;
                        store.switch(&specs[from]).unwrap();
                        (0..40).for_each(|key| {
                            store.store(key, block(key + turn, 3000, first)).unwrap()
                        });
                        store.switch(&specs[to]).unwrap();
                        for key in 0..40 {
                            store
                                .store(key, block(key + 7 * turn, 1000 + key as usize, second))
                                .unwrap();
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

/// The entry keeps its handle if the allocator exchanges the objects, and takes the other one if it
/// declines. Either way the last block is there. Blocks are stored one by one and in batches.
#[test]
fn exchanged_entry_keeps_its_handle() {
    let script = PoolScript::new();
    let store = scripted(script.clone(), CodecScript::new()).checksums(true).build().unwrap();
    for (round, what) in
        [OnExchange::Work, OnExchange::Decline, OnExchange::Work].into_iter().enumerate()
    {
        script.on_exchange(what);
        let (before, round) = (script.exchanges.load(Ordering::SeqCst), round as u64);
        for turn in 0..3 {
            let blocks: Vec<_> = (0..40)
                .map(|key| {
                    let look = if (key + turn) % 3 == 0 { Look::Noise } else { Look::Runs };
                    (key, block(100 * round + 10 * turn + key, 2000 + 13 * key as usize, look))
                })
                .collect();
            if turn == 1 {
                let results =
                    store.store_many(blocks.iter().map(|(key, block)| (*key, block.as_slice())));
                assert!(results.iter().all(Result::is_ok));
            } else {
                blocks.iter().for_each(|(key, block)| store.store(*key, block).unwrap());
            }
            for (key, block) in &blocks {
                assert_eq!(
                    store.load_vec(key).unwrap().as_ref(),
                    Some(block),
                    "{what:?}, turn {turn}"
                );
            }
            check_books(&store);
        }
        let new = if round == 0 { 40 } else { 0 };
        let expected = if what == OnExchange::Work { 120 - new } else { 0 };
        assert_eq!(script.exchanges.load(Ordering::SeqCst) - before, expected, "{what:?}");
        assert_eq!(script.live(), 40);
    }
}

/// After a panic in `exchange` it is unknown which objects the handles name, so both are removed
/// (B23).
#[test]
fn b23_panicking_exchange_fails_store() {
    let script = PoolScript::new();
    let store = scripted(script.clone(), CodecScript::new()).build().unwrap();
    for what in [OnExchange::Panic, OnExchange::WorkAndPanic] {
        for in_a_batch in [false, true] {
            let (old, new) = (block(1, 4096, Look::Runs), block(2, 4096, Look::Runs));
            store.store(1, &old).unwrap();
            store.store(2, &old).unwrap();
            script.on_exchange(what);
            let outcome = match in_a_batch {
                false => store.store(1, &new),
                true => store.store_many([(1, new.as_slice())]).into_iter().next().unwrap(),
            };
            let error = outcome.unwrap_err();
            assert!(
                matches!(&error, Error::AllocatorPanicked(m) if m.contains("exchange")),
                "{error}"
            );
            assert_eq!((store.contains(&1), script.live()), (false, 1));
            script.on_exchange(OnExchange::Work);
            check_books(&store);
            assert_eq!(store.take_vec(&2).unwrap(), Some(old));
        }
    }
    assert_eq!((store.stats().rejected.alloc_failed, store.stats().free_failed), (4, 0));
}

#[test]
fn a_block_that_is_stored_again_counts_as_used() {
    let limited =
        builder().spec(spec("reference+rle")).limit_bytes(2 << 20).at_limit(AtLimit::Evict);
    let store = limited.build().unwrap();
    for key in 0..3_000u64 {
        store.store(key, block(key, 2000, Look::Noise)).unwrap();
        store.store(key % 50, block(key + 1, 2000, Look::Noise)).unwrap();
    }
    let there = |range: std::ops::Range<u64>| range.filter(|key| store.contains(key)).count();
    assert_eq!((there(0..50), there(50..100)), (50, 0), "{}", store.stats());
}

/// The last four strides are Fibonacci numbers times eight.
#[test]
fn a_store_by_number_takes_numbers_of_any_stride() {
    let powers = (0..=48).step_by(4).map(|power| 1u64 << power);
    for stride in powers.chain([3, 12_288, 971_144, 1_571_344, 6_656_320, 17_426_472]) {
        let store: Store<u64, SequentialKeys> =
            Store::builder().hasher(SequentialKeys::default()).build().unwrap();
        let key = |i: u64| i.wrapping_mul(stride);
        for i in 0..20_000 {
            store
                .store(key(i), i.to_le_bytes().repeat(2))
                .unwrap_or_else(|error| panic!("stride {stride}, {i}: {error}"));
        }
        for i in (0..20_000).step_by(7) {
            assert_eq!(store.load_vec(&key(i)).unwrap().unwrap(), i.to_le_bytes().repeat(2));
        }
    }
}
