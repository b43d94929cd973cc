//! A tier whose backing store fails: nothing is lost that was written, and nothing wrong is
//! returned.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::common::{Look, block, builder, spec};
use zpool_testing::backing::{
    BackingCall, BackingFault, FaultyBacking, FaultyCalls, MemoryBacking,
};
use zswap::plugin::{BackingCapabilities, BackingError, BackingStore, Manual, SegmentNumber};
use zswap::tier::{LostBlocks, Residence, TierPolicy, TierStats};
use zswap::{AtLimit, Error, Store};

const MIB: usize = 1 << 20;
const SEGMENT: usize = 128 << 10;

fn capabilities(segments: u32) -> BackingCapabilities {
    BackingCapabilities::new(SEGMENT, segments).unwrap().with_alignment(512).unwrap()
}

/// A store whose background job does not run, above a backing store that fails on demand.
fn faulty(at_limit: AtLimit, segments: u32) -> (Store<u64>, Arc<FaultyBacking>) {
    over(at_limit, FaultyBacking::in_memory(capabilities(segments)))
}

fn over(at_limit: AtLimit, backing: FaultyBacking) -> (Store<u64>, Arc<FaultyBacking>) {
    let backing = Arc::new(backing);
    let policy = match at_limit {
        AtLimit::Evict => TierPolicy::DropOldest,
        _ => TierPolicy::Refuse,
    };
    let store = builder()
        .spec(spec("zsmalloc+lz4"))
        .executor(Arc::new(Manual::new()))
        .limit_bytes(2 * MIB)
        .at_limit(at_limit)
        .tier(backing.clone())
        .tier_policy(policy);
    (store.build().unwrap(), backing)
}

fn noise(key: u64) -> Vec<u8> {
    block(key, 4096, Look::Noise)
}

fn fill(store: &Store<u64>, keys: std::ops::Range<u64>) {
    keys.for_each(|key| store.store(key, noise(key)).unwrap());
}

fn tier(store: &Store<u64>) -> TierStats {
    store.stats().tier.unwrap()
}

fn backed(store: &Store<u64>) -> Vec<u64> {
    let mut keys: Vec<u64> =
        store.keys().filter(|key| store.tier_of(key) == Some(Residence::Tier)).collect();
    keys.sort_unstable();
    keys
}

/// A write that fails changes nothing, whatever the reason. The next one succeeds.
#[test]
fn failed_write_loses_nothing() {
    let faults =
        [BackingFault::Failed, BackingFault::Full, BackingFault::Torn, BackingFault::Panics];
    for fault in faults {
        let (store, backing) = faulty(AtLimit::Refuse, 256);
        backing.inject(BackingCall::Write, FaultyCalls::EveryNth(2), fault);
        let mut refused = 0;
        for key in 0..3_000 {
            refused += u64::from(store.store(key, noise(key)).is_err());
        }
        let stats = tier(&store);
        assert!(stats.write_errors > 10 && stats.backed > 1_000, "{fault:?}: {stats:?}");
        let full = matches!(fault, BackingFault::Full | BackingFault::Torn);
        assert_eq!((stats.full_errors > 0, stats.is_off), (full, false), "{fault:?}");
        assert_eq!(store.len() as u64, 3_000 - refused);
        for key in store.keys() {
            assert!(store.load_vec(&key).unwrap().unwrap() == noise(key), "{fault:?}: {key}");
        }
    }
}

/// Three failed writes in a row switch the tier off. Then the store evicts or refuses, and blocks
/// in the tier are still read.
#[test]
fn three_failed_writes_switch_the_tier_off() {
    for at_limit in [AtLimit::Evict, AtLimit::Refuse] {
        let (store, backing) = faulty(at_limit, 256);
        fill(&store, 0..1_500);
        let there = backed(&store);
        assert!(there.len() > 500);
        backing.inject(BackingCall::Write, FaultyCalls::Numbered(0..3), BackingFault::Failed);
        let mut refused = 0;
        for key in 2_000..4_000 {
            match store.store(key, noise(key)) {
                Ok(()) => {}
                Err(Error::Full { .. }) => refused += 1,
                Err(error) => panic!("{error}"),
            }
            assert!(store.bytes_held() < 2 * MIB + (256 << 10));
        }
        let stats = store.stats();
        let tier = stats.tier.unwrap();
        assert!(tier.is_off && tier.write_errors == 3, "{tier:?}");
        assert_eq!(
            (refused > 0, stats.evicted > 0),
            match at_limit {
                AtLimit::Evict => (false, true),
                _ => (true, false),
            }
        );
        let read = there.iter().filter(|key| store.load_vec(key).unwrap() == Some(noise(**key)));
        assert!(read.count() > there.len() / 2, "{stats}");
    }
}

