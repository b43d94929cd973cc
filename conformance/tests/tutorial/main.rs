//! The back ends that `docs` builds step by step, which pass their suites.

#![allow(missing_docs, unreachable_pub, reason = "listings, as a program would have them")]

#[allow(unsafe_code, reason = "memory from a page source is read and written through raw pointers")]
mod blocks;
mod deflate;
#[rustfmt::skip]
mod shelf;

use std::sync::Mutex;

use zpool_conformance::{compressor_suite, pool_suite};
use zpool_core::compress::CompressorDriver;
use zpool_core::{HandleMint, PoolConfig, ZPoolDriver};
use zpool_testing::heap::{self, CountingAllocator, Heap};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

pool_suite!(
    shelf_pool,
    [],
    |_| Ok(Box::new(shelf::Shelf { mint: HandleMint::new(), shelf: Mutex::default() })),
    // Its objects are freed in `free`, and its copies with their guards.
    heap_calls = || Heap::now().allocations,
);
pool_suite!(
    blocks_pool,
    [],
    |source| blocks::BlocksDriver.create(&PoolConfig::new(source, 4096)),
    heap_calls = heap::calls,
);
pool_suite!(
    blocks_pool_of_64_kib,
    [],
    |source| blocks::BlocksDriver.create(&PoolConfig::new(source, 1 << 16)),
    heap_calls = heap::calls,
);
compressor_suite!(deflate_codec, [no_heap], deflate::DeflateDriver, "", heap_calls = heap::calls);
compressor_suite!(
    deflate_codec_at_level_1,
    [no_heap],
    deflate::DeflateDriver,
    "level=1",
    heap_calls = heap::calls,
);

/// `bytes_held` agrees with the heap.
#[test]
fn deflate_contexts_report_bytes() {
    let codec = deflate::DeflateDriver.open(&Default::default()).unwrap();
    let before = Heap::now();
    let mut writer = codec.compression_context(4096).unwrap();
    assert_eq!(Heap::since(before).bytes, writer.bytes_held() as isize);
    writer.compress(&[1; 4096], &mut [0; 100]).unwrap();
    assert_eq!(Heap::since(before).bytes, writer.bytes_held() as isize);

    let before = Heap::now();
    let reader = codec.decompression_context().unwrap();
    // And a box around the box.
    assert_eq!(Heap::since(before).bytes, (reader.bytes_held() + size_of::<usize>()) as isize);
}
