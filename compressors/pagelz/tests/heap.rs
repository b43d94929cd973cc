//! Heap calls of pagelz. A test program of its own, because it replaces the allocator.

use std::sync::Arc;

use zpool_core::compress::{Codec, CodecError, Compressor};
use zpool_pagelz::PagelzCompressor;
use zpool_testing::codecs::{round_trip_heap_calls, sample_blocks};
use zpool_testing::heap::{CountingAllocator, Heap, Refusal, refusing_some};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

#[test]
fn warm_codec_makes_no_heap_call() {
    for level in PagelzCompressor::LEVELS {
        let codec = Codec::new(Arc::new(PagelzCompressor::new(level).unwrap()), 4096);
        let blocks = sample_blocks();
        assert!(
            round_trip_heap_calls(&codec, &blocks).allocations > 0,
            "the first pass makes a context"
        );
        let again = round_trip_heap_calls(&codec, &blocks);
        assert_eq!(again, Heap { allocations: 0, frees: 0, bytes: 0 }, "level {level}");
    }
}

#[test]
fn bytes_held_are_those_of_the_heap() {
    for level in PagelzCompressor::LEVELS {
        let before = Heap::now();
        let compressor = PagelzCompressor::new(level).unwrap();
        let shared = compressor.shared_bytes() as isize;
        let held = Heap::since(before).bytes;
        // Beyond the tables, the codec holds the parameters of its identity.
        assert!((shared..shared + 512).contains(&held), "level {level}: {held} of {shared}");
        for max_block_size in [1, 64, 4096, 65_536, 65_537, 1 << 18] {
            let before = Heap::now();
            let context = compressor.compression_context(max_block_size).unwrap();
            assert_eq!(context.bytes_held() as isize, Heap::since(before).bytes);
        }
    }
}

/// A refused allocation is an error, for a context as for what decompression needs.
#[test]
fn refused_allocation_is_error() {
    let mut refusals = 0;
    for level in PagelzCompressor::LEVELS {
        let compressor = PagelzCompressor::new(level).unwrap();
        let mut out = vec![0; 8192];
        let mut back = vec![0; 4000];
        let block: Vec<u8> = (0..4000).map(|i| (i % 7 + i % 11) as u8).collect();
        for others in 0.. {
            let (outcome, refused) = refusing_some(Refusal::Nth(others), || {
                let mut context = compressor.compression_context(100)?;
                context.compress(&block, &mut out)?;
                if !compressor.capabilities().stateless_decompression {
                    let len = match context.compress(&block, &mut out)? {
                        zpool_core::compress::Compressed::Len(len) => len,
                        zpool_core::compress::Compressed::DoesNotFit => unreachable!(),
                    };
                    compressor.decompression_context()?.decompress(&out[..len], &mut back)?;
                }
                Ok(())
            });
            if !refused {
                assert_eq!(outcome, Ok(()));
                break;
            }
            assert_eq!(outcome, Err(CodecError::OutOfMemory), "level {level}, request {others}");
            refusals += 1;
        }
    }
    assert!(refusals >= 30, "{refusals}");
}
