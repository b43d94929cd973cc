//! Compression contexts in a store with a limit: how many there are, which threads wait for one,
//! and when idle ones are freed.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, OnceLock, mpsc};
use std::time::Duration;

use crate::common::{Look, block, builder, check_books, spec};
use zswap::plugin::{
    CodecCapabilities, CodecError, Compressed, CompressionContext, Compressor, CompressorDriver,
    CreateError, Params,
};
use zswap::{AtLimit, Component, Store, StoreBuilder};

const MIB: usize = 1 << 20;

/// Compresses to every twentieth byte, with contexts of a megabyte.
#[derive(Debug)]
struct Fat {
    identity: Component,
    script: Arc<Script>,
}

#[derive(Default)]
struct Script {
    alive: AtomicUsize,
    most_alive: AtomicUsize,
    /// Runs while a block that begins with 77 is compressed.
    inside: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl std::fmt::Debug for Script {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Script")
    }
}

#[derive(Debug)]
struct FatDriver(Arc<Script>);

#[derive(Debug)]
struct FatContext(Arc<Script>);

impl CompressorDriver for FatDriver {
    fn name(&self) -> &str {
        "fat"
    }
    fn open(&self, _: &Params) -> Result<Arc<dyn Compressor>, CreateError> {
        Ok(Arc::new(Fat { identity: Component::named("fat"), script: self.0.clone() }))
    }
}

impl Compressor for Fat {
    fn identity(&self) -> &Component {
        &self.identity
    }
    fn capabilities(&self) -> CodecCapabilities {
        CodecCapabilities::new("MIT").with_stateless_decompression()
    }
    fn compress_bound(&self, len: usize) -> usize {
        len
    }
    fn compression_context(&self, _: usize) -> Result<Box<dyn CompressionContext>, CodecError> {
        let alive = self.script.alive.fetch_add(1, Ordering::SeqCst) + 1;
        self.script.most_alive.fetch_max(alive, Ordering::SeqCst);
        Ok(Box::new(FatContext(self.script.clone())))
    }
    fn decompress(&self, compressed: &[u8], block: &mut [u8]) -> Result<(), CodecError> {
        block.chunks_mut(20).zip(compressed).for_each(|(run, byte)| run.fill(*byte));
        Ok(())
    }
}

impl CompressionContext for FatContext {
    fn compress(&mut self, block: &[u8], out: &mut [u8]) -> Result<Compressed, CodecError> {
        if block[0] == 77
            && let Some(inside) = self.0.inside.get()
        {
            inside();
        }
        let short = block.iter().step_by(20);
        out.iter_mut().zip(short.clone()).for_each(|(to, from)| *to = *from);
        Ok(Compressed::Len(short.len()))
    }
    fn bytes_held(&self) -> usize {
        MIB
    }
}

impl Drop for FatContext {
    fn drop(&mut self) {
        self.0.alive.fetch_sub(1, Ordering::SeqCst);
    }
}

fn fat(script: &Arc<Script>) -> StoreBuilder<u64> {
    builder().compressor(Arc::new(FatDriver(script.clone()))).spec(spec("zsmalloc+fat"))
}

fn runs(key: u64) -> Vec<u8> {
    let mut block = block(key, 4000, Look::Runs);
    block[..20].fill(key as u8 % 50);
    block
}

/// Runs `work` on a thread of its own. Fails if it hangs.
fn ends(work: impl FnOnce() + Send + 'static) {
    let (done, ended) = mpsc::channel();
    let worker = std::thread::spawn(move || {
        work();
        done.send(()).expect("the test waits");
    });
    match ended.recv_timeout(Duration::from_secs(120)) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("a thread waits for ever"),
        _ => worker.join().unwrap(),
    }
}

