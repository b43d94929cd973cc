//! A dictionary, digested once and shared by all contexts of a compressor.

use core::fmt;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use zstd::zstd_safe::{CDict, DDict};

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
    /// Digests `bytes`: a trained dictionary, or any bytes that blocks may repeat. Returns `None`
    /// if it is a damaged trained one, or if there is no memory.
    pub(crate) fn digest(bytes: &[u8], level: i32) -> Option<Dictionary> {
        Some(Dictionary {
            compression: Arc::new(CDict::try_create(bytes, level)?),
            decompression: DDict::try_create(bytes)?,
            hash: xxh64(bytes),
        })
    }

    /// Returns the bytes that both forms hold.
    pub(crate) fn bytes_held(&self) -> usize {
        size_of::<Self>() + self.compression.sizeof() + self.decompression.sizeof()
    }
}

/// Reads a dictionary's bytes, and at most one more than [`MAX_BYTES`].
///
/// A compressor is opened while other switches wait, so this must not wait without bound, and reads
/// only a regular file. Other files wait for a writer (a named pipe), never end (a device), or
/// cannot be read (a directory, a socket).
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    // Checked before opening, which has side effects on some devices, and again after, because the
    // path may lead to another file by then.
    regular(&fs::metadata(path)?)?;
    let file = open(path)?;
    regular(&file.metadata()?)?;
    let mut bytes = Vec::new();
    file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn regular(file: &Metadata) -> io::Result<()> {
    if file.is_file() {
        return Ok(());
    }
    let what = if file.is_dir() { "a directory" } else { "a pipe, device or socket" };
    let message = format!("it is {what}; a dictionary must be a regular file");
    Err(io::Error::new(io::ErrorKind::InvalidInput, message))
}

/// Opens a file without waiting for it.
fn open(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.read(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        // Without this flag, opening a named pipe waits for a writer, and opening some devices for
        // their other side. It does not affect reading a regular file. NOCTTY keeps a terminal from
        // becoming ours.
        let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
        options.custom_flags(flags.bits().cast_signed());
    }
    options.open(path)
}

impl fmt::Debug for Dictionary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dictionary")
            .field("hash", &format_args!("{:016x}", self.hash))
            .field("bytes_held", &self.bytes_held())
            .finish_non_exhaustive()
    }
}
