//! The tier below memory: what goes there, what comes back, and what it costs.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use crate::common::{Look, block, builder, spec, stamped, unstamp};
use zpool_testing::backing::MemoryBacking;
use zswap::conditional::EvictionAdvice;
use zswap::plugin::{BackingCapabilities, Manual, NoBlock};
use zswap::tier::{LoadOrTicket, LostBlocks, Residence, TierPolicy};
use zswap::{AtLimit, BuildError, Error, Store, StoreBuilder};

const MIB: usize = 1 << 20;

/// Bytes of a segment here.
const SEGMENT: usize = 128 << 10;

fn memory(segments: u32) -> Arc<MemoryBacking> {
    let capabilities = BackingCapabilities::new(SEGMENT, segments).unwrap();
    Arc::new(MemoryBacking::new(capabilities.with_alignment(512).unwrap()))
}

/// A store whose background job does not run, so that storing threads write.
fn tiered(limit: usize, segments: u32) -> StoreBuilder<u64> {
    builder()
        .spec(spec("zsmalloc+lz4"))
        .executor(Arc::new(Manual::new()))
        .limit_bytes(limit)
        .at_limit(AtLimit::Evict)
        .tier(memory(segments))
}

fn refusing(limit: usize, segments: u32) -> StoreBuilder<u64> {
    tiered(limit, segments).at_limit(AtLimit::Refuse).tier_policy(TierPolicy::Refuse)
}

/// The books of an idle store with a tier.
fn check_books(store: &Store<u64>) {
    let stats = store.stats();
    let tier = stats.tier.unwrap();
    let in_memory = stats.stored_compressed + stats.stored_raw + stats.same_filled;
    assert_eq!(stats.entries, in_memory + stats.large_values + tier.backed);
    assert_eq!((stats.entries, stats.free_failed), (store.len(), 0));
    assert_eq!(store.keys().count(), stats.entries);
    let backed = store.keys().filter(|key| store.tier_of(key) == Some(Residence::Tier));
    assert_eq!(backed.count(), tier.backed);
    assert!(tier.live_bytes >= tier.backed_bytes, "{tier:?}");
}

/// A segment with room for more blocks than there are has each of them once.
#[test]
fn no_block_is_staged_twice() {
    let store = tiered(4 * MIB, 8).build().unwrap();
    (0..10).for_each(|key| store.store(key, block(key, 4096, Look::Noise)).unwrap());
    assert!(store.write_back() > 0);
    let tier = store.stats().tier.unwrap();
    assert_eq!((tier.put, tier.changed, tier.backed), (10, 0, 10));
    assert!(tier.bytes_written < 50_000, "ten blocks of 4096 bytes: {tier:?}");
    check_books(&store);
}

/// Reads and writes of the tier are timed if the builder asks for it.
#[test]
fn tier_has_latencies_of_its_own() {
    let store = tiered(4 * MIB, 8).latency_histograms(true).build().unwrap();
    (0..10).for_each(|key| store.store(key, block(key, 4096, Look::Noise)).unwrap());
    assert!(store.write_back() > 0);
    assert!(store.load_vec(&3).unwrap().is_some());
    let tier = store.stats().tier.unwrap();
    let calls = [tier.write_latency, tier.read_latency].map(|latency| latency.unwrap().calls);
    assert_eq!(calls, [1, 1]);
}

/// Four times as many blocks as fit are all there, and the store stays within its limit.
#[test]
fn tier_keeps_what_memory_cannot() {
    for text in ["zsmalloc+lz4", "zbud+lz4", "reference+rle"] {
        let store = tiered(4 * MIB, 512).spec(spec(text)).build().unwrap();
        for key in 0..8_000 {
            store.store(key, stamped(key, 1, 4096)).unwrap();
            assert!(store.bytes_held() < 4 * MIB + (256 << 10), "{text}");
        }
        let stats = store.stats();
        let tier = stats.tier.unwrap();
        assert!(tier.backed > 1000, "{text}: {stats}");
        assert_eq!((stats.entries, stats.evicted, stats.rejected.total()), (8_000, 0, 0));
        check_books(&store);
        for key in 0..8_000 {
            assert_eq!(unstamp(&store.load_vec(&key).unwrap().unwrap()), (key, 1));
        }
        check_books(&store);
        store.clear();
        assert_eq!(store.stats().tier.unwrap().live_bytes, 0);
    }
}

