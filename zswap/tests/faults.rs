//! Failures of plug-ins and memory: a clear error, nothing lost, nothing left over, and the older
//! block removed.

use std::sync::Arc;

use crate::common::codec::{CodecScript, OnCompress, OnDecompress};
use crate::common::pool::{OnFree, OnInsert, OnRead, PoolScript};
use crate::common::{Look, block, builder, check_books, scripted, spec};
use zpool_core::page::{FaultPlan, FaultySource, MmapSource, PageSource};
use zswap::plugin::{CodecError, Manual, PoolError};
use zswap::{AtLimit, Error, Store};

fn rig() -> (Arc<PoolScript>, Arc<CodecScript>, Store<u64>) {
    let (pool, codec) = (PoolScript::new(), CodecScript::new());
    let store = scripted(pool.clone(), codec.clone()).build().unwrap();
    (pool, codec, store)
}

/// A store that fails in the compressor removes the older block (B23).
#[test]
fn b23_failing_compressor_removes_older_block() {
    let (pool, codec, store) = rig();
    type Case = (OnCompress, fn(&CodecError) -> bool);
    let cases: [Case; 5] = [
        (OnCompress::Fail, |error| matches!(error, CodecError::Failed(_))),
        (
            OnCompress::Panic,
            |error| matches!(error, CodecError::Panicked(m) if m.contains("panics")),
        ),
        (OnCompress::PanicTwice, |error| matches!(error, CodecError::Panicked(_))),
        (OnCompress::ClaimTooMuch, |error| matches!(error, CodecError::Misbehaved(_))),
        (OnCompress::ClaimNothing, |error| matches!(error, CodecError::Misbehaved(_))),
    ];
    for (what, expected) in cases {
        store.store(1, block(1, 4096, Look::Runs)).unwrap();
        codec.on_compress(what);
        let error = store.store(1, block(2, 4096, Look::Runs)).unwrap_err();
        assert!(matches!(&error, Error::Codec(kind) if expected(kind)), "{error}");
        assert_eq!((store.contains(&1), pool.live()), (false, 0));
        codec.on_compress(OnCompress::Work);
    }
    assert_eq!(store.stats().rejected.compress_failed, 5);
    store.store(1, block(3, 4096, Look::Runs)).unwrap();
    check_books(&store);
}

/// An allocator that panics in `bytes_held` fails the store and removes the older block (B23).
#[test]
fn b23_panicking_bytes_held_fails_store() {
    for evicts in [false, true] {
        let (pool, codec) = (PoolScript::new(), CodecScript::new());
        let at_limit = if evicts { AtLimit::Evict } else { AtLimit::Refuse };
        let builder = scripted(pool.clone(), codec).limit_bytes(1 << 20).at_limit(at_limit);
        let store: Store<u64> = builder.build().unwrap();
        store.store(1, block(1, 4096, Look::Runs)).unwrap();
        pool.panics_when_asked(true);
        let error = store.store(1, block(2, 4096, Look::Runs)).unwrap_err();
        assert!(matches!(&error, Error::AllocatorPanicked(m) if m.contains("asked")), "{error}");
        pool.panics_when_asked(false);
        assert_eq!((store.contains(&1), pool.live()), (false, 0));
        store.store(1, block(3, 4096, Look::Runs)).unwrap();
        check_books(&store);
    }
}

#[test]
fn a_compressor_that_expands_makes_raw_blocks() {
    let (_, codec, store) = rig();
    codec.on_compress(OnCompress::Expand);
    store.store(1, block(1, 4096, Look::Runs)).unwrap();
    assert_eq!((store.stats().stored_raw, store.stats().payload_bytes), (1, 4096));
    codec.on_decompress(OnDecompress::Panic);
    assert_eq!(
        store.load_vec(&1).unwrap().unwrap(),
        block(1, 4096, Look::Runs),
        "raw needs no codec"
    );
}

