//! A cache against a map: random operations with a clock, whose results have to agree.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use zswap_cache::{Cache, EntryOptions, ManualTime, Version};

/// An entry of the map.
#[derive(Debug, Clone)]
struct Entry {
    value: Vec<u8>,
    expires: Option<u64>,
    idle: Option<(u64, u64)>,
    version: Version,
}

#[derive(Debug, Clone)]
enum Step {
    Insert(u8, Vec<u8>),
    InsertFor { key: u8, value: Vec<u8>, live: Option<u64>, idle: Option<u64> },
    InsertIfAbsent(u8, Vec<u8>),
    Get(u8),
    GetRange(u8, usize, usize),
    Load(u8, Vec<u8>),
    Update(u8, u8),
    ReplaceSeen(u8, Vec<u8>),
    SetLive(u8, Option<u64>),
    Remove(u8),
    RemoveIfLonger(u8, usize),
    RetainShorter(usize),
    RemoveExpired,
    Clear,
    Advance(u64),
}

const DEFAULT_LIVE: u64 = 50;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    use Step::*;
    let key = 0..6u8;
    let value = prop_oneof![
        (any::<u8>(), 0..9000usize).prop_map(|(byte, len)| vec![byte; len]),
        proptest::collection::vec(any::<u8>(), 0..200),
        (1..2000u32).prop_map(|n| (0..n).flat_map(u32::to_le_bytes).collect()),
    ];
    let time = || prop_oneof![Just(None), (0..80u64).prop_map(Some)];
    let step = prop_oneof![
        4 => (key.clone(), value.clone()).prop_map(|(key, value)| Insert(key, value)),
        3 => (key.clone(), value.clone(), time(), time()).prop_map(|(key, value, live, idle)| {
            InsertFor { key, value, live, idle }
        }),
        2 => (key.clone(), value.clone()).prop_map(|(key, value)| InsertIfAbsent(key, value)),
        5 => key.clone().prop_map(Get),
        3 => (key.clone(), 0..9000usize, 0..9000usize).prop_map(|(key, at, len)| {
            GetRange(key, at, len)
        }),
        3 => (key.clone(), value.clone()).prop_map(|(key, value)| Load(key, value)),
        3 => (key.clone(), any::<u8>()).prop_map(|(key, byte)| Update(key, byte)),
        3 => (key.clone(), value).prop_map(|(key, value)| ReplaceSeen(key, value)),
        2 => (key.clone(), time()).prop_map(|(key, time)| SetLive(key, time)),
        2 => key.clone().prop_map(Remove),
        2 => (key, 0..9000usize).prop_map(|(key, len)| RemoveIfLonger(key, len)),
        1 => (0..9000usize).prop_map(RetainShorter),
        1 => Just(RemoveExpired),
        1 => Just(Clear),
        4 => (0..30u64).prop_map(Advance),
    ];
    proptest::collection::vec(step, 1..80)
}

struct Model {
    entries: HashMap<u8, Entry>,
    now: u64,
    seen: HashMap<u8, Version>,
}

impl Model {
    /// The entry of a key, unless it has expired.
    fn fresh(&mut self, key: u8) -> Option<&mut Entry> {
        let now = self.now;
        self.entries.get_mut(&key).filter(|entry| {
            entry.expires.is_none_or(|at| at > now) && entry.idle.is_none_or(|(_, at)| at > now)
        })
    }

    /// Looks a key up, as a use.
    fn used(&mut self, key: u8) -> Option<Vec<u8>> {
        let now = self.now;
        let entry = self.fresh(key)?;
        if let Some((limit, at)) = &mut entry.idle {
            *at = now + *limit;
        }
        Some(entry.value.clone())
    }

    fn insert(&mut self, cache: &Cache<u8>, key: u8, value: Vec<u8>, times: [Option<u64>; 2]) {
        let version = cache.version_of(&key);
        let [live, idle] = times.map(|time| time.map(|time| time.max(1)));
        let entry = Entry {
            value,
            expires: live.map(|live| self.now + live),
            idle: idle.map(|idle| (idle, self.now + idle)),
            version: version.expect("it was just stored"),
        };
        self.entries.insert(key, entry);
    }