/// A store whose data does not compress at all stays within its limit as well.
#[test]
fn incompressible_blocks_stay_within_limit() {
    let store = tiered(4 * MIB, 256).build().unwrap();
    for key in 0..4_000 {
        store.store(key, block(key, 4096, Look::Noise)).unwrap();
        assert!(store.bytes_held() < 4 * MIB + (256 << 10));
    }
    assert_eq!((store.len(), store.stats().evicted), (4_000, 0));
    for key in 0..4_000 {
        assert!(store.load_vec(&key).unwrap().unwrap() == block(key, 4096, Look::Noise));
    }
    check_books(&store);
}

/// A full tier drops its oldest segments: their blocks are misses, the listener hears of each, and
/// the others are right.
#[test]
fn full_tier_drops_oldest_and_tells_listener() {
    let evicted = Arc::new(Mutex::new(Vec::new()));
    let told = evicted.clone();
    let store = tiered(2 * MIB, 8).on_evict(move |key, len| told.lock().unwrap().push((*key, len)));
    let store = store.build().unwrap();
    for key in 0..6_000 {
        store.store(key, block(key, 4096, Look::Noise)).unwrap();
    }
    let stats = store.stats();
    let tier = stats.tier.unwrap();
    let evicted = evicted.lock().unwrap();
    assert!(evicted.len() > 3_000, "{stats}");
    assert_eq!(evicted.len() as u64, stats.evicted);
    assert_eq!((tier.lost.dropped, stats.entries), (stats.evicted, 6_000 - evicted.len()));
    assert!(tier.segments_used == 7 && tier.backed > 100, "{tier:?}");
    for key in 0..6_000 {
        let gone = evicted.contains(&(key, 4096));
        let loaded = store.load_vec(&key).unwrap();
        assert_eq!(loaded.is_none(), gone, "key {key}");
        assert!(loaded.is_none_or(|bytes| bytes == block(key, 4096, Look::Noise)));
    }
    check_books(&store);
}

/// Blocks of the oldest segment that were loaded are carried over instead of evicted.
#[test]
fn loaded_blocks_are_carried_over() {
    let store = tiered(2 * MIB, 8).build().unwrap();
    let mut lost = 0;
    for key in 0..4_000u64 {
        store.store(key, block(key, 4096, Look::Noise)).unwrap();
        // Once each, when many of that age are in the tier and about to be dropped.
        if let Some(older) = key.checked_sub(600) {
            let loaded = store.load_vec(&older).unwrap();
            lost += usize::from(loaded.is_none());
            assert!(loaded.is_none_or(|bytes| bytes == block(older, 4096, Look::Noise)));
        }
    }
    let tier = store.stats().tier.unwrap();
    assert!(tier.carried > 20 && tier.lost.dropped as usize > lost, "{lost} lost, {tier:?}");
    check_books(&store);
}

/// A block in the tier that is evicted because it became worthless is not lost: its segment is
/// still there.
#[test]
fn worthless_backed_block_is_not_lost() {
    let worthless = Arc::new(AtomicBool::new(false));
    let advised = worthless.clone();
    let advise = move |key: &u64| match advised.load(Ordering::Relaxed) && *key < 5 {
        true => EvictionAdvice::AtOnce,
        false => EvictionAdvice::ByUse,
    };
    let store = tiered(4 * MIB, 8).eviction_advice(advise).build().unwrap();
    (0..10).for_each(|key| store.store(key, block(key, 4096, Look::Noise)).unwrap());
    assert!(store.write_back() > 0);
    worthless.store(true, Ordering::Relaxed);
    // The hand visits only shards that have a block in memory.
    (10..500).for_each(|key| store.store(key, block(key, 100, Look::Noise)).unwrap());
    assert!(store.write_back() > 0);
    let stats = store.stats();
    assert_eq!((stats.evicted, store.len()), (5, 495));
    assert_eq!(stats.tier.unwrap().lost, LostBlocks::default());
    check_books(&store);
}