/// A bit that is flipped once is read again. One that was written wrong is a miss, its entry goes,
/// and no other bytes are returned.
#[test]
fn flipped_bits_are_found() {
    let (store, backing) = faulty(AtLimit::Evict, 256);
    fill(&store, 0..1_000);
    let keys = backed(&store);
    backing.inject(BackingCall::Read, FaultyCalls::EveryNth(2), BackingFault::FlippedBit);
    for key in &keys {
        assert!(store.peek_vec(key).unwrap().unwrap() == noise(*key));
    }
    assert_eq!(tier(&store).lost.corrupt, 0);
    // Both attempts.
    backing.inject(BackingCall::Read, FaultyCalls::Numbered(0..2), BackingFault::FlippedBit);
    // The bit may be in the part of the window that is not the record's.
    let lost = store.peek_vec(&keys[0]).unwrap();
    assert_eq!(lost.is_none(), store.tier_of(&keys[0]).is_none());
    backing.clear_faults();
    backing.inject(BackingCall::Write, FaultyCalls::EveryNth(1), BackingFault::FlippedBit);
    let before = tier(&store).lost.corrupt;
    fill(&store, 2_000..4_000);
    let mut missed = 0;
    for key in 2_000..4_000 {
        match store.load_vec(&key).unwrap() {
            Some(bytes) => assert!(bytes == noise(key)),
            None => missed += 1,
        }
    }
    let stats = store.stats();
    assert!(missed > 5, "{stats}");
    assert_eq!(stats.tier.unwrap().lost.corrupt - before, missed);
    assert_eq!(stats.entries as u64, stats.stores - stats.evicted);
}

/// A segment that the backing store has lost is a miss for each of its blocks.
#[test]
fn gone_segment_is_a_miss() {
    let (store, backing) = faulty(AtLimit::Evict, 64);
    fill(&store, 0..1_000);
    let keys = backed(&store);
    backing.inject(BackingCall::Read, FaultyCalls::Numbered(0..1), BackingFault::Gone);
    let mut missed = 0;
    for key in &keys {
        let loaded = store.load_vec(key).unwrap();
        missed += usize::from(loaded.is_none());
        assert!(loaded.is_none_or(|bytes| bytes == noise(*key)));
        assert_eq!(store.load_vec(key).unwrap().is_some(), store.contains(key));
    }
    let stats = store.stats();
    let segment = SEGMENT / 4096;
    assert!((segment - 2..=segment).contains(&missed), "{missed}");
    assert_eq!(stats.tier.unwrap().lost.gone, missed as u64);
    assert_eq!((stats.evicted, stats.entries), (missed as u64, 1_000 - missed));
}

/// A read that fails is an error, and what is stored stays.
#[test]
fn failed_read_is_an_error_and_keeps_the_block() {
    for fault in [BackingFault::Failed, BackingFault::Torn, BackingFault::Panics] {
        let (store, backing) = faulty(AtLimit::Refuse, 64);
        fill(&store, 0..1_000);
        let key = backed(&store)[0];
        backing.inject(BackingCall::Read, FaultyCalls::Numbered(0..3), fault);
        assert!(matches!(store.load_vec(&key), Err(Error::TierFailed(_))), "{fault:?}");
        assert!(matches!(store.take_vec(&key), Err(Error::TierFailed(_))), "{fault:?}");
        assert!(matches!(store.peek_vec(&key), Err(Error::TierFailed(_))), "{fault:?}");
        assert!(store.take_vec(&key).unwrap().unwrap() == noise(key));
        assert_eq!((tier(&store).read_errors, store.stats().read_failed), (3, 3));
    }
}