    fn apply(&mut self, cache: &Cache<u8>, time: &ManualTime, step: Step) {
        let defaults = [Some(DEFAULT_LIVE), None];
        match step {
            Step::Insert(key, value) => {
                cache.insert(key, &value).unwrap();
                self.insert(cache, key, value, defaults);
            }
            Step::InsertFor { key, value, live, idle } => {
                let mut options = EntryOptions::new().never_expires();
                if let Some(live) = live {
                    options = options.time_to_live(Duration::from_millis(live));
                }
                if let Some(idle) = idle {
                    options = options.time_to_idle(Duration::from_millis(idle));
                }
                cache.insert_with(key, &value, options).unwrap();
                self.insert(cache, key, value, [live, idle]);
            }
            Step::InsertIfAbsent(key, value) => {
                let absent = self.fresh(key).is_none();
                assert_eq!(cache.insert_if_absent(key, &value).unwrap(), absent);
                if absent {
                    self.insert(cache, key, value, defaults);
                }
            }
            Step::Get(key) => {
                let found = cache.get_versioned(&key).unwrap();
                assert_eq!(found.as_ref().map(|(value, _)| value.clone()), self.used(key));
                if let Some((_, version)) = found {
                    self.seen.insert(key, version);
                }
            }
            Step::GetRange(key, at, len) => {
                let mut buffer = vec![0; len];
                let read = cache.get_range(&key, at, &mut buffer).unwrap();
                let slice = |value: Vec<u8>| value.into_iter().skip(at).take(len).collect();
                let expected: Option<Vec<u8>> = self.used(key).map(slice);
                assert_eq!(read.map(|read| buffer[..read].to_vec()), expected);
            }
            Step::Load(key, value) => {
                let expected = self.used(key);
                let found = cache.get_or_insert_with(&key, || value.clone()).unwrap();
                assert_eq!(found, expected.clone().unwrap_or(value.clone()));
                if expected.is_none() {
                    self.insert(cache, key, value, defaults);
                }
            }
            Step::Update(key, byte) => {
                let expected = self.used(key).map(|mut value| {
                    value.push(byte);
                    value
                });
                let updated = cache.update(&key, |value| value.push(byte)).unwrap();
                assert_eq!(updated.is_some(), expected.is_some());
                if let (Some(value), Some(entry)) = (expected, self.fresh(key)) {
                    (entry.value, entry.version) = (value, cache.version_of(&key).unwrap());
                }
            }
            Step::ReplaceSeen(key, value) => {
                let Some(seen) = self.seen.get(&key).copied() else { return };
                let current = self.fresh(key).is_some_and(|entry| entry.version == seen);
                assert_eq!(cache.replace_if(key, seen, &value).unwrap(), current);
                if current && let Some(entry) = self.fresh(key) {
                    (entry.value, entry.version) = (value, cache.version_of(&key).unwrap());
                }
            }
            Step::SetLive(key, live) => {
                let now = self.now;
                let entry = self.fresh(key);
                let found = cache.set_time_to_live(&key, live.map(Duration::from_millis));
                assert_eq!(found, entry.is_some());
                if let Some(entry) = entry {
                    entry.expires = live.map(|live| now + live.max(1));
                }
            }
            Step::Remove(key) => {
                assert_eq!(cache.remove(&key), self.fresh(key).is_some());
                self.entries.remove(&key);
            }
            Step::RemoveIfLonger(key, len) => {
                let longer = self.fresh(key).is_some_and(|entry| entry.value.len() > len);
                assert_eq!(cache.remove_if(&key, |value| value.len() > len).unwrap(), longer);
                if longer {
                    self.entries.remove(&key);
                }
            }
            Step::RetainShorter(len) => {
                let longer: Vec<u8> = (0..6)
                    .filter(|&key| self.fresh(key).is_some_and(|entry| entry.value.len() >= len))
                    .collect();
                assert_eq!(cache.retain(|_, value| value.len() < len), longer.len());
                longer.iter().for_each(|key| drop(self.entries.remove(key)));
            }
            Step::RemoveExpired => {
                cache.remove_expired();
                let fresh = (0..6).filter(|&key| self.fresh(key).is_some()).count();
                assert_eq!(cache.len(), fresh);
            }
            Step::Clear => {
                cache.clear();
                self.entries.clear();
                assert!(cache.is_empty());
            }
            Step::Advance(millis) => {
                time.advance(Duration::from_millis(millis));
                self.now += millis;
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Whatever is done in whatever order, the cache finds what the map has.
    #[test]
    fn cache_agrees_with_map(steps in steps()) {
        let time = Arc::new(ManualTime::new());
        let cache: Cache<u8> = Cache::builder()
            .time_to_live(Duration::from_millis(DEFAULT_LIVE))
            .manual_time(&time)
            .block_size(1024)
            .build()
            .unwrap();
        let mut model = Model { entries: HashMap::new(), now: 0, seen: HashMap::new() };
        for step in steps {
            model.apply(&cache, &time, step);
            for key in 0..6 {
                let expected = model.fresh(key).map(|entry| entry.value.len());
                prop_assert_eq!(cache.len_of(&key), expected, "key {}", key);
            }
        }
        let mut found: Vec<_> = cache.iter().map(Result::unwrap).collect();
        found.sort();
        let mut expected: Vec<_> = (0..6)
            .filter_map(|key| model.fresh(key).map(|entry| (key, entry.value.clone())))
            .collect();
        expected.sort();
        prop_assert_eq!(found, expected);
    }
}