/// A tier that refuses loses nothing: it compacts, then the store is full, and what is removed
/// makes room.
#[test]
fn refusing_tier_compacts_and_loses_nothing() {
    let store = refusing(2 * MIB, 16).build().unwrap();
    let mut stored = Vec::new();
    let mut next = 0;
    let mut fill = |stored: &mut Vec<u64>| {
        loop {
            let key = next;
            next += 1;
            match store.store(key, block(key, 4096, Look::Noise)) {
                Ok(()) => stored.push(key),
                Err(Error::Full { .. }) => break,
                Err(error) => panic!("{error}"),
            }
        }
    };
    fill(&mut stored);
    let first = stored.len();
    assert!(first > 700, "{}", store.stats());
    let check = |stored: &[u64]| {
        for key in stored {
            let loaded = store.peek_vec(key).unwrap();
            assert!(loaded.unwrap() == block(*key, 4096, Look::Noise), "key {key}");
        }
    };
    check(&stored);
    for round in 0..4 {
        let gone: Vec<u64> = stored.iter().copied().skip(round).step_by(3).collect();
        gone.iter().for_each(|key| assert!(store.invalidate(key)));
        stored.retain(|key| !gone.contains(key));
        fill(&mut stored);
        check(&stored);
    }
    let stats = store.stats();
    let tier = stats.tier.unwrap();
    assert!(tier.carried > 0, "{tier:?}");
    assert_eq!((stats.entries, stats.evicted), (stored.len(), 0));
    assert!(stored.len() > first * 9 / 10, "{first} at first, {} now", stored.len());
    check_books(&store);
}

/// The second load of a block within a turn returns it to memory, and it goes back without a
/// write. A changed block does not.
#[test]
fn second_load_readmits_and_keeps_a_clean_copy() {
    let store = tiered(4 * MIB, 512).build().unwrap();
    for key in 0..1_500 {
        store.store(key, block(key, 4096, Look::Noise)).unwrap();
    }
    let backed: Vec<u64> =
        (0..1_500).filter(|key| store.tier_of(key) == Some(Residence::Tier)).collect();
    (0..1_500).filter(|key| !backed.contains(key)).take(400).for_each(|key| {
        store.invalidate(&key);
    });
    for key in &backed[..100] {
        for _ in 0..2 {
            assert!(store.load_vec(key).unwrap().unwrap() == block(*key, 4096, Look::Noise));
        }
        assert_eq!(store.tier_of(key), Some(Residence::Memory), "{}", store.stats());
    }
    assert_eq!(store.stats().tier.unwrap().readmitted, 100);
    // Half of them change.
    for key in &backed[..50] {
        store.store(*key, block(key + 1_000_000, 4096, Look::Noise)).unwrap();
    }
    // The hand has to pass three times, which takes about twice as many blocks as fit each.
    for key in 10_000..20_000 {
        store.store(key, block(key, 4096, Look::Noise)).unwrap();
    }
    let tier = store.stats().tier.unwrap();
    assert!(tier.put_clean > 0 && tier.put_clean <= 50, "{tier:?}");
    for (n, key) in backed.iter().enumerate() {
        let seed = if n < 50 { key + 1_000_000 } else { *key };
        assert!(store.load_vec(key).unwrap().unwrap() == block(seed, 4096, Look::Noise));
    }
    check_books(&store);
}

