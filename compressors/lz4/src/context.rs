//! The mutable half: hash tables, and an output buffer for callers whose own is short.

use core::fmt;

use lz4_flex::block::{CompressTable, compress_into_with_table, get_maximum_output_size};
use zpool_core::compress::{CodecError, Compressed, CompressionContext};
use zpool_core::internal::try_box;

/// For blocks of this many bytes and more, `lz4_flex` uses its table of 32-bit entries.
const LARGE_BLOCK: usize = u16::MAX as usize;

/// The tables and the buffer that one thread at a time compresses with.
///
/// The length of the *block*, not that of the context's largest block, decides which table is used.
/// So the output depends on the block alone.
pub(crate) struct Lz4Context {
    small: Box<CompressTable>,
    /// Present if the context is for blocks of [`LARGE_BLOCK`] bytes or more.
    large: Option<Box<CompressTable>>,
    /// Output buffer for callers whose own is shorter than the bound. Empty until it is needed,
    /// then as long as the largest such block needs.
    staging: Vec<u8>,
}

/// Bytes of a table: 4096 entries of 16 or of 32 bits.
const SMALL_TABLE_BYTES: usize = 4096 * size_of::<u16>();
const LARGE_TABLE_BYTES: usize = 4096 * size_of::<u32>();

/// Whether the library boxes its tables itself, in a way that ends the process if the heap refuses.
/// It does so with its feature `alloc`, which is off here, but another crate of the program may
/// turn it on.
const BOXED_BY_LIBRARY: bool = size_of::<CompressTable>() < SMALL_TABLE_BYTES;

impl Lz4Context {
    pub(crate) fn new(max_block_size: usize) -> Result<Lz4Context, CodecError> {
        let large = if max_block_size >= LARGE_BLOCK { Some(large_table()?) } else { None };
        let small = boxed_table(SMALL_TABLE_BYTES, CompressTable::small)?;
        Ok(Lz4Context { small, large, staging: Vec::new() })
    }
}

#[cold]
fn large_table() -> Result<Box<CompressTable>, CodecError> {
    boxed_table(LARGE_TABLE_BYTES, CompressTable::large)
}

/// Boxes a table.
fn boxed_table(
    bytes: usize,
    make: fn() -> CompressTable,
) -> Result<Box<CompressTable>, CodecError> {
    if BOXED_BY_LIBRARY {
        // The best that we can do: if the heap has this much memory now, the library gets it,
        // unless another thread takes it first.
        reserve(&mut Vec::new(), bytes)?;
    }
    try_box(make()).map_err(|_| CodecError::OutOfMemory)
}

/// Returns the bytes that a boxed table holds on the heap.
fn table_bytes(inside: usize) -> usize {
    size_of::<CompressTable>() + if BOXED_BY_LIBRARY { inside } else { 0 }
}

/// Makes room for `more` bytes.
fn reserve(buffer: &mut Vec<u8>, more: usize) -> Result<(), CodecError> {
    buffer.try_reserve_exact(more).map_err(|_| CodecError::OutOfMemory)
}

impl CompressionContext for Lz4Context {
    #[inline]
    fn compress(&mut self, block: &[u8], out: &mut [u8]) -> Result<Compressed, CodecError> {
        let table = if block.len() < LARGE_BLOCK {
            &mut self.small
        } else {
            match &mut self.large {
                Some(large) => large,
                none => none.insert(large_table()?),
            }
        };
        let bound = get_maximum_output_size(block.len());
        if out.len() >= bound {
            return compress_into_with_table(block, out, table)
                .map(Compressed::Len)
                .map_err(misbehaved);
        }
        compress_to_short(block, out, table, &mut self.staging, bound)
    }

    fn bytes_held(&self) -> usize {
        let large = if self.large.is_some() { table_bytes(LARGE_TABLE_BYTES) } else { 0 };
        size_of::<Self>() + table_bytes(SMALL_TABLE_BYTES) + large + self.staging.capacity()
    }
}

/// Compresses into `staging`, then copies. The library refuses each buffer shorter than its bound,
/// even if the compressed form would fit.
#[cold]
fn compress_to_short(
    block: &[u8],
    out: &mut [u8],
    table: &mut CompressTable,
    staging: &mut Vec<u8>,
    bound: usize,
) -> Result<Compressed, CodecError> {
    if staging.len() < bound {
        reserve(staging, bound - staging.len())?;
        staging.resize(bound, 0);
    }
    let len = compress_into_with_table(block, staging, table).map_err(misbehaved)?;
    let Some(place) = out.get_mut(..len) else { return Ok(Compressed::DoesNotFit) };
    place.copy_from_slice(&staging[..len]);
    Ok(Compressed::Len(len))
}

/// Converts the library's one error, a buffer shorter than its bound, which we never pass.
#[cold]
fn misbehaved(error: lz4_flex::block::CompressError) -> CodecError {
    CodecError::Misbehaved(error.to_string())
}

impl fmt::Debug for Lz4Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lz4Context").field("bytes_held", &self.bytes_held()).finish_non_exhaustive()
    }
}