/// Sixty-four threads in a store of 16 MiB: their contexts, of a megabyte each, take 1/4 of it at
/// most, every store succeeds, and nothing is evicted for contexts.
#[test]
fn threads_share_bounded_contexts() {
    ends(|| {
        let script = Arc::new(Script::default());
        let store = fat(&script).limit_bytes(16 * MIB).at_limit(AtLimit::Evict).build().unwrap();
        let meet = Barrier::new(64);
        std::thread::scope(|scope| {
            for thread in 0..64u64 {
                let (store, meet) = (&store, &meet);
                scope.spawn(move || {
                    meet.wait();
                    (0..10).for_each(|n| store.store(thread << 32 | n, runs(n)).unwrap());
                    let blocks: Vec<_> = (10..20).map(runs).collect();
                    let items = (10..20).map(|n| (thread << 32 | n, &*blocks[n as usize - 10]));
                    assert!(store.store_many(items).into_iter().all(|result| result.is_ok()));
                });
            }
        });
        let most = script.most_alive.load(Ordering::SeqCst);
        assert!((1..=3).contains(&most), "{most} contexts of a little more than a megabyte");
        assert_eq!((store.len(), store.stats().evicted), (64 * 20, 0));
        check_books(&store);
    });
}

/// Idle contexts are freed before any block is evicted, such as those from before a limit was set.
#[test]
fn idle_contexts_go_before_blocks() {
    for at_limit in [AtLimit::Evict, AtLimit::Refuse] {
        let script = Arc::new(Script::default());
        let store = fat(&script).limit_bytes(usize::MAX).at_limit(at_limit).build().unwrap();
        let meet = Arc::new(Barrier::new(8));
        let _ = script.inside.set(Box::new({
            let meet = meet.clone();
            move || {
                meet.wait();
            }
        }));
        std::thread::scope(|scope| {
            for thread in 0..8u64 {
                let (store, mut burst) = (&store, runs(thread));
                burst[0] = 77;
                scope.spawn(move || store.store(1 << 40 | thread, &burst).unwrap());
            }
        });
        (0..200).for_each(|key| store.store(key, block(key, 4096, Look::Noise)).unwrap());
        let (before, contexts) = (store.len(), store.stats().context_bytes);
        assert!(contexts >= 2 * MIB, "{contexts} bytes of contexts");
        let limit = store.bytes_held() - contexts + 5 * MIB / 4;
        store.set_limit(Some(limit)).unwrap();
        for key in 1000..1010 {
            store.store(key, runs(key)).unwrap();
            assert!(store.bytes_held() < limit + MIB + 256 * 1024, "{at_limit:?}");
        }
        assert_eq!((store.len(), store.stats().evicted), (before + 10, 0), "{at_limit:?}");
    }
}

/// If a single context takes more than half of the limit, it is freed after each use, and the store
/// works.
#[test]
fn context_larger_than_limit_leaves_store_usable() {
    for at_limit in [AtLimit::Evict, AtLimit::Refuse] {
        let script = Arc::new(Script::default());
        let store = fat(&script).limit_bytes(MIB / 2).at_limit(at_limit).build().unwrap();
        // The removals in between make a store that refuses look for memory again.
        for key in 0..20u64 {
            store.store(key, runs(key)).unwrap_or_else(|error| panic!("{at_limit:?}: {error}"));
            assert!(store.invalidate(&key));
            store.trim();
        }
        assert_eq!(store.stats().evicted, 0, "{at_limit:?}");
    }
}

