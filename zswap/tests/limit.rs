//! The limit and its hysteresis.

use crate::common::{Look, block, builder, check_books, spec};
use zswap::{AtLimit, Error, Store, StoreBuilder};

const MIB: usize = 1 << 20;

/// Builds a store of pools of this spec that refuses blocks at `limit` bytes.
fn refusing(text: &str, limit: usize) -> StoreBuilder<u64> {
    builder().spec(spec(text)).limit_bytes(limit).at_limit(AtLimit::Refuse)
}

/// Stores noise under rising keys until the store is full. Returns the next key.
fn fill(store: &Store<u64>, mut key: u64) -> u64 {
    loop {
        match store.store(key, block(key, 4096, Look::Noise)) {
            Ok(()) => key += 1,
            Err(error) => {
                assert!(matches!(error, Error::Full { held, limit, .. } if held >= limit * 9 / 10));
                return key;
            }
        }
        assert!(key < 100_000, "never full");
    }
}

/// A store is full at the limit, and takes blocks again below the threshold.
#[test]
fn full_at_limit_until_below_low_watermark() {
    for text in ["reference+rle", "zbud+lz4", "zsmalloc+lz4"] {
        let store = refusing(text, 4 * MIB).accept_percent(75).build().unwrap();
        let end = fill(&store, 0);
        let held = store.stats().bytes_held();
        assert!((4 * MIB..4 * MIB + 128 * 1024).contains(&held), "{text}: {held}");
        assert_eq!(store.stats().limit_bytes, Some(4 * MIB));

        // A little less is not enough...
        let mut key = 0;
        while store.stats().bytes_held() > 4 * MIB * 76 / 100 {
            assert!(matches!(
                store.store(end, b"a block, not same-filled").unwrap_err(),
                Error::Full { .. }
            ));
            assert!(store.invalidate(&key), "{text}");
            key += 1;
            store.manager().current().unwrap().zpool().trim();
        }
        assert!(key > 100, "{text}: {key}");
        // ...but at the threshold the store takes blocks, up to the limit again.
        while store.stats().bytes_held() > 3 * MIB {
            assert!(store.invalidate(&key));
            key += 1;
            store.manager().current().unwrap().zpool().trim();
        }
        store.store(end, block(end, 4096, Look::Noise)).unwrap();
        assert!(fill(&store, end + 1) > end + 100, "{text}");
        assert!(store.stats().rejected.full > 100);
        check_books(&store);
    }
}

#[test]
fn a_raised_limit_takes_blocks_at_once() {
    let store = refusing("reference+rle", 4 * MIB).build().unwrap();
    let end = fill(&store, 0);
    let held = store.stats().bytes_held();
    let raised = held + MIB / 4;
    assert!(
        held > raised / 10 * 9,
        "above the threshold of the new limit, which was never reached"
    );
    store.set_limit(Some(raised)).unwrap();
    assert!(fill(&store, end) > end + 40);
    check_books(&store);
}

/// A block refused at the limit removes the older one (B23).
#[test]
fn b23_refused_store_removes_older_block() {
    let store = refusing("reference+rle", MIB).build().unwrap();
    fill(&store, 0);
    assert!(store.contains(&0));
    let error = store.store(0, block(9, 4096, Look::Runs)).unwrap_err();
    assert!(matches!(error, Error::Full { limit: MIB, .. }), "{error}");
    assert!(!store.contains(&0));
    // Same-filled blocks need a place in the index, so they are refused too.
    store.store(1, [7; 4096]).unwrap_err();
    assert!(!store.contains(&1));
    check_books(&store);
}

/// A store that refuses blocks for a while never returns an older block afterwards (B24).
#[test]
fn b24_refused_store_never_revives_older_block() {
    for text in ["reference+rle", "zbud+lz4", "zsmalloc+lz4"] {
        let store = builder().spec(spec(text)).max_value_len(16 << 10).build().unwrap();
        let (old, newer) =
            (|key| block(key, 3000, Look::Runs), |key| block(key + 100, 4096, Look::Noise));
        let lens = |key: u64| [4096, 4096, 16 << 10][key as usize % 3];
        let newest =
            |key| block(key + 200, lens(key), [Look::Runs, Look::SameFilled][key as usize % 2]);
        (0..60).for_each(|key| store.store(key, old(key)).unwrap());
        // With a limit of 0 the store takes nothing.
        store.set_limit(Some(0)).unwrap();
        for key in 0..20 {
            store.store(key, newer(key)).unwrap_err();
        }
        let (values, keys) = ((20..40).map(newest).collect::<Vec<_>>(), 20..40u64);
        let refused = store.store_many(keys.zip(values.iter().map(Vec::as_slice)));
        assert!(
            refused
                .iter()
                .all(|r| matches!(r, Err(e) if matches!(e, Error::Full { limit: 0, .. })))
        );
        store.switch(&spec("zsmalloc(chain=4)+rle")).unwrap();
        for (round, limit) in [Some(0), None].into_iter().enumerate() {
            store.set_limit(limit).unwrap();
            for key in 0..60 {
                let expected = (key >= 40).then(|| old(key));
                assert_eq!(
                    store.peek_vec(&key).unwrap(),
                    expected,
                    "{text}, round {round}, key {key}"
                );
            }
        }
        (0..60).for_each(|key| store.store(key, newest(key)).unwrap());
        assert!((0..60).all(|key| store.load_vec(&key).unwrap().unwrap() == newest(key)));
        check_books(&store);
    }
}