/// A store that fails in the allocator removes the older block (B23).
#[test]
fn b23_failing_allocator_removes_older_block() {
    let (pool, _, store) = rig();
    for (what, look) in [OnInsert::OutOfMemory, OnInsert::Panic]
        .into_iter()
        .flat_map(|what| [(what, Look::Runs), (what, Look::Noise)])
    {
        store.store(1, block(1, 4096, Look::Runs)).unwrap();
        pool.on_insert(what);
        let error = store.store(1, block(2, 4096, look)).unwrap_err();
        match what {
            OnInsert::OutOfMemory => {
                assert_eq!(error, Error::Pool(PoolError::OutOfMemory))
            }
            _ => assert!(matches!(&error, Error::AllocatorPanicked(m) if m.contains("insert"))),
        }
        assert_eq!((store.contains(&1), pool.live()), (false, 0));
        pool.on_insert(OnInsert::Work);
    }
    assert_eq!(store.stats().rejected.alloc_failed, 4);
    // The context that was lent during the panic was returned.
    store.store(1, block(1, 4096, Look::Runs)).unwrap();
    assert_eq!(store.manager().current().unwrap().codec().stats().contexts_made, 1);
    check_books(&store);
}

/// A load that fails keeps the block; only the buffer is unspecified (B36).
#[test]
fn b36_failed_load_keeps_block() {
    let (pool, codec, store) = rig();
    let expected = block(1, 4096, Look::Runs);
    store.store(1, &expected).unwrap();
    store.store(2, block(2, 4096, Look::Noise)).unwrap();
    let attempt = |store: &Store<u64>| {
        let load = store.load(&1, &mut [0; 4096]).unwrap_err();
        let take = store.take(&1, &mut [0; 4096]).unwrap_err();
        assert_eq!(load, take);
        load
    };
    codec.on_decompress(OnDecompress::Fail);
    assert_eq!(attempt(&store), Error::Codec(CodecError::Corrupt));
    for panics in [OnDecompress::Panic, OnDecompress::PanicTwice] {
        codec.on_decompress(panics);
        assert!(matches!(attempt(&store), Error::Codec(CodecError::Panicked(_))));
    }
    codec.on_decompress(OnDecompress::Work);
    pool.on_read(OnRead::Fail);
    assert_eq!(attempt(&store), Error::Pool(PoolError::TooManyReaders));
    pool.on_read(OnRead::Panic);
    assert!(matches!(attempt(&store), Error::AllocatorPanicked(_)));
    pool.on_read(OnRead::Cut);
    assert_eq!(attempt(&store), Error::Codec(CodecError::Corrupt));
    let raw = store.load_vec(&2).unwrap_err();
    assert_eq!(raw, Error::Codec(CodecError::Corrupt), "raw blocks have a length, too");
    pool.on_read(OnRead::Work);

    let stats = store.stats();
    assert_eq!((stats.decompress_failed, stats.read_failed, stats.taken), (9, 4, 0));
    assert!(store.invalidate(&2));
    assert_eq!(store.load_vec(&1).unwrap().unwrap(), expected);
    assert!(store.invalidate(&1));
    assert_eq!(pool.live(), 0);
}

/// A flipped bit is an error or wrong bytes of the full length (B36).
#[test]
fn b36_flipped_bit_is_error_or_wrong_bytes() {
    for compressor in ["rle", "lz4"] {
        let (pool, codec) = (PoolScript::new(), CodecScript::new());
        let spec = spec(&format!("scripted+{compressor}"));
        let store = scripted(pool.clone(), codec).spec(spec).build().unwrap();
        let mut wrong = 0;
        for key in 0..200 {
            let expected = block(key, 4096, if key % 4 == 0 { Look::Noise } else { Look::Runs });
            store.store(key, &expected).unwrap();
            pool.on_read(OnRead::Flip);
            match store.load_vec(&key) {
                Ok(bytes) => {
                    let bytes = bytes.expect("the key is there");
                    assert_eq!(bytes.len(), 4096);
                    wrong += u32::from(bytes != expected);
                }
                Err(error) => assert_eq!(error, Error::Codec(CodecError::Corrupt)),
            }
            pool.on_read(OnRead::Work);
            assert_eq!(
                store.load_vec(&key).unwrap().unwrap(),
                expected,
                "stored bytes are as they were"
            );
            assert!(store.invalidate(&key));
        }
        assert!(wrong >= 50, "raw blocks have no other way to show it");
        assert_eq!(pool.live(), 0);
    }
}

