//! A dictionary, digested once and shared by all contexts of a compressor.

use core::fmt;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use zpool_core::internal::open_regular;
use zstd::zstd_safe::zstd_sys::ZSTD_ErrorCode;
use zstd::zstd_safe::{CCtx, CDict, DCtx, DDict, SafeResult, is_error_kind};

use crate::xxh64::xxh64;

/// zstd ignores a shorter dictionary.
pub(crate) const MIN_BYTES: usize = 8;
/// Enough for any block size here. Bounds the bytes read from a file that has no end.
pub(crate) const MAX_BYTES: usize = 4 << 20;

/// Both digested forms, for one level.
pub(crate) struct Dictionary {
    pub(crate) compression: Arc<CDict<'static>>,
    pub(crate) decompression: DDict<'static>,
    /// XXH64 of the bytes with seed 0, as `xxhsum -H64` prints it.
    pub(crate) hash: u64,
}

impl Dictionary {
    /// Digests `bytes`: a trained dictionary, or any bytes that blocks may repeat.
    pub(crate) fn digest(bytes: &[u8], level: i32) -> Result<Dictionary, DigestError> {
        let compression = CDict::try_create(bytes, level).ok_or_else(|| reason(bytes))?;
        let decompression = DDict::try_create(bytes).ok_or_else(|| reason(bytes))?;
        Ok(Dictionary { compression: Arc::new(compression), decompression, hash: xxh64(bytes) })
    }

    /// Returns the bytes that both forms hold.
    pub(crate) fn bytes_held(&self) -> usize {
        size_of::<Self>() + self.compression.sizeof() + self.decompression.sizeof()
    }
}

/// The reason why zstd did not digest a dictionary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DigestError {
    /// It is a damaged trained one.
    Damaged,
    /// There is no memory.
    OutOfMemory,
}

/// Returns the reason why zstd did not digest `bytes`. Digesting does not report one, so we load
/// the dictionary in other ways, which do.
fn reason(bytes: &[u8]) -> DigestError {
    let compressed = CCtx::try_create()
        .map(|mut context| context.compress_using_dict(&mut [0; 64][..], &[0], bytes, 1));
    // Any 16 bytes do, because zstd loads the dictionary before it checks its input.
    let decompressed = DCtx::try_create()
        .map(|mut context| context.decompress_using_dict(&mut [0; 1][..], &[0; 16], bytes));
    let damaged = ZSTD_ErrorCode::ZSTD_error_dictionary_corrupted;
    let is_damaged = |loaded: SafeResult| loaded.is_err_and(|code| is_error_kind(code, damaged));
    if [compressed, decompressed].into_iter().flatten().any(is_damaged) {
        DigestError::Damaged
    } else {
        DigestError::OutOfMemory
    }
}

/// Reads the bytes of a dictionary in a regular file, and at most one more than [`MAX_BYTES`]. Does
/// not wait without bound, as [`open_regular`] says.
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open_regular(path)?.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

impl fmt::Debug for Dictionary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dictionary")
            .field("hash", &format_args!("{:016x}", self.hash))
            .field("bytes_held", &self.bytes_held())
            .finish_non_exhaustive()
    }
}