/// Every operation that reads does the right thing with a block in the tier.
#[test]
fn all_operations_work_on_backed_blocks() {
    let store = tiered(2 * MIB, 256).build().unwrap();
    (0..4_000).for_each(|key| store.store(key, stamped(key, 1, 4096)).unwrap());
    (4_000..5_000).for_each(|key| store.store(key, block(key, 4096, Look::Noise)).unwrap());
    let backed: Vec<u64> =
        (0..4_000).filter(|key| store.tier_of(key) == Some(Residence::Tier)).collect();
    let raw = (4_000..5_000)
        .find(|key| store.tier_of(key) == Some(Residence::Tier))
        .expect("one of them");
    let [a, b, c, d, e, f] = backed[..6] else { panic!("{}", store.stats()) };
    assert!(store.contains(&a) && store.len_of(&a) == Some(4096));
    let whole = stamped(a, 1, 4096);
    let mut part = [0; 100];
    assert_eq!(store.load_range(&a, 1000, &mut part).unwrap(), Some(100));
    assert_eq!(part, whole[1000..1100]);
    assert_eq!(store.load_range(&raw, 1000, &mut part).unwrap(), Some(100));
    assert_eq!(part, block(raw, 4096, Look::Noise)[1000..1100]);
    assert_eq!(store.peek_vec(&a).unwrap().unwrap(), whole);
    assert!(store.load_with(&a, |bytes| bytes == whole).unwrap().unwrap());
    let mut exported = Vec::new();
    store.export(&b, |form| exported.push(format!("{form:?}"))).unwrap();
    assert!(exported[0].starts_with("Compressed"), "{}", exported[0]);
    let mut buffers = vec![[0; 4096]; 2];
    for (loaded, buffer) in store.load_many(&[c, 4_999], &mut buffers).into_iter().zip([c, 4_999]) {
        assert_eq!(loaded.unwrap(), Some(4096), "key {buffer}");
    }
    assert_eq!(unstamp(&buffers[0]), (c, 1));
    let short = &mut [0; 10][..];
    assert!(matches!(store.load(&d, short), Err(Error::BufferTooSmall { needed: 4096, .. })));
    let removed = store.remove_value_if(&d, |_| true, |bytes| unstamp(bytes) == (d, 1));
    assert_eq!(removed.unwrap(), Some((d, 4096)));
    assert_eq!(unstamp(&store.take_vec(&e).unwrap().unwrap()), (e, 1));
    assert_eq!((store.take_vec(&e).unwrap(), store.contains(&e)), (None, false));
    store.store(f, stamped(f, 2, 4096)).unwrap();
    assert_eq!(unstamp(&store.load_vec(&f).unwrap().unwrap()), (f, 2));
    let before = store.len();
    let removed = store.retain(|key, len| len == 4096 && key % 2 == 0);
    assert_eq!(store.len(), before - removed);
    assert!(store.sample(20).unwrap().len() == 20);
    check_books(&store);
    assert_eq!(store.stats().tier.unwrap().lost, Default::default());
}

/// Same-filled blocks and values of several blocks stay in memory.
#[test]
fn same_filled_and_large_values_stay() {
    let store = refusing(4 * MIB, 256).max_value_len(1 << 16).build().unwrap();
    (0..20).for_each(|key| store.store(key, stamped(key, 1, 20_000)).unwrap());
    (20..40).for_each(|key| store.store(key, [7; 4096]).unwrap());
    (100..2_000).for_each(|key| store.store(key, block(key, 4096, Look::Noise)).unwrap());
    assert!(store.stats().tier.unwrap().backed > 500);
    assert!((0..40).all(|key| store.tier_of(&key) == Some(Residence::Memory)));
    (0..20).for_each(|key| assert_eq!(unstamp(&store.load_vec(&key).unwrap().unwrap()), (key, 1)));
    check_books(&store);
}

