//! Heap calls of zstd, whose own allocations are routed through Rust's allocator here. A test
//! program of its own, because it replaces the allocator.

use std::sync::Arc;

use zpool_core::CreateError;
use zpool_core::compress::{Codec, CodecError, Compressor};
use zpool_testing::codecs::{check_refusals, round_trip_heap_calls, sample_blocks};
use zpool_testing::heap::{CountingAllocator, Heap, Refusal, refusing, refusing_some};
use zpool_zstd::ZstdCompressor;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

const NOTHING: Heap = Heap { allocations: 0, frees: 0, bytes: 0 };

/// Levels from the fastest to the densest.
const LEVELS: [i32; 6] = [-7, -1, 1, 3, 7, 19];

fn compressors() -> impl Iterator<Item = ZstdCompressor> {
    let dictionary = b"a page of memory, kept and compressed".repeat(30);
    LEVELS.into_iter().flat_map(move |level| {
        let with = ZstdCompressor::with_dictionary(level, &dictionary).unwrap();
        [ZstdCompressor::new(level).unwrap(), with]
    })
}

/// Once warm, compression and decompression make no heap call.
#[test]
fn warm_codec_makes_no_heap_call() {
    let blocks = sample_blocks();
    for compressor in compressors() {
        let codec = Codec::new(Arc::new(compressor), 4096);
        // One block makes the contexts, which then have all the memory they need, whatever its
        // length.
        let first = round_trip_heap_calls(&codec, &blocks[..1]);
        assert!(first.bytes > 90_000, "zstd's allocations are not seen: {first:?}");
        assert_eq!(round_trip_heap_calls(&codec, &blocks), NOTHING, "{codec:?}");
    }
}

/// By itself, zstd would free memory when blocks need little of it, and allocate it again for the
/// next block that needs more.
#[test]
fn many_short_blocks_in_a_row_do_not_shrink_a_context() {
    let page = sample_blocks().swap_remove(1);
    for compressor in compressors() {
        let compressor = Arc::new(compressor);
        for max_block_size in [4096, 16_384, 65_536, 262_144] {
            let codec = Codec::new(compressor.clone(), max_block_size);
            let (long, short) = (vec![page.clone()], vec![page[..16].to_vec(); 200]);
            round_trip_heap_calls(&codec, &long);
            for blocks in [&short, &long, &short, &long] {
                assert_eq!(round_trip_heap_calls(&codec, blocks), NOTHING, "{codec:?}");
            }
        }
    }
}

/// Contexts report the bytes that they allocated.
#[test]
fn bytes_held_equals_allocated_bytes() {
    for compressor in compressors() {
        for max_block_size in [1, 4096, 65_536] {
            let before = Heap::now();
            let mut context = compressor.compression_context(max_block_size).unwrap();
            // The counting of the library's allocations adds 16 bytes to each.
            let slack = |held: isize, said: usize| (0..=64).contains(&(held - said as isize));
            assert!(slack(Heap::since(before).bytes, context.bytes_held()));
            // For a buffer under the bound, the context allocates one of its own.
            context.compress(&[7; 600][..600.min(max_block_size)], &mut [0; 10]).unwrap();
            assert!(slack(Heap::since(before).bytes, context.bytes_held()));
        }
        let before = Heap::now();
        let context = compressor.decompression_context().unwrap();
        let (held, said) = (Heap::since(before).bytes, context.bytes_held() as isize);
        assert!((0..=64).contains(&(held - said)), "holds {held}, says {said}");
    }
}

/// A dictionary is held once and freed with its last user.
#[test]
fn dictionary_is_shared_and_freed_with_last_user() {
    let dictionary = b"a page of memory, kept and compressed".repeat(300);
    let before = Heap::now();
    let compressor = Arc::new(ZstdCompressor::with_dictionary(1, &dictionary).unwrap());
    let (held, said) = (Heap::since(before).bytes, compressor.dictionary_bytes() as isize);
    assert!((0..1024).contains(&(held - said)), "holds {held}, says {said}");
    assert!(said > 2 * dictionary.len() as isize, "both digested forms have a copy");

    let plain = ZstdCompressor::new(1).unwrap().compression_context(4096).unwrap().bytes_held();
    let contexts: Vec<_> = (0..4).map(|_| compressor.compression_context(4096).unwrap()).collect();
    assert!(contexts.iter().all(|context| context.bytes_held() < plain + dictionary.len()));
    // The contexts keep alive what they need of the codec.
    drop(compressor);
    let out = &mut [0; 5000];
    for mut context in contexts {
        context.compress(&dictionary[..4096], out).unwrap();
    }
    assert_eq!(Heap::since(before).bytes, 0);
}

/// If the heap refuses one of zstd's allocations for a dictionary, the error says that, and not
/// that the dictionary is damaged.
#[test]
fn refused_dictionary_is_out_of_memory() {
    let samples: Vec<Vec<u8>> =
        (0..800).map(|i| format!("id={i:04}, name=item {i}; ").repeat(20).into_bytes()).collect();
    let trained = zpool_zstd::train(&samples, 4096).unwrap();
    let raw = b"a page of memory, kept and compressed".repeat(30);
    for dictionary in [&trained, &raw] {
        // One allocation for compression, two for decompression.
        let refusals = [Refusal::Nth(0), Refusal::Nth(1), Refusal::Nth(2), Refusal::AtLeast(1024)];
        for refusal in refusals {
            let made = refusing(refusal, || ZstdCompressor::with_dictionary(1, dictionary));
            let error = made.map(drop).unwrap_err();
            assert_eq!(error, CreateError::OutOfMemory, "{refusal:?}");
        }
        assert!(ZstdCompressor::with_dictionary(1, dictionary).is_ok());
    }
}

/// A refused allocation is an error, for a context as for the buffer that a block needs later.
#[test]
fn refused_allocation_is_error() {
    check_refusals(&ZstdCompressor::new(1).unwrap());
}

/// Each refused allocation of a decompression context is an error.
#[test]
fn refused_decompression_context_is_error() {
    let compressor = ZstdCompressor::new(1).unwrap();
    for others in 0.. {
        let (made, refused) =
            refusing_some(Refusal::Nth(others), || compressor.decompression_context().map(drop));
        assert_eq!(made, if refused { Err(CodecError::OutOfMemory) } else { Ok(()) });
        if !refused {
            assert!(others >= 2, "zstd's context, and the box for it");
            break;
        }
    }
}