/// A directory that cannot be read costs eviction its order, but leaves no wrong entry: places of a
/// dropped segment are misses.
#[test]
fn unreadable_directory_leaves_only_misses() {
    let (store, backing) = faulty(AtLimit::Evict, 8);
    fill(&store, 0..700);
    // The writer reads nothing but directories here.
    backing.inject(BackingCall::Read, FaultyCalls::EveryNth(1), BackingFault::Failed);
    fill(&store, 1_000..3_000);
    backing.clear_faults();
    let mut missed = 0;
    for key in (0..700).chain(1_000..3_000) {
        match store.load_vec(&key).unwrap() {
            Some(bytes) => assert!(bytes == noise(key)),
            None => missed += 1,
        }
    }
    let stats = store.stats();
    assert_eq!((stats.tier.unwrap().lost.dropped, stats.evicted), (missed, missed));
    assert_eq!(stats.entries as u64, 2_700 - missed);
}

/// A tier that refuses and whose segments cannot be compacted for a while is full, and loses
/// nothing.
#[test]
#[cfg_attr(debug_assertions, ignore = "takes long; CI runs it optimized")]
fn refusing_tier_survives_faults_of_compaction() {
    let faults =
        [BackingFault::Failed, BackingFault::FlippedBit, BackingFault::Torn, BackingFault::Panics];
    for fault in faults {
        let (store, backing) = faulty(AtLimit::Refuse, 12);
        let mut model = std::collections::BTreeSet::new();
        for key in 0..6_000 {
            if key % 500 == 250 {
                backing.inject(BackingCall::Read, FaultyCalls::EveryNth(2), fault);
            } else if key % 500 == 0 {
                backing.clear_faults();
                for key in &model {
                    assert!(store.peek_vec(key).unwrap().unwrap() == noise(*key), "{fault:?}");
                }
            }
            if store.store(key, noise(key)).is_ok() {
                model.insert(key);
            }
            if key % 2 == 0
                && let Some(oldest) = model.pop_first()
            {
                assert!(store.invalidate(&oldest), "{fault:?}: {oldest}");
            }
        }
        let stats = store.stats();
        assert!(stats.rejected.full > 0 && stats.evicted == 0, "{fault:?}: {stats}");
        assert!(stats.tier.unwrap().carried > 0, "{fault:?}: {stats}");
        assert_eq!(store.len(), model.len());
    }
}

/// Damages the first records of a segment that is read as a whole, and then has lost the segment.
#[derive(Debug)]
struct LosingBacking {
    inner: MemoryBacking,
    /// 2: the next whole read is damaged. 1: the next read fails. 0: no fault.
    left: AtomicUsize,
}

impl BackingStore for LosingBacking {
    fn capabilities(&self) -> BackingCapabilities {
        self.inner.capabilities()
    }

    fn write(&self, segment: SegmentNumber, bytes: &[u8]) -> Result<(), BackingError> {
        self.inner.write(segment, bytes)
    }

    fn read(
        &self,
        segment: SegmentNumber,
        offset: usize,
        into: &mut [u8],
    ) -> Result<(), BackingError> {
        self.inner.read(segment, offset, into)?;
        match self.left.load(Ordering::Relaxed) {
            2 if into.len() > SEGMENT / 2 => {
                (0..8).for_each(|record| into[record * 4096 + 600] ^= 1);
                self.left.store(1, Ordering::Relaxed);
            }
            1 => {
                self.left.store(0, Ordering::Relaxed);
                return Err(BackingError::Gone);
            }
            _ => {}
        }
        Ok(())
    }

    fn discard(&self, segment: SegmentNumber) -> Result<(), BackingError> {
        self.inner.discard(segment)
    }
}

/// A block that the medium has lost counts as gone, and not as corrupt, if compaction finds that.
#[test]
fn compaction_counts_lost_block_as_gone() {
    let inner = MemoryBacking::new(capabilities(12));
    let backing = Arc::new(LosingBacking { inner, left: AtomicUsize::new(0) });
    let builder = builder().spec(spec("zsmalloc+lz4")).executor(Arc::new(Manual::new()));
    let builder = builder.limit_bytes(2 * MIB).at_limit(AtLimit::Refuse);
    let builder = builder.tier(backing.clone()).tier_policy(TierPolicy::Refuse);
    let store = builder.build().unwrap();
    let stored = (0..).take_while(|&key| store.store(key, noise(key)).is_ok()).count() as u64;
    (0..stored).step_by(3).for_each(|key| assert!(store.invalidate(&key)));
    backing.left.store(2, Ordering::Relaxed);
    let mut next = stored;
    while backing.left.load(Ordering::Relaxed) > 0 && next < 2 * stored {
        let _ = store.store(next, noise(next));
        next += 1;
    }
    let LostBlocks { dropped, gone, corrupt, .. } = tier(&store).lost;
    assert_eq!((dropped, gone, corrupt), (0, 1, 0));
}

