//! The thrash meter: the fate of blocks that were evicted or made cold.

use std::sync::Arc;

use crate::common::{Look, block, builder, spec, stamped};
use zswap::plugin::Manual;
use zswap::stats::{SAMPLED_ONE_IN, ThrashCounts};
use zswap::{AtLimit, Store};

const KEYS: u64 = 4_000;

/// Turns the clock so many times.
fn turn(store: &Store<u64>, times: usize) {
    for _ in 0..times {
        store.turn_heat_clock();
    }
}

/// Returns whether a count is about what the sample has of this many keys.
fn is_sample_of(counted: u64, keys: u64) -> bool {
    let expected = keys / SAMPLED_ONE_IN;
    (expected / 2..=expected * 2).contains(&counted)
}

/// Returns the number of blocks that are no longer remembered.
fn fates(counts: ThrashCounts) -> u64 {
    counts.reloaded.iter().sum::<u64>() + counts.reloaded_late + counts.removed_unread
}

/// Evicted blocks that are loaded, stored or removed again are counted so.
#[test]
fn evicted_blocks_are_counted_by_fate() {
    let store =
        builder().limit_bytes(2 << 20).at_limit(AtLimit::Evict).thrash_meter(true).build().unwrap();
    (0..KEYS).for_each(|key| store.store(key, block(key, 3000, Look::Noise)).unwrap());
    let gone: Vec<u64> = (0..KEYS).filter(|key| !store.contains(key)).collect();
    let evicted = store.stats().thrash.unwrap().evicted;
    assert!(is_sample_of(evicted.noted, gone.len() as u64), "{evicted:?} of {}", gone.len());
    assert_eq!(fates(evicted), 0);
    // A peek does not ask.
    gone.iter().for_each(|key| assert!(store.peek_vec(key).unwrap().is_none()));
    assert_eq!(fates(store.stats().thrash.unwrap().evicted), 0);
    let (asked, removed) = gone.split_at(gone.len() / 2);
    asked.iter().for_each(|key| assert!(store.load_vec(key).unwrap().is_none()));
    removed.iter().for_each(|key| assert!(!store.invalidate(key)));
    let evicted = store.stats().thrash.unwrap().evicted;
    assert_eq!(fates(evicted) + evicted.displaced, evicted.noted);
    assert!(is_sample_of(evicted.removed_unread, removed.len() as u64), "{evicted:?}");
    let reloaded: u64 = evicted.reloaded.iter().sum();
    assert!(is_sample_of(reloaded, asked.len() as u64), "{evicted:?}");
    // Nothing is remembered twice.
    gone.iter().for_each(|key| assert!(store.load_vec(key).unwrap().is_none()));
    assert_eq!(store.stats().thrash.unwrap().evicted, evicted);
}

/// Builds a store with a meter, all of whose blocks are cold.
fn cold_store() -> Store<u64> {
    let store = builder()
        .spec(spec("zsmalloc+lz4"))
        .cold(spec("zbud+rle"))
        .executor(Arc::new(Manual::new()))
        .thrash_meter(true)
        .build()
        .unwrap();
    (0..KEYS).for_each(|key| store.store(key, stamped(key, 1, 1200)).unwrap());
    turn(&store, 2);
    store
}

/// Blocks made cold are counted apart from evicted ones, by load, batch, take and store.
#[test]
fn cold_blocks_are_counted_by_fate() {
    let store = cold_store();
    let cold = || store.stats().thrash.unwrap().cold;
    assert!(is_sample_of(cold().noted, KEYS) && fates(cold()) == 0, "{:?}", cold());
    let keys: Vec<u64> = (0..KEYS / 4).collect();
    let mut buffers = vec![[0; 4096]; keys.len()];
    assert!(store.load_many(&keys, &mut buffers).into_iter().all(|result| result.is_ok()));
    let asked = |counts: ThrashCounts| counts.reloaded.iter().sum::<u64>();
    assert!(is_sample_of(asked(cold()), KEYS / 4), "{:?}", cold());
    for key in KEYS / 4..KEYS / 2 {
        assert!(store.take_vec(&key).unwrap().is_some());
    }
    assert!(is_sample_of(asked(cold()), KEYS / 2), "{:?}", cold());
    for key in KEYS / 2..KEYS {
        store.store(key, stamped(key, 2, 1200)).unwrap();
    }
    assert!(is_sample_of(cold().removed_unread, KEYS / 2), "{:?}", cold());
    assert_eq!(fates(cold()) + cold().displaced, cold().noted);
    assert_eq!(store.stats().thrash.unwrap().evicted, ThrashCounts::default());
}

/// Conditional operations count as removals if they remove or replace, and never as look-ups.
#[test]
fn conditional_removals_are_counted_by_fate() {
    let store = cold_store();
    let cold = || store.stats().thrash.unwrap().cold;
    for key in 0..KEYS {
        assert_eq!(store.remove_if(&key, |_, _| false), None);
        assert_eq!(store.remove_value_if(&key, |_| true, |_| false), Ok(None));
        assert!(store.store_if(key, "new", |_, _| false).is_ok());
    }
    assert_eq!((fates(cold()), store.len() as u64), (0, KEYS));
    const PART: u64 = KEYS / 5;
    for (part, first) in (0..KEYS).step_by(PART as usize).enumerate() {
        for key in first..first + PART {
            match part {
                0 => assert!(store.remove_if(&key, |_, _| true).is_some()),
                1 => assert!(store.remove_value_if(&key, |_| true, |_| true).unwrap().is_some()),
                2 => assert!(store.store_if(key, "new", |_, _| true).is_ok()),
                _ => break,
            }
        }
        let of_part = |key: &u64| (first..first + PART).contains(key);
        let swept = match part {
            3 => store.remove_where(of_part, |_, _| ()) as u64,
            4 => store.retain(|key, _| !of_part(key)) as u64,
            _ => PART,
        };
        assert_eq!(swept, PART);
        let expected = (part as u64 + 1) * PART;
        assert!(is_sample_of(cold().removed_unread, expected), "{:?}", cold());
    }
    assert_eq!(cold().removed_unread + cold().displaced, cold().noted);
}

/// The meter's bytes are counted, and a store without one has no figures.
#[test]
fn meter_is_counted_and_optional() {
    let [with, without] = [true, false].map(|on| builder().thrash_meter(on).build().unwrap());
    let index_bytes = [&with, &without].map(|store| store.stats().index_bytes);
    assert!(index_bytes[0] >= index_bytes[1] + 4096 * 8);
    assert!(with.stats().thrash.is_some() && without.stats().thrash.is_none());
}
