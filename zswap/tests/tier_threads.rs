//! A store with a tier against maps, on several threads at once, with a background writer, dropped
//! segments, switches, drains and every fault of the backing store (I7).

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::common::{Look, TestRng, block, builder, spec, stamped, unstamp};
use zpool_testing::backing::{BackingCall, BackingFault, FaultyBacking, FaultyCalls};
use zswap::drain::DrainBudget;
use zswap::plugin::BackingCapabilities;
use zswap::tier::{LoadOrTicket, TierPolicy};
use zswap::{AtLimit, Error, Store};

const THREADS: u64 = 3;
const KEYS: usize = 700;
const STEPS: usize = 12_000;
const MIB: usize = 1 << 20;

/// A thread's keys, and what it stored under them: seeds and lengths.
struct Owner {
    store: Store<u64>,
    first: u64,
    model: HashMap<u64, (u64, usize)>,
    rng: TestRng,
    /// Nothing may be lost.
    refuses: bool,
    missed: u64,
}

/// The block of a version: it names its key and version, or is noise.
fn content(key: u64, version: u64, len: usize) -> Vec<u8> {
    if version.is_multiple_of(2) {
        stamped(key, version, len)
    } else {
        block(key ^ version.rotate_left(20), len, Look::Noise)
    }
}

impl Owner {
    fn step(&mut self, version: u64) {
        let key = self.first + self.rng.below(KEYS) as u64;
        match self.rng.below(40) {
            0..14 => {
                let len = match self.rng.below(40) {
                    0 => 9_000,
                    _ => 16 + self.rng.below(4_080),
                };
                match self.store.store(key, content(key, version, len)) {
                    Ok(()) => drop(self.model.insert(key, (version, len))),
                    Err(Error::Full { .. }) if self.refuses => drop(self.model.remove(&key)),
                    Err(error) => panic!("{error}"),
                }
            }
            14..26 => {
                let loaded = self.store.load_vec(&key);
                self.check(key, loaded);
            }
            26..28 => {
                let loaded = self.store.peek_vec(&key);
                self.check(key, loaded);
            }
            28..30 => {
                let mut buffer = vec![0; 9_000];
                let loaded = match self.store.load_or_ticket(&key, &mut buffer).unwrap() {
                    LoadOrTicket::Loaded(len) => Ok(Some(len)),
                    LoadOrTicket::Ticket(ticket) => ticket.read(&mut buffer),
                    _ => Ok(None),
                };
                self.check(key, loaded.map(|len| len.map(|len| buffer[..len].to_vec())));
            }
            30..33 => {
                let taken = self.store.take_vec(&key);
                let failed = taken.is_err();
                self.check(key, taken);
                if !failed {
                    self.model.remove(&key);
                }
            }
            33..36 => {
                let there = self.store.invalidate(&key);
                assert!(!there || self.model.contains_key(&key), "key {key} was removed before");
                assert!(there || !self.refuses || !self.model.contains_key(&key), "lost {key}");
                self.model.remove(&key);
            }
            36 => {
                let Some((version, len)) = self.model.get(&key).copied() else { return };
                let mut part = vec![0; 50];
                match self.store.load_range(&key, len / 2, &mut part) {
                    Ok(Some(loaded)) => {
                        assert_eq!(part[..loaded], content(key, version, len)[len / 2..][..loaded]);
                    }
                    other => assert!(!self.refuses || other.is_err(), "lost {key}"),
                }
            }
            _ => {
                // A key of another thread: any version, but whole.
                let other = (self.rng.next() % THREADS) << 32 | (key & 0xFFFF);
                if let Ok(Some(bytes)) = self.store.load_vec(&other)
                    && bytes.len() < 9_000
                    && bytes.len() >= 16
                    && bytes[..8] == other.to_le_bytes()
                {
                    assert_eq!(unstamp(&bytes).0, other);
                }
            }
        }
    }