#[test]
fn retired_pools_count_and_every_switch_is_noticed() {
    let store = refusing("reference+rle", 4 * MIB).build().unwrap();
    let specs = ["reference+lz4", "reference+rle(n=2)", "reference+rle", "reference+rle(n=3)"];
    let mut key = 0;
    'full: loop {
        for text in specs {
            store.switch(&spec(text)).unwrap();
            for _ in 0..200 {
                if store.store(key, block(key, 4096, Look::Noise)).is_err() {
                    break 'full;
                }
                key += 1;
            }
        }
        assert!(key < 10_000, "never full");
    }
    assert!(store.stats().manager.pools_alive == 4);
    let held = store.stats().bytes_held();
    assert!((4 * MIB..4 * MIB + 32 * 1024).contains(&held), "{held}");
    // Blocks leave a retired pool, so the bound is now too high, and the exact figure decides.
    (0..key / 2).for_each(|key| assert!(store.invalidate(&key)));
    store.store(key, block(key, 4096, Look::Noise)).unwrap();
    check_books(&store);
}

/// A batch that began before a switch keeps the limit too (B7).
#[test]
fn b7_batch_across_switch_keeps_limit() {
    let store = refusing("zsmalloc+lz4", 4 * MIB).build().unwrap();
    let blocks: Vec<_> = (0..2_000).map(|key| (key, block(key, 4096, Look::Noise))).collect();
    let batch = blocks.iter().inspect(|(key, _)| {
        if *key == 0 {
            // The batch continues with the pool that is now retired, while other calls fill the new
            // one and make a little room again.
            store.switch(&spec("zsmalloc(chain=4)+rle")).unwrap();
            let end = fill(&store, 10_000);
            (10_000..10_150).for_each(|key| assert!(store.invalidate(&key)));
            store.manager().current().unwrap().zpool().trim();
            assert!(end > 10_900);
        }
    });
    let results = store.store_many(batch.map(|(key, block)| (*key, block.as_slice())));
    let stored = results.iter().filter(|result| result.is_ok()).count();
    assert!((50..300).contains(&stored), "{stored}");
    // A store to the new pool accounts for what the batch added to the old one.
    store.store(20_000, block(1, 4096, Look::Noise)).unwrap_err();
    let held = store.bytes_held();
    assert!(held < 4 * MIB + 128 * 1024, "{held}");
    check_books(&store);
}

#[test]
fn the_index_counts() {
    let store = refusing("reference+rle", MIB).build().unwrap();
    let stored =
        (0..100_000u64).take_while(|key| store.store(*key, key.to_le_bytes()).is_ok()).count();
    assert!(
        (10_000..40_000).contains(&stored),
        "{stored} same-filled blocks, 33 bytes each in a table"
    );
    assert!(store.stats().index_bytes >= MIB / 2);
}

#[test]
fn a_limit_of_nothing_takes_nothing() {
    let store = refusing("reference+rle", MIB).build().unwrap();
    store.set_limit(Some(0)).unwrap();
    let error = store.store(1, b"not a byte of it").unwrap_err();
    assert!(matches!(error, Error::Full { limit: 0, held, .. } if held > 0));
}

/// Concurrent stores overshoot by no more than what is in flight (B7).
#[test]
fn b7_overshoot_is_what_is_in_flight() {
    let store = refusing("zsmalloc+lz4", 4 * MIB).build().unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            let store = store.clone();
            scope.spawn(move || {
                for n in 0..1_000 {
                    let key = (thread << 32) | n;
                    let _ = store.store(key, block(key, 4096, Look::Noise));
                    let held = store.manager().bytes_held() + store.stats().index_bytes;
                    // Four blocks are in flight. Each may need a zspage of its own, and a context.
                    assert!(held < 4 * MIB + 4 * 128 * 1024, "{held}");
                }
            });
        }
    });
    assert!(store.stats().rejected.full > 0);
    check_books(&store);
}
