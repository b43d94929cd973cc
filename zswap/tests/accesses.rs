//! Hits and misses by kind of access.

use crate::common::codec::{CodecScript, OnDecompress};
use crate::common::pool::{OnRead, PoolScript};
use crate::common::{Look, block, check_books, scripted, store_of};
use zswap::{Store, StoreStats};

/// Loads that hit and missed, peeks, takes.
fn accesses(store: &Store<u64>) -> [u64; 6] {
    let StoreStats {
        loads_hit, loads_missed, peeks_hit, peeks_missed, taken, takes_missed, ..
    } = store.stats();
    [loads_hit, loads_missed, peeks_hit, peeks_missed, taken, takes_missed]
}

/// Every way to read is counted as its own kind of access, for blocks of every kind.
#[test]
fn stats_each_access_counts_as_its_kind() {
    let store =
        scripted(PoolScript::new(), CodecScript::new()).max_value_len(1 << 16).build().unwrap();
    let blocks = [
        block(0, 3000, Look::Runs),
        block(1, 3000, Look::Noise),
        block(2, 3000, Look::SameFilled),
        block(3, 30_000, Look::Runs),
        Vec::new(),
    ];
    let mut expected = [0; 6];
    for (key, bytes) in (0..).zip(&blocks) {
        store.store(key, bytes).unwrap();
        let mut buffer = vec![0; 30_000];
        store.load(&key, &mut buffer).unwrap();
        store.load_vec(&key).unwrap();
        store.load_with(&key, |_| ()).unwrap();
        assert!(
            store
                .load_many(&[key, key], &mut [&mut buffer.clone(), &mut buffer])
                .iter()
                .all(Result::is_ok)
        );
        expected[0] += 5;
        assert_eq!(accesses(&store), expected);
        store.peek(&key, &mut buffer).unwrap();
        store.peek_vec(&key).unwrap();
        store.export(&key, |_| ()).unwrap();
        expected[2] += 3;
        assert_eq!(accesses(&store), expected);
        store.len_of(&key).unwrap();
        store.retain(|_, _| true);
        store.take(&key, &mut buffer).unwrap();
        expected[4] += 1;
        assert_eq!(accesses(&store), expected);
        // Now it is gone.
        store.load(&key, &mut buffer).unwrap();
        store.load_vec(&key).unwrap();
        store.load_with(&key, |_| ()).unwrap();
        assert!(store.load_many(&[key], &mut [&mut buffer]).iter().all(Result::is_ok));
        store.peek(&key, &mut buffer).unwrap();
        store.peek_vec(&key).unwrap();
        store.export(&key, |_| ()).unwrap();
        store.take(&key, &mut buffer).unwrap();
        store.take_vec(&key).unwrap();
        expected = [
            expected[0],
            expected[1] + 4,
            expected[2],
            expected[3] + 3,
            expected[4],
            expected[5] + 2,
        ];
        assert_eq!(accesses(&store), expected);
    }
    check_books(&store);
}

/// A read that fails has found its block: it counts as a hit, and not as a take.
#[test]
fn stats_failed_access_is_hit_and_not_taken() {
    let (pool, codec) = (PoolScript::new(), CodecScript::new());
    let store = scripted(pool.clone(), codec.clone()).build().unwrap();
    store.store(1, block(1, 3000, Look::Runs)).unwrap();
    let fails = || {
        store.load_vec(&1).unwrap_err();
        store.peek_vec(&1).unwrap_err();
        store.take_vec(&1).unwrap_err();
    };
    codec.on_decompress(OnDecompress::Fail);
    fails();
    codec.on_decompress(OnDecompress::Work);
    pool.on_read(OnRead::Panic);
    fails();
    pool.on_read(OnRead::Fail);
    fails();
    store.export(&1, |_| ()).unwrap_err();
    pool.on_read(OnRead::Work);
    store.load(&1, &mut [0; 10]).unwrap_err();
    assert_eq!(accesses(&store), [4, 0, 4, 0, 0, 0]);
    assert!(store.contains(&1));
}

/// A store that is used only by takes reports their hits.
#[test]
fn stats_display_takes_are_hits() {
    let store = store_of("reference+rle");
    assert_eq!(store.stats().hit_percent(), None);
    for key in 0..30 {
        store.store(key, block(key, 100, Look::Runs)).unwrap();
        store.peek_vec(&(key + 1)).unwrap();
        assert!(store.take_vec(&key).unwrap().is_some());
    }
    let stats = store.stats();
    let text = stats.to_string();
    let line = |name| text.lines().find(|line| line.starts_with(name)).unwrap();
    assert_eq!(line("loads"), "loads    0 hit, 0 missed");
    assert_eq!(line("takes"), "takes    30 hit, 0 missed: 100.0 %");
    assert_eq!(line("peeks"), "peeks    0 hit, 30 missed: 0.0 %");
    assert_eq!(stats.hit_percent(), Some(100.0));
    store.load_vec(&1).unwrap();
    store.take_vec(&1).unwrap();
    assert_eq!(store.stats().hit_percent(), Some(93.75));
}
