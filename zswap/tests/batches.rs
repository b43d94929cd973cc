//! Batches: every item has the result that it would have had alone.

use std::cell::Cell;
use std::hash::{Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::common::codec::{CodecScript, OnCompress, RleDriver};
use crate::common::pool::{OnInsert, OnRead, PoolScript, ScriptedDriver};
use crate::common::{Look, block, builder, check_books, scripted, spec};
use zpool_conformance::ReferenceDriver;
use zpool_core::page::{FaultPlan, FaultySource, MmapSource};
use zswap::plugin::Manual;
use zswap::{AtLimit, Error, Store};

fn blocks(count: u64) -> Vec<(u64, Vec<u8>)> {
    let looks = [Look::Runs, Look::Runs, Look::Noise, Look::SameFilled];
    (0..count).map(|n| (n, block(n, 1 + (n as usize * 37) % 4096, looks[n as usize % 4]))).collect()
}

fn borrowed(blocks: &[(u64, Vec<u8>)]) -> impl Iterator<Item = (u64, &[u8])> {
    blocks.iter().map(|(key, block)| (*key, block.as_slice()))
}

/// A batch of any length stores and loads what single calls do.
#[test]
fn batch_of_any_length_equals_single_calls() {
    for text in ["reference+rle", "zbud+lz4", "zsmalloc+lz4"] {
        for count in [0, 1, 15, 16, 17, 63, 64, 65, 500] {
            let store = builder().spec(spec(text)).checksums(count % 2 == 0).build().unwrap();
            let blocks = blocks(count);
            assert!(store.store_many(borrowed(&blocks)).iter().all(Result::is_ok));
            check_books(&store);
            assert_eq!(store.stats().stores, count);
            let keys: Vec<u64> = (0..count + 3).collect();
            let mut buffers = vec![[0xEE; 4096]; keys.len()];
            let loaded = store.load_many(&keys, &mut buffers);
            for (key, (result, buffer)) in keys.iter().zip(loaded.into_iter().zip(&buffers)) {
                let expected = blocks.get(*key as usize).map(|(_, block)| block);
                assert_eq!(result.unwrap(), expected.map(Vec::len));
                assert!(
                    expected.is_none_or(|block| buffer.starts_with(block)),
                    "{text}, key {key}"
                );
            }
            let stats = store.stats();
            assert_eq!((stats.loads_hit, stats.loads_missed), (count, 3));
        }
    }
}

/// Of several blocks under one key, the last one counts, and a failure among them acts as in single
/// calls.
#[test]
fn batch_with_repeated_key_keeps_last_block() {
    let pool = PoolScript::new();
    let store = scripted(pool.clone(), CodecScript::new())
        .block_size(1024)
        .max_value_len(1024)
        .build()
        .unwrap();
    let (a, b) = (block(1, 500, Look::Runs), block(2, 600, Look::Runs));
    let too_long = vec![1; 1025];
    let items: Vec<(u64, &[u8])> =
        vec![(1, &a), (1, &b), (2, &a), (2, &too_long), (3, &too_long), (3, &b), (4, &[]), (5, &a)];
    let results = store.store_many(items);
    let failed: Vec<usize> = (0..8).filter(|&n| results[n].is_err()).collect();
    assert_eq!(failed, [3, 4]);
    assert_eq!(results[3], Err(Error::BlockTooLong { len: too_long.len(), max: 1024 }));
    assert_eq!(store.load_vec(&1).unwrap().unwrap(), b);
    assert_eq!(store.load_vec(&2).unwrap(), None);
    assert_eq!(store.load_vec(&3).unwrap().unwrap(), b);
    assert_eq!(store.load_vec(&4).unwrap().unwrap(), []);
    assert_eq!((store.len(), pool.live()), (4, 3));
    check_books(&store);
}

/// A batch that fails at any of its items keeps exact accounts (B35).
#[test]
fn b35_failing_batch_keeps_exact_accounts() {
    // Lengths of many size classes, so that nearly every insert asks the page source.
    let blocks: Vec<_> =
        (0..8u64).map(|n| (n, block(n, 300 + 450 * n as usize, Look::Noise))).collect();
    for text in ["zbud+lz4", "zsmalloc+lz4"] {
        let mut failures = 0;
        for nth in 0..40 {
            let source = Arc::new(FaultySource::new(Arc::new(MmapSource::new()), FaultPlan::Never));
            let manual = Arc::new(Manual::new());
            let store = builder()
                .spec(spec(text))
                .executor(manual)
                .page_source(source.clone())
                .build()
                .unwrap();
            // Older blocks of every second key, which are removed where the newer one fails.
            (0..8).step_by(2).for_each(|key| store.store(key, [7; 64]).unwrap());
            source.plan(FaultPlan::Nth(nth));
            let results = store.store_many(borrowed(&blocks));
            for ((key, block), result) in blocks.iter().zip(&results) {
                match result {
                    Ok(()) => assert_eq!(store.load_vec(key).unwrap().as_ref(), Some(block)),
                    Err(_) => {
                        assert!(!store.contains(key));
                        failures += 1;
                    }
                }
            }
            let failed = results.iter().filter(|result| result.is_err()).count();
            let stats = store.stats();
            assert_eq!((stats.entries, stats.rejected.total() as usize), (8 - failed, failed));
            assert_eq!(stats.stores as usize, 4 + 8 - failed);
            check_books(&store);
            store.clear();
            let stats = store.stats();
            assert_eq!((stats.entries, stats.payload_bytes, stats.current.objects), (0, 0, 0));
        }
        assert!(failures > 5, "{text}: {failures}");
    }
}

#[test]
fn plug_ins_that_fail_in_a_batch() {
    let (pool, codec) = (PoolScript::new(), CodecScript::new());
    let store: Store<u64> = scripted(pool.clone(), codec.clone()).build().unwrap();
    let blocks: Vec<_> = (0..20u64).map(|n| (n, block(n, 900, Look::Runs))).collect();
    for what in
        [OnCompress::Fail, OnCompress::Panic, OnCompress::ClaimTooMuch, OnCompress::ClaimNothing]
    {
        codec.on_compress(what);
        let results = store.store_many(borrowed(&blocks));
        assert!(
            results.iter().all(|r| matches!(r, Err(e) if matches!(e, Error::Codec(_)))),
            "{what:?}"
        );
        assert_eq!((store.len(), pool.live()), (0, 0));
    }
    codec.on_compress(OnCompress::Work);
    for what in [OnInsert::OutOfMemory, OnInsert::Panic] {
        pool.on_insert(what);
        assert!(store.store_many(borrowed(&blocks)).iter().all(Result::is_err));
        assert_eq!((store.len(), pool.live()), (0, 0));
    }
    pool.on_insert(OnInsert::Work);
    assert!(store.store_many(borrowed(&blocks)).iter().all(Result::is_ok));
    let keys: Vec<u64> = (0..20).collect();
    let mut buffers = vec![[0; 900]; 20];
    // Each one is read again for a while.
    pool.on_read(OnRead::Fail);
    assert!(store.load_many(&keys[..2], &mut buffers[..2]).iter().all(Result::is_err));
    pool.on_read(OnRead::Work);
    let mut short = vec![[0; 899]; 20];
    let short = store.load_many(&keys, &mut short);
    assert!(
        short.iter().all(
            |r| matches!(r, Err(e) if *e == Error::BufferTooSmall { needed: 900, given: 899 })
        )
    );
    assert!(store.load_many(&keys, &mut buffers).iter().all(|r| r == &Ok(Some(900))));
    check_books(&store);
}

/// Every item of a batch is in the histograms once, whatever its result.
#[test]
fn batch_items_are_timed_once_each() {
    let (pool, codec) = (PoolScript::new(), CodecScript::new());
    let store =
        scripted(pool.clone(), codec).max_value_len(8192).latency_histograms(true).build().unwrap();
    let calls =
        || store.stats().latencies.map(|latencies| (latencies.store.calls, latencies.load.calls));
    assert!(store.store_many::<&[u8]>([]).is_empty());
    assert!(store.load_many::<u64, [u8; 1]>(&[], &mut []).is_empty());
    assert_eq!(calls(), Some((0, 0)));
    let (text, value) = (block(1, 1000, Look::Runs), block(2, 8192, Look::Runs));
    let items: [&[u8]; 6] = [&text, &value, &[], &[7; 4096], &[0; 8193], &text];
    let results = store.store_many((0..).zip(items));
    assert_eq!(results.iter().filter(|result| result.is_err()).count(), 1);
    assert_eq!(calls(), Some((6, 0)));
    pool.on_insert(OnInsert::Panic);
    assert!(store.store_many([(6, &text[..]), (7, &text[..])]).iter().all(Result::is_err));
    assert_eq!(calls(), Some((8, 0)));
    // Hits of every kind, misses, buffers that are too short.
    let keys: Vec<u64> = (0..20).chain(0..6).collect();
    let mut buffers = [vec![vec![0; 8192]; 20], vec![vec![0; 10]; 6]].concat();
    let results = store.load_many(&keys, &mut buffers);
    assert_eq!(results.iter().filter(|result| matches!(result, Ok(Some(_)))).count(), 6);
    assert_eq!(results.iter().filter(|result| result.is_err()).count(), 4);
    assert_eq!(calls(), Some((8, 26)));
    store.store(9, [1]).unwrap();
    store.load_vec(&9).unwrap();
    assert_eq!(calls(), Some((9, 27)), "single calls count as before");
}

/// A key, one of which panics when it is hashed, or compared with itself.
#[derive(Debug, Clone)]
struct Fused(u64);

thread_local! {
    static HASH_PANICS: Cell<Option<u64>> = const { Cell::new(None) };
    static EQ_PANICS: Cell<Option<u64>> = const { Cell::new(None) };
}

impl PartialEq for Fused {
    fn eq(&self, other: &Fused) -> bool {
        assert!(self.0 != other.0 || EQ_PANICS.get() != Some(self.0), "an `Eq` that panics");
        self.0 == other.0
    }
}

impl Eq for Fused {}

impl Hash for Fused {
    fn hash<H: Hasher>(&self, state: &mut H) {
        assert!(HASH_PANICS.get() != Some(self.0), "a `Hash` that panics");
        self.0.hash(state);
    }
}

#[derive(Debug, Clone, Copy)]
enum Panics {
    Iterator,
    Hash,
    Eq,
}

/// A panic in a batch loses its own item and at most one more, and no older block.
#[test]
fn panic_in_batch_loses_at_most_two_items() {
    const ITEMS: u64 = 6;
    let (old, new) = (|key| block(key, 300, Look::Runs), |key| block(key + 100, 500, Look::Runs));
    for (what, at) in [Panics::Iterator, Panics::Hash, Panics::Eq]
        .into_iter()
        .flat_map(|what| (0..ITEMS).map(move |at| (what, at)))
    {
        let pool = PoolScript::new();
        let store: Store<Fused> = Store::builder()
            .spec(spec("scripted+rle"))
            .allocator(Arc::new(ScriptedDriver {
                inner: Arc::new(ReferenceDriver),
                script: pool.clone(),
            }))
            .compressor(Arc::new(RleDriver { script: CodecScript::new() }))
            .build()
            .unwrap();
        (0..ITEMS).for_each(|key| store.store(Fused(key), old(key)).unwrap());
        let (blocks, mut asked): (Vec<_>, _) = ((0..ITEMS).map(new).collect(), 0);
        match what {
            Panics::Iterator => {}
            Panics::Hash => HASH_PANICS.set(Some(at)),
            Panics::Eq => EQ_PANICS.set(Some(at)),
        }
        let batch = catch_unwind(AssertUnwindSafe(|| {
            store.store_many((0..ITEMS).map(|key| {
                assert!(!matches!(what, Panics::Iterator) || key != at, "an iterator that panics");
                asked += 1;
                (Fused(key), blocks[key as usize].as_slice())
            }))
        }));
        HASH_PANICS.set(None);
        EQ_PANICS.set(None);
        assert!(batch.is_err(), "{what:?} at {at}");
        let (stored, expected) = match what {
            Panics::Iterator => (at.saturating_sub(1), at),
            Panics::Hash => (at.saturating_sub(1), at + 1),
            Panics::Eq => (at, (at + 2).min(ITEMS)),
        };
        assert_eq!(asked, expected, "{what:?} at {at}: items that were asked for");
        for key in 0..ITEMS {
            let expected = if key < stored { new(key) } else { old(key) };
            assert_eq!(
                store.load_vec(&Fused(key)).unwrap(),
                Some(expected),
                "{what:?} at {at}, key {key}"
            );
        }
        let stats = store.stats();
        assert_eq!((stats.entries as u64, pool.live() as u64), (ITEMS, ITEMS));
        assert_eq!((stats.stores, stats.free_failed), (ITEMS + stored, 0));
        store.clear();
        assert_eq!((store.stats().payload_bytes, pool.live()), (0, 0));
    }
}

#[test]
fn batches_hold_long_values_switches_and_limits() {
    let store = builder()
        .spec(spec("zsmalloc+lz4"))
        .max_value_len(1 << 18)
        .limit_bytes(3 << 20)
        .at_limit(AtLimit::Evict)
        .build()
        .unwrap();
    for round in 0..30u64 {
        if round % 7 == 3 {
            store.switch(&spec(["zbud+lz4", "zsmalloc+lz4"][round as usize % 2])).unwrap();
        }
        let blocks: Vec<_> = (0..100u64)
            .map(|n| {
                (
                    round * 100 + n,
                    block(round * 100 + n, if n % 25 == 0 { 50_000 } else { 3_000 }, Look::Noise),
                )
            })
            .collect();
        assert!(store.store_many(borrowed(&blocks)).iter().all(Result::is_ok));
        assert!(store.bytes_held() < (3 << 20) + 64 * (256 << 10));
        let keys: Vec<u64> = blocks.iter().map(|(key, _)| *key).collect();
        let mut buffers = vec![vec![0; 50_000]; 100];
        for ((result, buffer), (_, block)) in
            store.load_many(&keys, &mut buffers).into_iter().zip(&buffers).zip(&blocks)
        {
            // Some may have been evicted already.
            assert!(result.unwrap().is_none_or(|len| buffer[..len] == block[..]));
        }
    }
    assert!(store.stats().evicted > 500);
    check_books(&store);
}