/// B28: an entry that is removed, and a store that is cleared, while their blocks are being
/// written. The write changes nothing of that, and the drop of the last clone waits for it.
#[test]
fn b28_removal_during_a_write_wins() {
    let (store, backing) = faulty(AtLimit::Evict, 64);
    fill(&store, 0..300);
    backing.inject(BackingCall::Write, FaultyCalls::Numbered(0..1), BackingFault::Stalled);
    let writer = store.clone();
    let thread = std::thread::spawn(move || fill(&writer, 300..600));
    backing.wait_until_stalled(1);
    // Every block is readable meanwhile, and may be replaced or removed.
    for key in 0..100 {
        assert!(store.load_vec(&key).unwrap().unwrap() == noise(key));
        assert!(store.invalidate(&key));
    }
    for key in 100..200 {
        store.store(key, [key as u8; 100]).unwrap();
    }
    backing.release();
    thread.join().unwrap();
    assert!(tier(&store).changed > 0, "{}", store.stats());
    for key in 0..600 {
        let expected = match key {
            0..100 => None,
            100..200 => Some(vec![key as u8; 100]),
            _ => Some(noise(key)),
        };
        assert!(store.load_vec(&key).unwrap() == expected, "key {key}");
    }
    backing.inject(BackingCall::Write, FaultyCalls::Numbered(0..1), BackingFault::Stalled);
    let writer = store.clone();
    let thread = std::thread::spawn(move || fill(&writer, 1_000..1_500));
    backing.wait_until_stalled(1);
    store.clear();
    assert_eq!(tier(&store).backed, 0);
    drop(store);
    backing.release();
    thread.join().unwrap();
    assert_eq!(Arc::strong_count(&backing), 1, "the last clone has gone, and the tier with it");
}

/// B21: a block that is replaced while its older version is written is never overwritten by that,
/// however often its segment is reused.
#[test]
fn b21_older_block_never_replaces_newer() {
    let (store, _) = faulty(AtLimit::Evict, 4);
    for version in 0..20u64 {
        for key in 0..800u64 {
            let stored = key | version << 32;
            store.store(key, noise(stored)).unwrap();
            let other = (key * 7) % 800;
            let latest = if other <= key { version } else { version.saturating_sub(1) };
            if let Some(bytes) = store.load_vec(&other).unwrap() {
                assert!(bytes == noise(other | latest << 32), "key {other} in {version}");
            }
        }
    }
    assert!(tier(&store).segments_dropped > 100);
}

/// A load that is under way while its segment is dropped looks again, and misses. It never returns
/// bytes of the segment that was written in its place.
#[test]
fn load_during_drop_never_returns_other_bytes() {
    let (store, backing) = faulty(AtLimit::Evict, 3);
    fill(&store, 0..600);
    let key = backed(&store)[0];
    backing.inject(BackingCall::Read, FaultyCalls::Numbered(0..1), BackingFault::Stalled);
    let reader = store.clone();
    let thread = std::thread::spawn(move || reader.load_vec(&key).unwrap());
    backing.wait_until_stalled(1);
    fill(&store, 1_000..2_000);
    backing.release();
    assert!(thread.join().unwrap().is_none_or(|bytes| bytes == noise(key)));
    assert_eq!(store.load_vec(&key).unwrap(), None);
    assert!(tier(&store).segments_dropped > 10);
}

/// A backing store that reads whole segments only, and one without any alignment.
#[test]
fn properties_of_all_kinds_work() {
    let whole = capabilities(32).without_partial_reads();
    let plain = BackingCapabilities::new(100_000, 32).unwrap();
    let long = BackingCapabilities::new(5 << 18, 8).unwrap().with_alignment(4096).unwrap();
    for capabilities in [whole, plain, long] {
        let (store, _) = over(AtLimit::Evict, FaultyBacking::in_memory(capabilities));
        let keys = 900;
        fill(&store, 0..keys);
        for key in 0..keys {
            assert!(store.load_vec(&key).unwrap().unwrap() == noise(key), "{capabilities:?}");
        }
        assert!(tier(&store).reads > 100, "{capabilities:?}");
    }
}