#[test]
fn b36_what_is_corrupt_is_not_exported_either() {
    let (pool, codec) = (PoolScript::new(), CodecScript::new());
    let store =
        scripted(pool.clone(), codec).checksums(true).max_value_len(1 << 16).build().unwrap();
    store.store(1, block(1, 1000, Look::Runs)).unwrap();
    store.store(2, block(2, 1000, Look::Noise)).unwrap();
    store.store(3, block(3, 9000, Look::Runs)).unwrap();
    for (times, how) in [OnRead::Flip, OnRead::Cut].into_iter().enumerate() {
        pool.on_read(how);
        for key in 1..=3 {
            let error = store.export(&key, |form| panic!("{form:?}")).unwrap_err();
            assert_eq!(error, Error::Codec(CodecError::Corrupt));
        }
        assert_eq!(store.stats().decompress_failed, 3 * (times as u64 + 1));
    }
    pool.on_read(OnRead::Work);
    assert!((1..=3).all(|key| store.export(&key, |_| ()).unwrap().is_some()));
}

/// A failure to free is counted, and the store stays usable.
#[test]
fn failed_free_is_counted() {
    let (pool, _, store) = rig();
    for (n, what) in [OnFree::Refuse, OnFree::Panic].into_iter().enumerate() {
        store.store(1, block(1, 4096, Look::Runs)).unwrap();
        pool.on_free(what);
        assert!(store.invalidate(&1));
        assert_eq!((store.contains(&1), store.stats().free_failed), (false, n as u64 + 1));
        pool.on_free(OnFree::Work);
    }
    assert_eq!(pool.live(), 2, "lost until their pool goes");
    store.store(1, block(1, 4096, Look::Runs)).unwrap();
    assert!(store.load_vec(&1).unwrap().is_some());
}

/// Fails the n-th call of the page source, for each n, and then all calls from it on (B47).
#[test]
fn b47_out_of_memory_at_any_call_leaks_nothing() {
    for text in ["zbud+lz4", "zsmalloc+lz4", "zsmalloc+rle"] {
        let mapped = Arc::new(MmapSource::new());
        let source = Arc::new(FaultySource::new(mapped.clone(), FaultPlan::Never));
        // A pool's own jobs run on request, because one that released memory in between would
        // disturb the counts.
        let manual = Arc::new(Manual::new());
        let builder = builder().spec(spec(text)).executor(manual.clone());
        let store = builder.page_source(source.clone()).build().unwrap();
        // Lengths of many size classes, so that stores need memory again and again.
        let blocks: Vec<_> = (1..40).map(|i| block(i, 100 * i as usize, Look::Noise)).collect();
        let fill = |expect_failure: bool| {
            let mut failed = 0;
            for (key, block) in blocks.iter().enumerate() {
                let key = key as u64;
                match store.store(key, block) {
                    Ok(()) => assert_eq!(store.load_vec(&key).unwrap().as_ref(), Some(block)),
                    Err(error) => {
                        assert_eq!(error, Error::Pool(PoolError::OutOfMemory));
                        assert!(!store.contains(&key), "the older block is gone");
                        failed += 1;
                    }
                }
            }
            assert!(expect_failure || failed == 0);
            check_books(&store);
            failed
        };
        fill(false);
        store.clear();
        store.manager().current().unwrap().zpool().trim();
        source.plan(FaultPlan::Never);
        fill(false);
        let calls = source.calls();
        assert!(calls > 0, "stores ask the source");
        let mut failures = 0;
        for plan in (0..calls).flat_map(|n| [FaultPlan::Nth(n), FaultPlan::From(n)]) {
            store.clear();
            store.manager().current().unwrap().zpool().trim();
            source.plan(FaultPlan::Never);
            // Small older blocks, which are to be replaced.
            (0..blocks.len() as u64)
                .for_each(|key| store.store(key, block(key, 40, Look::Noise)).unwrap());
            source.plan(plan);
            failures += fill(true);
            source.plan(FaultPlan::Never);
            let pool = store.manager().current().unwrap();
            pool.zpool().validate().unwrap();
            store.clear();
            manual.run_all();
            pool.zpool().trim();
            let stats = pool.zpool().stats();
            assert_eq!((stats.objects, stats.resident_frames), (0, 0), "{text}, {plan:?}");
            assert_eq!(mapped.charged_frames(), 0, "{text}, {plan:?}");
        }
        assert!(failures >= calls, "{failures} failures in {calls} calls");
    }
}

