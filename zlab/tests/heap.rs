//! The heap calls of a warm store with each codec. Only lzo makes calls of its own. This is a
//! binary of its own, because it replaces the global allocator; zstd allocates through it here.

use std::sync::Arc;

use zpool_lz4::Lz4Driver;
use zpool_lzo::LzoDriver;
use zpool_pagelz::PagelzDriver;
use zpool_testing::heap::{CountingAllocator, calls_of};
use zpool_testing::processors::on_each_processor;
use zpool_zstd::{ZstdDriver, remember};
use zswap::plugin::Manual;
use zswap::{PoolSpec, Store};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// Returns pages that shrink, each in its own way.
fn pages() -> Vec<Vec<u8>> {
    let page =
        |i: usize| (0..4096usize).map(|at| (at * (1 + i % 50) / (3 + i) % 251) as u8).collect();
    (0..300).map(page).collect()
}

/// A warm store makes no heap call. Warm means that this thread has stored and loaded before, that
/// every key exists, and that neither pool nor index grows. So the test stores the same pages
/// again, with an executor that does not run the pool's own job, after as many passes as the size
/// classes take to settle.
#[test]
fn warm_store_makes_no_heap_call() {
    let pages = pages();
    let dictionary = remember(&pages[..20].concat()).expect("any bytes are a dictionary");
    let with_dictionary = format!("zstd(dict={dictionary})");
    for (codec, a_page) in [
        ("lz4", 0),
        ("pagelz", 0),
        ("pagelz(level=3)", 0),
        ("zstd", 0),
        ("zstd(level=-1)", 0),
        ("zstd(level=3)", 0),
        (&*with_dictionary, 0),
        // lzo allocates and frees two vectors.
        ("lzo", 4),
    ] {
        let spec: PoolSpec = format!("zsmalloc+{codec}").parse().unwrap();
        let store: Store<u64> = Store::builder()
            .spec(spec)
            .compressor(Arc::new(Lz4Driver))
            .compressor(Arc::new(ZstdDriver))
            .compressor(Arc::new(LzoDriver))
            .compressor(Arc::new(PagelzDriver))
            .executor(Arc::new(Manual::new()))
            .build()
            .unwrap();
        let mut buffer = [0; 4096];
        let mut pass = || {
            let stored = calls_of(|| {
                (0..).zip(&pages).for_each(|(key, page)| store.store(key, page).unwrap())
            });
            let loaded = calls_of(|| {
                for (key, page) in (0..).zip(&pages) {
                    assert_eq!(store.load(&key, &mut buffer).unwrap(), Some(4096));
                    assert!(buffer == page[..]);
                }
            });
            (stored, loaded)
        };
        let cold = pass();
        assert!(
            cold.0 > 100,
            "{codec}: contexts and tables are made, or nothing is counted: {cold:?}"
        );
        // zsmalloc caches free slots per CPU, and the scheduler may move this thread to any CPU.
        on_each_processor(|| {
            for _ in 0..16 {
                pass();
            }
        });
        let compressed = store.stats().stored_compressed as u64;
        assert!(compressed > 200, "the codec had something to do");
        on_each_processor(|| {
            assert_eq!(
                pass(),
                (a_page * compressed, 0),
                "{codec}: heap calls for {compressed} pages"
            );
        });
    }
}
