//! Conditional changes: versions, updates, removals by content.

use std::thread::scope;

use zswap_cache::{Cache, EntryOptions, Version};

fn cache() -> Cache<u64> {
    Cache::builder().build().unwrap()
}

/// A value is replaced if it is the one that was seen, and not otherwise, even if an equal one has
/// been stored in between or its object keeps its handle.
#[test]
fn replace_if_only_replaces_what_was_seen() {
    for value in [vec![7; 4096], b"compressible ".repeat(300), vec![1; 100_000]] {
        let cache = cache();
        cache.insert(1, &value).unwrap();
        let (found, seen) = cache.get_versioned(&1).unwrap().unwrap();
        assert_eq!((&found, cache.version_of(&1)), (&value, Some(seen)));
        cache.insert(1, &value).unwrap();
        assert!(!cache.replace_if(1, seen, "new").unwrap(), "an equal value, but a later one");
        assert_eq!(cache.get(&1).unwrap(), Some(value.clone()));
        let seen = cache.version_of(&1).unwrap();
        assert!(cache.replace_if(1, seen, "new").unwrap());
        assert!(!cache.replace_if(1, seen, "newer").unwrap());
        assert_eq!(cache.get(&1).unwrap().as_deref(), Some(&b"new"[..]));
        let seen = cache.version_of(&1).unwrap();
        assert!(cache.remove(&1));
        assert!(!cache.replace_if(1, seen, "again").unwrap() && cache.is_empty());
        cache.insert(1, "another").unwrap();
        assert!(!cache.replace_if(1, seen, "again").unwrap());
    }
}

/// A replacement that fails removes the value only if it is the one that was seen.
#[test]
fn failed_replacement_removes_what_was_seen() {
    let cache: Cache<u64> = Cache::builder().max_value_len(1 << 14).build().unwrap();
    let long = vec![1; 1 << 15];
    cache.insert(1, "one").unwrap();
    let seen = cache.version_of(&1).unwrap();
    cache.insert(1, "two").unwrap();
    cache.replace_if(1, seen, &long).unwrap_err();
    assert_eq!(cache.get(&1).unwrap().as_deref(), Some(&b"two"[..]));
    let seen = cache.version_of(&1).unwrap();
    cache.replace_if(1, seen, &long).unwrap_err();
    assert!(cache.is_empty());
    cache.insert(1, "three").unwrap();
    cache.insert(1, &long).unwrap_err();
    assert!(cache.is_empty() && cache.stats().invalidated == 2);
}

/// Updates of many threads on few keys lose none.
#[test]
fn concurrent_updates_lose_none() {
    let cache = cache();
    (0..4).for_each(|key| cache.insert(key, [0; 4096]).unwrap());
    scope(|scope| {
        for thread in 0..4u64 {
            let cache = &cache;
            scope.spawn(move || {
                for n in 0..500 {
                    let updated = cache.update(&((thread + n) % 4), |value| {
                        let count = u64::from_le_bytes(value[..8].try_into().unwrap()) + 1;
                        value[..8].copy_from_slice(&count.to_le_bytes());
                    });
                    assert_eq!(updated.unwrap(), Some(()));
                }
            });
        }
    });
    let count = |key| {
        let value = cache.get(&key).unwrap().unwrap();
        u64::from_le_bytes(value[..8].try_into().unwrap())
    };
    assert_eq!((0..4).map(count).sum::<u64>(), 2000);
    assert_eq!(cache.update(&9, |_| ()).unwrap(), None);
}

/// An update keeps expiry and pin, an insert does not.
#[test]
fn update_keeps_pin_insert_does_not() {
    let cache = cache();
    cache.insert_with(1, "pinned", EntryOptions::new().pinned()).unwrap();
    cache.update(&1, |value| value.extend_from_slice(b" and longer")).unwrap();
    assert!(cache.is_pinned(&1));
    assert_eq!(cache.stats().pinned_bytes, "pinned and longer".len());
    cache.insert(1, "not").unwrap();
    assert_eq!((cache.is_pinned(&1), cache.stats().pinned_bytes), (false, 0));
}

