//! A dictionary, digested once and shared by all contexts of a codec.

use core::fmt;
use std::fs::{File, FileType};
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use zstd::zstd_safe::{CDict, DDict};

use crate::xxh64::xxh64;

/// zstd ignores a dictionary that is shorter.
pub(crate) const MIN_BYTES: usize = 8;
/// Enough for any block size here, and a bound for what is read from a file that has no end.
pub(crate) const MAX_BYTES: usize = 4 << 20;

/// Both digested forms, for one level.
pub(crate) struct Dictionary {
    pub(crate) compression: Arc<CDict<'static>>,
    pub(crate) decompression: DDict<'static>,
    /// XXH64 of the bytes, with seed 0: what `xxhsum -H64` prints of the file.
    pub(crate) hash: u64,
}

impl Dictionary {
    /// Digests `bytes`: a trained dictionary, or any bytes that blocks may repeat. `None` if they are a damaged trained one, or if there is no memory.
    pub(crate) fn digest(bytes: &[u8], level: i32) -> Option<Dictionary> {
        Some(Dictionary {
            compression: Arc::new(CDict::try_create(bytes, level)?),
            decompression: DDict::try_create(bytes)?,
            hash: xxh64(bytes),
        })
    }

    /// Bytes that both forms hold.
    pub(crate) fn bytes_held(&self) -> usize {
        size_of::<Self>() + self.compression.sizeof() + self.decompression.sizeof()
    }
}

/// Reads a dictionary's bytes, and at most one more than [`MAX_BYTES`].
///
/// A pipe, socket or folder is an error: opening a pipe would wait for a writer, and the caller may hold a lock.
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    if let Some(what) = no_dictionary(std::fs::metadata(path)?.file_type()) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("it is {what}")));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// What a path names instead of a file or a device.
fn no_dictionary(kind: FileType) -> Option<&'static str> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        if kind.is_fifo() {
            return Some("a pipe");
        }
        if kind.is_socket() {
            return Some("a socket");
        }
    }
    kind.is_dir().then_some("a folder")
}

impl fmt::Debug for Dictionary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dictionary")
            .field("hash", &format_args!("{:016x}", self.hash))
            .field("bytes_held", &self.bytes_held())
            .finish_non_exhaustive()
    }
}
