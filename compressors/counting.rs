//! A global allocator that counts calls per thread. Included by the test binaries that need it.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

std::thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    static FREES: Cell<u64> = const { Cell::new(0) };
    static BYTES: Cell<isize> = const { Cell::new(0) };
    /// Allocations until one is refused.
    static REFUSED_AFTER: Cell<Option<u64>> = const { Cell::new(None) };
}

/// The counts of the calling thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Heap {
    pub(crate) allocations: u64,
    pub(crate) frees: u64,
    /// Bytes allocated minus bytes freed.
    pub(crate) bytes: isize,
}

impl Heap {
    pub(crate) fn now() -> Heap {
        Heap { allocations: ALLOCATIONS.get(), frees: FREES.get(), bytes: BYTES.get() }
    }

    pub(crate) fn since(before: Heap) -> Heap {
        let now = Heap::now();
        Heap {
            allocations: now.allocations - before.allocations,
            frees: now.frees - before.frees,
            bytes: now.bytes - before.bytes,
        }
    }
}

/// Returns the allocations and frees of this thread, which a suite compares before and after.
#[allow(dead_code, reason = "not every program that includes this has a suite")]
pub(crate) fn calls() -> u64 {
    ALLOCATIONS.get() + FREES.get()
}

/// Calls `work` while one allocation of this thread is refused, the one after `others`. Also
/// returns whether it was requested. An infallible request aborts the process.
#[allow(dead_code, reason = "for codecs that have what can be refused")]
pub(crate) fn refusing<R>(others: u64, work: impl FnOnce() -> R) -> (R, bool) {
    REFUSED_AFTER.set(Some(others));
    let result = work();
    (result, REFUSED_AFTER.take().is_none())
}

/// Checks that a refused allocation is an error, for a context as for the buffer that a block needs
/// later.
#[allow(dead_code, reason = "for codecs that have what can be refused")]
pub(crate) fn check_refusals(compressor: &dyn zpool_core::compress::Compressor) {
    let mut refusals = 0;
    for max_block_len in [4096, 1 << 20] {
        for others in 0.. {
            let (compressed, refused) = refusing(others, || {
                let mut context = compressor.compression_context(max_block_len)?;
                context.compress(&[7; 600], &mut [0; 100])?;
                context.compress(&[7; 4000], &mut [0; 100])
            });
            let expected = if refused {
                Err(zpool_core::compress::CodecError::OutOfMemory)
            } else {
                compressed.clone()
            };
            assert_eq!(compressed, expected, "request {others}");
            if !refused {
                assert!(compressed.is_ok());
                break;
            }
            refusals += 1;
        }
    }
    assert!(refusals >= 8, "{refusals}");
}

struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

// SAFETY: forwards to the system's allocator, or returns null and changes nothing; the counters are
// plain cells, which allocate nothing and do not unwind. Reallocation is the trait's own, made of
// these two.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if let Some(others) = REFUSED_AFTER.get() {
            REFUSED_AFTER.set(others.checked_sub(1));
            if others == 0 {
                return std::ptr::null_mut();
            }
        }
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        BYTES.set(BYTES.get() + layout.size() as isize);
        // SAFETY: the caller's duties are the callee's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        FREES.set(FREES.get() + 1);
        BYTES.set(BYTES.get() - layout.size() as isize);
        // SAFETY: the caller's duties are the callee's.
        unsafe { System.dealloc(ptr, layout) }
    }
}

/// Blocks of 3 to 4000 bytes, some that shrink and some that do not.
pub(crate) fn blocks() -> Vec<Vec<u8>> {
    let text = b"a page of memory, compressed and kept; ".repeat(200);
    let noise: Vec<u8> =
        (0..9000u32).flat_map(|i| i.wrapping_mul(0x9E37_79B9).to_le_bytes()).collect();
    (1..40).flat_map(|i| [text[i * 3..i * 100].to_vec(), noise[i..i + 4000].to_vec()]).collect()
}

/// Compresses and decompresses every block through `codec`, and returns the heap calls of that.
pub(crate) fn pass(codec: &zpool_core::compress::Codec, blocks: &[Vec<u8>]) -> Heap {
    let (mut kept, mut back) = (vec![0; 8192], vec![0; 4096]);
    let before = Heap::now();
    for block in blocks {
        let len = codec.compress(block, kept.len(), |bytes| {
            let bytes = bytes.expect("8192 is over any bound here");
            kept[..bytes.len()].copy_from_slice(bytes);
            bytes.len()
        });
        codec.decompress(&kept[..len.unwrap()], &mut back[..block.len()]).unwrap();
        assert!(back[..block.len()] == block[..]);
    }
    Heap::since(before)
}