/// A value is removed by what is in it, unless another one has replaced it meanwhile.
#[test]
fn remove_if_sees_bytes_and_spares_newer_value() {
    for value in [vec![7; 4096], b"compressible ".repeat(300), vec![1; 100_000]] {
        let cache = cache();
        cache.insert(1, &value).unwrap();
        assert!(!cache.remove_if(&1, |bytes| bytes != value).unwrap());
        let removed = cache.remove_if(&1, |_| {
            cache.insert(1, "newer").unwrap();
            true
        });
        assert!(!removed.unwrap());
        assert_eq!(cache.get(&1).unwrap().as_deref(), Some(&b"newer"[..]));
        assert!(cache.remove_if(&1, |bytes| bytes == b"newer").unwrap());
        assert!(!cache.remove_if(&1, |_| true).unwrap());
    }
}

/// Scans see each value, and retain keeps what its closure accepts.
#[test]
fn scans_see_all_values() {
    let cache = cache();
    let value = |key: u64| key.to_le_bytes().repeat(1 + 700 * (key as usize % 8));
    (0..500).for_each(|key| cache.insert(key, value(key)).unwrap());
    let mut found: Vec<_> = cache.iter().map(Result::unwrap).collect();
    found.sort_unstable();
    assert_eq!(found, (0..500).map(|key| (key, value(key))).collect::<Vec<_>>());
    let mut bytes = 0;
    cache.for_each(|&key, found| bytes += usize::from(found == value(key))).unwrap();
    assert_eq!(bytes, 500);
    assert_eq!(cache.retain(|_, value| value.len() > 8), 63);
    assert_eq!(cache.retain_keys(|key| key % 8 < 4), 248);
    let mut left: Vec<_> = cache.keys().collect();
    left.sort_unstable();
    assert_eq!(left, (0..500).filter(|key| (1..4).contains(&(key % 8))).collect::<Vec<_>>());
    assert_eq!(cache.stats().invalidated, 311);
}

/// Versions are never used twice.
#[test]
fn versions_differ() {
    let cache = cache();
    let mut seen = std::collections::HashSet::<Version>::new();
    for round in 0..100u64 {
        cache.insert(round % 3, "same").unwrap();
        assert!(seen.insert(cache.version_of(&(round % 3)).unwrap()));
    }
}

/// A range of a value is what a slice of it is, for every kind of value.
#[test]
fn ranges_are_slices() {
    let mut noise = zpool_testing::random::TestRng::new(3);
    let values = [
        vec![],
        vec![7; 9000],
        b"12345678".repeat(700),
        b"compressible text ".repeat(400),
        (0..5000).map(|_| noise.next() as u8).collect(),
        (0..100_000u32).flat_map(u32::to_le_bytes).collect(),
    ];
    let cache = cache();
    for (key, value) in values.iter().enumerate() {
        cache.insert(key as u64, value).unwrap();
        for _ in 0..200 {
            let offset = noise.next() as usize % (value.len() + 10);
            let mut buffer = vec![0xAA; noise.next() as usize % 40_000];
            let end = value.len().min(offset.saturating_add(buffer.len()));
            let expected = value.get(offset..end).unwrap_or_default();
            let read = cache.get_range(&(key as u64), offset, &mut buffer).unwrap().unwrap();
            assert_eq!(&buffer[..read], expected, "value {key} from {offset}");
            assert!(buffer[read..].iter().all(|&byte| byte == 0xAA), "no byte beyond");
        }
    }
    assert_eq!(cache.get_range(&99, 0, &mut [0; 8]).unwrap(), None);
    assert_eq!(cache.get_range(&1, usize::MAX, &mut [0; 8]).unwrap(), Some(0));
}