    fn check(&mut self, key: u64, loaded: Result<Option<Vec<u8>>, Error>) {
        match loaded {
            Ok(Some(bytes)) => {
                let known = self.model.get(&key).copied();
                let (version, len) = known.unwrap_or_else(|| panic!("key {key} was removed"));
                assert!(bytes == content(key, version, len), "key {key} in version {version}");
            }
            Ok(None) => {
                let lost = self.model.remove(&key).is_some();
                assert!(!lost || !self.refuses, "lost {key}");
                self.missed += u64::from(lost);
            }
            Err(Error::TierFailed(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }

    fn run(mut self) -> Self {
        for step in 0..STEPS {
            self.step(self.first << 1 ^ step as u64);
        }
        self
    }
}

/// Injects one fault after the other until it is told to stop.
fn inject(backing: &FaultyBacking, refuses: bool, over: &AtomicBool) {
    use BackingCall::{Discard, Read, Write};
    use BackingFault::{Failed, FlippedBit, Full, Gone, Panics, Torn};
    let faults = [
        (Read, 7, Failed),
        (Write, 3, Failed),
        (Write, 2, Full),
        (Read, 5, Torn),
        (Write, 3, Torn),
        (Read, 9, Panics),
        (Write, 4, Panics),
        (Discard, 2, Failed),
        (Discard, 3, Panics),
        // These lose blocks. A flipped bit does if both attempts of a reader meet one, because
        // other threads have read four times in between.
        (Read, 5, FlippedBit),
        (Write, 2, FlippedBit),
        (Read, 31, Gone),
        (Write, 5, Gone),
    ];
    let harmless = faults.len() - if refuses { 4 } else { 0 };
    for (call, n, fault) in faults[..harmless].iter().cycle() {
        if over.load(Ordering::Relaxed) {
            break;
        }
        backing.inject(*call, FaultyCalls::EveryNth(*n), *fault);
        std::thread::yield_now();
        // Until the fault has happened a few times, or nothing calls any more.
        let until = backing.faults() + 4;
        while backing.faults() < until && !over.load(Ordering::Relaxed) {
            std::thread::yield_now();
        }
        backing.clear_faults();
    }
}

fn storm(at_limit: AtLimit, segments: u32, with_faults: bool) -> (Store<u64>, u64) {
    let capabilities = BackingCapabilities::new(64 << 10, segments).unwrap();
    let backing = Arc::new(FaultyBacking::in_memory(capabilities.with_alignment(512).unwrap()));
    let refuses = at_limit == AtLimit::Refuse;
    let policy = if refuses { TierPolicy::Refuse } else { TierPolicy::DropOldest };
    let store = builder()
        .spec(spec("zsmalloc+lz4"))
        .limit_bytes(2 * MIB)
        .at_limit(at_limit)
        .tier(backing.clone())
        .tier_policy(policy)
        .build()
        .unwrap();
    let over = AtomicBool::new(false);
    let owners = std::thread::scope(|scope| {
        let owners: Vec<_> = (0..THREADS)
            .map(|thread| {
                let (store, first) = (store.clone(), thread << 32);
                let (rng, model) = (TestRng::new(thread + 1), HashMap::new());
                let owner = Owner { store, first, model, rng, refuses, missed: 0 };
                scope.spawn(|| owner.run())
            })
            .collect();
        let mischief = scope.spawn(|| {
            if with_faults {
                inject(&backing, refuses, &over);
            }
        });
        let switcher = scope.spawn(|| {
            for text in ["zsmalloc+rle", "zbud+lz4", "zsmalloc+lz4"].iter().cycle() {
                if over.load(Ordering::Relaxed) {
                    break;
                }
                store.switch(&spec(text)).unwrap();
                store.drain(DrainBudget::entries(300));
                store.retain(|_, _| true);
                store.trim();
            }
        });
        let owners: Vec<Owner> = owners
            .into_iter()
            .map(|owner| {
                owner.join().unwrap_or_else(|panic| {
                    over.store(true, Ordering::Relaxed);
                    std::panic::resume_unwind(panic)
                })
            })
            .collect();
        over.store(true, Ordering::Relaxed);
        mischief.join().unwrap();
        switcher.join().unwrap();
        owners
    });
    backing.clear_faults();
    let missed = check_all(&store, owners, refuses);
    assert!(!with_faults || backing.faults() > 20);
    (store, missed)
}

/// Checks every block of every owner, and the books. Returns how many blocks were lost.
fn check_all(store: &Store<u64>, owners: Vec<Owner>, refuses: bool) -> u64 {
    let mut missed = 0;
    let mut left = std::collections::HashSet::new();
    for mut owner in owners {
        let keys: Vec<u64> = owner.model.keys().copied().collect();
        for key in keys {
            let loaded = owner.store.peek_vec(&key);
            assert!(loaded.is_ok(), "{loaded:?}");
            owner.check(key, loaded);
        }
        missed += owner.missed;
        left.extend(owner.model.into_keys());
    }
    // The job that writes may still run, and drop a segment.
    assert!(store.keys().all(|key| left.contains(&key)), "a key that was removed is there");
    assert!(!refuses || store.len() == left.len());
    let stats = store.stats();
    let tier = stats.tier.unwrap();
    assert_eq!(stats.free_failed, 0);
    assert!(tier.put > 1_000 && tier.reads > 1_000 && tier.segments_dropped > 20, "{stats}");
    // The books of the tier: when nothing is stored, no record is referred to.
    store.clear();
    let tier = store.stats().tier.unwrap();
    assert_eq!((tier.live_bytes, tier.backed, tier.backed_bytes), (0, 0, 0), "{tier:?}");
    missed
}

/// Blocks may be lost, because segments are dropped. None is wrong.
#[test]
fn storm_with_dropped_segments() {
    let (store, missed) = storm(AtLimit::Evict, 40, false);
    assert!(missed > 0, "{}", store.stats());
}

/// With faults of every kind on top, none is wrong either.
#[test]
fn storm_with_faults() {
    let (store, missed) = storm(AtLimit::Evict, 40, true);
    assert!(missed > 0, "{}", store.stats());
}

/// A tier that refuses loses nothing.
#[test]
fn storm_that_refuses_loses_nothing() {
    let (_, missed) = storm(AtLimit::Refuse, 24, false);
    assert_eq!(missed, 0);
}

/// Not even if writes and reads fail.
#[test]
fn storm_that_refuses_survives_faults() {
    let (_, missed) = storm(AtLimit::Refuse, 24, true);
    assert_eq!(missed, 0);
}
