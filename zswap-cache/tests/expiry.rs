//! Time to live and time to idle, by a clock that the tests move.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use zpool_testing::random::TestRng;
use zswap_cache::{Cache, CacheBuilder, EntryOptions, ManualTime, RemovalCause};

const SECOND: Duration = Duration::from_secs(1);

fn timed() -> (CacheBuilder<u64>, Arc<ManualTime>) {
    let time = Arc::new(ManualTime::new());
    (Cache::builder().manual_time(&time), time)
}

/// An entry is there until its time to live is over, to the millisecond, however it is used.
#[test]
fn time_to_live_ends_exactly() {
    let (builder, time) = timed();
    let cache = builder.time_to_live(10 * SECOND).build().unwrap();
    cache.insert(1, "one").unwrap();
    time.advance(10 * SECOND - Duration::from_millis(1));
    assert_eq!(cache.get(&1).unwrap().as_deref(), Some(&b"one"[..]));
    assert_eq!(cache.expires_in(&1), Some(Some(Duration::from_millis(1))));
    time.advance(Duration::from_millis(1));
    assert_eq!((cache.contains(&1), cache.len_of(&1), cache.expires_in(&1)), (false, None, None));
    assert_eq!((cache.len(), cache.stats().expired), (1, 0), "it still takes up memory");
    assert_eq!(cache.get(&1).unwrap(), None);
    assert_eq!((cache.len(), cache.stats().expired), (0, 1), "a look-up removes it");
}

/// Each look-up that is a use begins the time to idle anew; others do not.
#[test]
fn time_to_idle_begins_anew_with_use() {
    let (builder, time) = timed();
    let cache = builder.time_to_idle(10 * SECOND).build().unwrap();
    cache.insert(1, "one").unwrap();
    for _ in 0..5 {
        time.advance(9 * SECOND);
        assert!(cache.get_with(&1, <[u8]>::len).unwrap() == Some(3));
    }
    time.advance(9 * SECOND);
    assert!(cache.contains(&1) && cache.iter().count() == 1, "no uses");
    time.advance(SECOND);
    assert!(!cache.contains(&1) && cache.iter().count() == 0);
}

/// Settings of an entry win over those of the cache, and can be changed.
#[test]
fn entry_times_win_over_cache_times() {
    let (builder, time) = timed();
    let cache = builder.time_to_live(10 * SECOND).build().unwrap();
    cache.insert_with(1, "short", EntryOptions::new().time_to_live(SECOND)).unwrap();
    cache.insert_with(2, "for ever", EntryOptions::new().never_expires()).unwrap();
    cache.insert_with(3, "idle", EntryOptions::new().time_to_idle(2 * SECOND)).unwrap();
    cache.insert(4, "changed").unwrap();
    assert!(cache.set_time_to_live(&4, None) && cache.set_time_to_idle(&4, Some(20 * SECOND)));
    assert!(!cache.set_time_to_live(&5, None));
    let there = |time: u64| -> Vec<u64> {
        let mut keys: Vec<u64> = cache.keys().collect();
        keys.sort_unstable();
        assert!(keys.iter().all(|key| cache.contains(key)), "after {time} s");
        keys
    };
    assert_eq!(there(0), [1, 2, 3, 4]);
    time.advance(SECOND);
    assert_eq!(there(1), [2, 3, 4]);
    time.advance(SECOND);
    assert_eq!(there(2), [2, 4]);
    time.advance(17 * SECOND);
    assert_eq!(there(19), [2, 4]);
    time.advance(SECOND);
    assert_eq!(there(20), [2]);
    assert_eq!(cache.expires_in(&2), Some(None));
    assert_eq!((cache.remove_expired(), cache.len()), (3, 1));
}

/// An insert begins both times anew; so an entry that has expired is replaced as such.
#[test]
fn insert_over_expired_reports_expiry() {
    let causes = Arc::new(Mutex::new(Vec::new()));
    let (builder, time) = timed();
    let seen = causes.clone();
    let cache = builder
        .time_to_live(SECOND)
        .on_removal(move |key, _, cause| seen.lock().unwrap().push((*key, cause)))
        .build()
        .unwrap();
    cache.insert(1, "a").unwrap();
    cache.insert(1, "b").unwrap();
    assert!(!cache.insert_if_absent(1, "c").unwrap());
    time.advance(SECOND);
    assert!(cache.insert_if_absent(1, "d").unwrap());
    time.advance(SECOND);
    assert!(!cache.remove(&1), "it had expired");
    let expired = (1, RemovalCause::Expired);
    assert_eq!(*causes.lock().unwrap(), [(1, RemovalCause::Replaced), expired, expired]);
}

/// A value that has expired is computed again.
#[test]
fn expired_value_is_loaded_again() {
    let (builder, time) = timed();
    let cache = builder.time_to_live(SECOND).build().unwrap();
    for round in 0..3 {
        for _ in 0..3 {
            let value = cache.get_or_insert_with(&1, || vec![round; 100]).unwrap();
            assert_eq!(value, [round; 100]);
        }
        time.advance(SECOND);
    }
    assert_eq!((cache.stats().loads, cache.stats().expired), (3, 2));
}

/// In a full cache the clock takes what has expired, however warm it is, and cools the rest.
#[test]
fn full_cache_evicts_expired_at_once() {
    let (builder, time) = timed();
    let cache = builder.limit_bytes(3 << 20).build().unwrap();
    let mut rng = TestRng::new(1);
    let mut noise = || (0..4096).map(|_| rng.next() as u8).collect::<Vec<u8>>();
    for key in 0..200 {
        let short = EntryOptions::new().time_to_live(SECOND);
        cache.insert_with(key, noise(), short).unwrap();
        cache.insert(1000 + key, noise()).unwrap();
        for key in [key, 1000 + key] {
            (0..3).for_each(|_| assert!(cache.get(&key).unwrap().is_some()));
        }
    }
    let before = cache.stats();
    assert_eq!((before.evicted, before.expired), (0, 0), "there is room so far");
    time.advance(SECOND);
    for key in 2000.. {
        cache.insert(key, noise()).unwrap();
        let stats = cache.stats();
        if stats.expired > 100 {
            break;
        }
        assert!(key < 10_000, "{stats:?}");
    }
    let warm = (1000..1200).filter(|key| cache.contains(key)).count();
    assert!(warm > 150, "{warm} of 200 that are used are left");
}

/// Caches whose entries do not expire never read the clock.
#[test]
fn entries_without_times_never_expire() {
    let (builder, time) = timed();
    let cache = builder.build().unwrap();
    cache.insert(1, "one").unwrap();
    time.advance(Duration::from_secs(u32::MAX.into()));
    assert!(cache.get(&1).unwrap().is_some() && cache.remove_expired() == 0);
    // With the first that does, the others stay as they are.
    cache.insert_with(2, "two", EntryOptions::new().time_to_live(SECOND)).unwrap();
    time.advance(SECOND);
    assert_eq!((cache.remove_expired(), cache.contains(&1)), (1, true));
}