/// A key that panics leaves the store usable and its accounts right.
#[test]
fn panicking_key_leaves_store_usable() {
    use std::cell::Cell;
    use std::hash::{Hash, Hasher};
    use std::panic::{AssertUnwindSafe, catch_unwind};

    thread_local! {
        /// Calls of `Hash` and `Eq` until one panics.
        static FUSE: Cell<u32> = const { Cell::new(u32::MAX) };
    }
    fn burn() {
        FUSE.set(FUSE.get().wrapping_sub(1));
        assert!(FUSE.get() != 0, "a key that panics");
    }
    #[derive(Debug, Clone)]
    struct Fused(u64);
    impl PartialEq for Fused {
        fn eq(&self, other: &Fused) -> bool {
            burn();
            self.0 == other.0
        }
    }
    impl Eq for Fused {}
    impl Hash for Fused {
        fn hash<H: Hasher>(&self, state: &mut H) {
            burn();
            self.0.hash(state);
        }
    }

    let (pool, codec) = (PoolScript::new(), CodecScript::new());
    let store: Store<Fused> = Store::builder()
        .spec(spec("scripted+rle"))
        .allocator(Arc::new(crate::common::pool::ScriptedDriver {
            inner: Arc::new(zpool_conformance::ReferenceDriver),
            script: pool.clone(),
        }))
        .compressor(Arc::new(crate::common::codec::RleDriver { script: codec }))
        .build()
        .unwrap();
    let mut panics = 0;
    for round in 0..3_000u64 {
        FUSE.set(1 + (round % 7) as u32);
        let key = Fused(round % 500);
        let work = AssertUnwindSafe(|| match round % 5 {
            0..3 => drop(store.store(key, block(round % 500, 200, Look::Runs))),
            3 => drop(store.take_vec(&key)),
            _ => drop(store.invalidate(&key)),
        });
        panics += u32::from(catch_unwind(work).is_err());
        FUSE.set(u32::MAX);
        if round % 50 == 0 {
            let stats = store.stats();
            assert_eq!((stats.entries, pool.live()), (store.len(), store.len() as isize));
        }
    }
    assert!(panics > 500, "{panics}");
    let found = (0..500).filter(|&n| match store.load_vec(&Fused(n)).unwrap() {
        Some(bytes) => bytes == block(n, 200, Look::Runs),
        None => false,
    });
    assert_eq!(found.count(), store.len());
    store.clear();
    assert_eq!((store.len(), pool.live()), (0, 0));
}

/// The text of an error contains its cause, so the chain of sources does not repeat it.
#[test]
fn an_error_is_one_line_with_its_cause_once() {
    use std::error::Error as _;
    let store = builder().max_value_len(4096).build().unwrap();
    let error = store.store(7, [0; 5000]).unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("a value or block of 5000 bytes is over the 4096 allowed"), "{text}");
    assert!(error.source().is_none());
    let (pool, _, store) = rig();
    pool.on_insert(OnInsert::OutOfMemory);
    let error = store.store(7, block(1, 100, Look::Runs)).unwrap_err();
    assert_eq!(error.to_string(), PoolError::OutOfMemory.to_string());
    assert!(error.source().is_none());
    assert_eq!(error.to_string().lines().count(), 1);
}

/// A replaced block that is not freed is counted, in the same pool and after a switch.
#[test]
fn replaced_block_that_is_not_freed_is_counted() {
    let (pool, _, store) = rig();
    let mut failed = 0;
    for what in [OnFree::Refuse, OnFree::Panic] {
        for switch in [false, true] {
            store.store(1, block(1, 4096, Look::Runs)).unwrap();
            if switch {
                store.switch(&spec("reference+rle")).unwrap();
            }
            pool.on_free(what);
            store.store(1, block(2, 3000, Look::Noise)).unwrap();
            pool.on_free(OnFree::Work);
            failed += 1;
            assert_eq!(store.stats().free_failed, failed, "{what:?}, switch: {switch}");
            assert_eq!(store.load_vec(&1).unwrap().unwrap(), block(2, 3000, Look::Noise));
            store.switch(&spec("scripted+rle")).unwrap();
        }
    }
}