/// In a no-block section, a load of a block in the tier would block, and nothing changes. A ticket
/// is read elsewhere.
#[test]
fn no_block_section_and_ticket() {
    let store = tiered(2 * MIB, 64).build().unwrap();
    (0..1_000).for_each(|key| store.store(key, block(key, 4096, Look::Noise)).unwrap());
    let backed = (0..1_000).find(|key| store.tier_of(key) == Some(Residence::Tier)).unwrap();
    let counts = || {
        let stats = store.stats();
        (stats.loads_hit, stats.loads_missed, stats.taken, stats.peeks_hit, stats.entries)
    };
    let before = counts();
    let mut buffer = vec![0; 4096];
    {
        let _section = NoBlock::enter();
        assert_eq!(store.load(&backed, &mut buffer), Err(Error::WouldBlock));
        assert_eq!(store.take(&backed, &mut buffer), Err(Error::WouldBlock));
        assert_eq!(store.peek(&backed, &mut buffer), Err(Error::WouldBlock));
        assert!(store.contains(&backed));
    }
    assert_eq!(counts(), before);
    match store.load_or_ticket(&backed, &mut buffer).unwrap() {
        LoadOrTicket::Ticket(ticket) => {
            assert_eq!(*ticket.key(), backed);
            let read = std::thread::spawn(move || {
                let mut buffer = vec![0; 4096];
                ticket.read(&mut buffer).unwrap().map(|len| buffer[..len].to_vec())
            });
            assert!(read.join().unwrap().unwrap() == block(backed, 4096, Look::Noise));
        }
        other => panic!("{other:?}"),
    }
    let here = (0..1_000).find(|key| store.tier_of(key) == Some(Residence::Memory)).unwrap();
    assert!(matches!(
        store.load_or_ticket(&here, &mut buffer).unwrap(),
        LoadOrTicket::Loaded(4096)
    ));
    let nothing = store.load_or_ticket(&77_777, &mut buffer).unwrap();
    assert!(matches!(nothing, LoadOrTicket::Nothing));
    // Invalidation is legal there, and touches the index only.
    let _section = NoBlock::enter();
    assert!(store.invalidate(&backed));
}

/// A retired pool does not live as long as its blocks in the tier; its codec does, and no longer.
#[test]
fn retired_pool_goes_and_its_codec_stays() {
    let store = tiered(2 * MIB, 256).spec(spec("zsmalloc+rle")).build().unwrap();
    (0..9_000).for_each(|key| store.store(key, stamped(key, 1, 4096)).unwrap());
    store.switch(&spec("zsmalloc+lz4")).unwrap();
    let backed: Vec<u64> =
        (0..9_000).filter(|key| store.tier_of(key) == Some(Residence::Tier)).collect();
    assert!(backed.len() > 1_000, "{}", store.stats());
    let here = (0..9_000).filter(|key| store.tier_of(key) == Some(Residence::Memory));
    here.for_each(|key| assert!(store.invalidate(&key)));
    store.manager().flush().unwrap();
    assert_eq!(store.stats().manager.pools_alive, 1, "{}", store.stats());
    assert_eq!(store.stats().tier.unwrap().codecs, 1);
    for key in &backed {
        assert_eq!(unstamp(&store.load_vec(key).unwrap().unwrap()), (*key, 1));
    }
    backed.iter().for_each(|key| assert!(store.invalidate(key)));
    (10_000..12_000).for_each(|key| store.store(key, block(key, 4096, Look::Noise)).unwrap());
    let tier = store.stats().tier.unwrap();
    assert!(tier.backed > 0);
    assert_eq!(tier.codecs, 0, "raw blocks need none");
}

/// A tier that cannot be is refused by name.
#[test]
fn impossible_tiers_are_refused() {
    let tier = |segments| builder().spec(spec("zsmalloc+lz4")).tier(memory(segments));
    let limited = |segments| tier(segments).limit_bytes(4 * MIB).at_limit(AtLimit::Evict);
    assert!(matches!(tier(8).build(), Err(BuildError::NoLimit { setting: "tier" })));
    assert!(matches!(limited(1).build(), Err(BuildError::TierSegments(1))));
    let wrong = limited(8).tier_policy(TierPolicy::Refuse).build();
    assert!(matches!(wrong, Err(BuildError::TierPolicy(TierPolicy::Refuse))));
    let wrong = limited(8).at_limit(AtLimit::Refuse).build();
    assert!(matches!(wrong, Err(BuildError::TierPolicy(TierPolicy::DropOldest))));
    let wrong = limited(8).block_size(128 << 10).build();
    assert!(matches!(wrong, Err(BuildError::TierSegmentTooShort { .. })));
    let wrong = builder().tier_policy(TierPolicy::DropOldest).build();
    assert!(matches!(wrong, Err(BuildError::NoTier)));
    let wrong = limited(8).hasher(std::hash::RandomState::new()).build();
    assert!(matches!(wrong, Err(BuildError::TierBeforeHasher)));
}