/// While another thread compresses with a context that is larger than the limit, a store neither
/// fails nor evicts. The context is freed once it is idle.
#[test]
fn large_context_in_use_fails_no_store() {
    ends(|| {
        for at_limit in [AtLimit::Evict, AtLimit::Refuse] {
            let script = Arc::new(Script::default());
            let limit = MIB / 4 * 3;
            let store = fat(&script).limit_bytes(limit).at_limit(at_limit).build().unwrap();
            let (inside, go_on) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
            let _ = script.inside.set(Box::new({
                let (inside, go_on) = (inside.clone(), go_on.clone());
                move || {
                    inside.wait();
                    go_on.wait();
                }
            }));
            (0..20).for_each(|key| store.store(key, runs(key)).unwrap());
            let mut slow = runs(1);
            slow[0] = 77;
            std::thread::scope(|scope| {
                scope.spawn(|| store.store(1000, &slow).unwrap());
                inside.wait();
                assert_eq!(script.alive.load(Ordering::SeqCst), 1);
                let results: Vec<_> =
                    (20..60).map(|key| store.store(key, block(key, 4096, Look::Noise))).collect();
                // A store that needs a context waits for the only one.
                let waiting = scope.spawn(|| store.store(60, runs(60)));
                go_on.wait();
                assert!(results.iter().all(|result| result.is_ok()), "{at_limit:?}: {results:?}");
                waiting.join().unwrap().unwrap();
            });
            assert_eq!((store.len(), store.stats().evicted), (62, 0), "{at_limit:?}");
            assert_eq!(script.most_alive.load(Ordering::SeqCst), 1, "{at_limit:?}");
            store.trim();
            assert!(store.bytes_held() < limit, "{at_limit:?}");
            check_books(&store);
        }
    });
}

/// A thread that stores one block after the other is never refused because of the context of the
/// previous one.
#[test]
fn large_idle_context_refuses_no_store() {
    for at_limit in [AtLimit::Evict, AtLimit::Refuse] {
        let script = Arc::new(Script::default());
        let store = fat(&script).limit_bytes(MIB / 4 * 3).at_limit(at_limit).build().unwrap();
        for key in 0..60u64 {
            store.store(key, runs(key)).unwrap_or_else(|error| panic!("{at_limit:?}: {error}"));
        }
        assert_eq!((store.len(), store.stats().evicted), (60, 0), "{at_limit:?}");
    }
}

/// A codec that uses the store of its own pool, a listener, and a batch whose items use the store
/// never wait for themselves.
#[test]
fn store_used_from_inside_does_not_deadlock() {
    ends(|| {
        let script = Arc::new(Script::default());
        let slot: Arc<OnceLock<Store<u64>>> = Arc::default();
        let again = slot.clone();
        let _ = script.inside.set(Box::new(move || {
            let store = again.get().expect("set below");
            store.store(1 << 50, runs(3)).unwrap();
        }));
        let behind = slot.clone();
        let store = fat(&script)
            .limit_bytes(4 * MIB)
            .at_limit(AtLimit::Evict)
            .on_evict(move |key, _| {
                let store = behind.get().expect("set below");
                store.store(1 << 51 | key, runs(*key)).unwrap();
            })
            .build()
            .unwrap();
        slot.set(store.clone()).unwrap();
        let mut nested = runs(1);
        nested[0] = 77;
        (0..20).for_each(|key| store.store(key, &nested).unwrap());
        let batch = (100..120u64).map(|key| {
            store.store(key << 32, &nested).unwrap();
            (key, &*nested)
        });
        assert!(store.store_many(batch).into_iter().all(|result| result.is_ok()));
        (1000..3000).for_each(|key| store.store(key, block(key, 4096, Look::Noise)).unwrap());
        assert!(store.stats().evicted > 0);
    });
}

/// Retired pools do not take the budget of others: each pool may have a context, and all contexts
/// are counted.
#[test]
fn every_pool_gets_its_context() {
    ends(|| {
        let script = Arc::new(Script::default());
        let store = fat(&script).limit_bytes(3 * MIB).at_limit(AtLimit::Evict).build().unwrap();
        let held = Mutex::new(Vec::new());
        for n in 1..5 {
            store.switch(&spec(&format!("zsmalloc(chain={n})+fat"))).unwrap();
            (0..50).for_each(|key| store.store(n * 100 + key, runs(key)).unwrap());
            held.lock().unwrap().push(store.bytes_held());
        }
        assert!(held.into_inner().unwrap().iter().all(|&held| held < 3 * MIB + MIB + 256 * 1024));
    });
}
