//! A tier in a file of this machine.

use std::error::Error;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use zpool_core::backing::{
    AlignedBytes, BackingCapabilities, BackingError, BackingStore, CapabilitiesError, SegmentNumber,
};
use zpool_core::internal::sync::atomic::{AtomicU32, Ordering};
use zpool_core::might_block;

use crate::media::file_io::{read_all, write_all};
use crate::media::temporary;

/// The bytes of a segment unless chosen otherwise: 1 MiB.
pub const DEFAULT_SEGMENT_BYTES: usize = 1 << 20;

/// A tier in a temporary file.
///
/// ```text
///   file    | segment 0 | segment 1 | segment 2 | ...     allocated at start, mode 0600
/// ```
///
/// - On Linux the file has no name, where the file system supports that. Elsewhere it has one, with
///   mode 0600, for a moment after it is made; a crash in that moment leaves the file. Otherwise
///   its space is free once the process has ended, even after a crash.
/// - **Memory reaches the disk unencrypted.** To encrypt it, put a
///   [`SealedStore`](crate::tier::SealedStore) in front, with a key that dies with the process.
/// - Its space is allocated when it is made, if the file system can
///   ([`is_allocated`](Self::is_allocated)). Then a full disk is an error at once, and not later.
/// - It uses direct I/O where the file system has it ([`is_direct`](Self::is_direct)). Otherwise
///   the page cache would be a second tier, which no limit covers. Elsewhere it advises the kernel
///   to forget what was written and read.
///
/// The file descriptor is inherited by a forked child, which shares the file, and closed by `exec`.
///
/// # Example
///
/// ```
/// use zswap::plugin::{AlignedBytes, BackingStore, SegmentNumber};
/// use zswap::tier::FileTier;
///
/// let tier = FileTier::temporary(std::env::temp_dir(), 8 << 20)?;
/// assert_eq!(tier.capabilities().segments(), 8);
///
/// let mut segment = tier.capabilities().segment_buffer()?;
/// segment.fill(7);
/// tier.write(SegmentNumber::new(3), &segment)?;
///
/// let alignment = tier.capabilities().alignment();
/// let mut part = AlignedBytes::zeroed(alignment, alignment)?;
/// tier.read(SegmentNumber::new(3), 2 * alignment, &mut part)?;
/// assert!(part.iter().all(|byte| *byte == 7));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct FileTier {
    file: File,
    capabilities: BackingCapabilities,
    direct: bool,
    allocated: bool,
    /// The segment written last. The page cache may forget it when the next one is written.
    latest: AtomicU32,
}

/// How a [`FileTier`] uses the page cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum PageCache {
    /// Bypasses it by direct I/O, where the file system has that. The default.
    #[default]
    Bypass,
    /// Goes through it, and advises the kernel to forget what was written and read.
    Use,
}

/// Settings of a [`FileTier`].
#[derive(Debug, Clone)]
pub struct FileTierBuilder {
    directory: PathBuf,
    bytes: u64,
    segment_bytes: usize,
    page_cache: PageCache,
}

impl FileTier {
    /// Makes a tier of `bytes` in `directory`, in segments of [`DEFAULT_SEGMENT_BYTES`].
    ///
    /// # Errors
    ///
    /// As for [`FileTierBuilder::build`].
    pub fn temporary(directory: impl AsRef<Path>, bytes: u64) -> Result<FileTier, FileTierError> {
        FileTier::builder(directory, bytes).build()
    }

    /// Begins to make a tier of `bytes` in `directory`.
    pub fn builder(directory: impl AsRef<Path>, bytes: u64) -> FileTierBuilder {
        FileTierBuilder {
            directory: directory.as_ref().to_owned(),
            bytes,
            segment_bytes: DEFAULT_SEGMENT_BYTES,
            page_cache: PageCache::default(),
        }
    }

    /// Returns whether reads and writes bypass the page cache.
    pub fn is_direct(&self) -> bool {
        self.direct
    }

    /// Returns whether the file system has allocated all of the file. If not, because it cannot,
    /// then a write may find the disk [full](BackingError::Full).
    pub fn is_allocated(&self) -> bool {
        self.allocated
    }

    fn offset_of(&self, segment: SegmentNumber) -> u64 {
        u64::from(segment.get()) * self.capabilities.segment_bytes() as u64
    }

    /// Lets the page cache forget the segment written now, and the one before, which the kernel
    /// has written to the disk since.
    fn forget_written(&self, segment: SegmentNumber) {
        // Relaxed: a hint.
        let before = self.latest.swap(segment.get(), Ordering::Relaxed);
        for segment in [SegmentNumber::new(before), segment] {
            self.forget_cached(self.offset_of(segment), self.capabilities.segment_bytes());
        }
    }

    fn forget_cached(&self, offset: u64, len: usize) {
        #[cfg(target_os = "linux")]
        temporary::linux::forget_cached(&self.file, offset, len);
        #[cfg(not(target_os = "linux"))]
        let _ = (offset, len);
    }
}

impl FileTierBuilder {
    /// Sets the bytes of a segment (default: [`DEFAULT_SEGMENT_BYTES`]). Longer segments are
    /// written at a higher rate, and shorter ones are freed sooner.
    pub fn segment_bytes(self, segment_bytes: usize) -> FileTierBuilder {
        FileTierBuilder { segment_bytes, ..self }
    }

    /// Sets how the tier uses the page cache.
    pub fn page_cache(self, page_cache: PageCache) -> FileTierBuilder {
        FileTierBuilder { page_cache, ..self }
    }

    /// Makes the tier. The bytes are rounded down to whole segments.
    ///
    /// # Errors
    ///
    /// [`FileTierError`] if the bytes are less than a segment, or if the file cannot be created or
    /// allocated.
    ///
    /// # Concurrency
    ///
    /// May block.
    pub fn build(self) -> Result<FileTier, FileTierError> {
        might_block("FileTierBuilder::build");
        let capabilities = self.capabilities()?;
        let file = temporary::create_unnamed(&self.directory)
            .map_err(|error| self.error(FileTierProblem::Create(error)))?;
        let allocated = temporary::allocate(&file, capabilities.capacity())
            .map_err(|error| self.error(FileTierProblem::Allocate(error)))?;
        let latest = AtomicU32::new(0);
        let tier = FileTier { file, capabilities, direct: false, allocated, latest };
        Ok(self.with_page_cache(tier))
    }

    fn capabilities(&self) -> Result<BackingCapabilities, FileTierError> {
        BackingCapabilities::with_capacity(self.bytes, self.segment_bytes)
            .map_err(|error| self.error(FileTierProblem::Capabilities(error)))
    }

    /// Makes the tier direct if that is wanted and works, and buffered otherwise.
    #[cfg(target_os = "linux")]
    fn with_page_cache(&self, tier: FileTier) -> FileTier {
        use temporary::linux::{direct_alignment, expect_random_reads, set_direct};

        let alignment = direct_alignment(&tier.file);
        let aligned = tier.capabilities.with_alignment(alignment);
        if let (PageCache::Bypass, Ok(capabilities)) = (self.page_cache, aligned) {
            if set_direct(&tier.file, true).is_ok() && try_transfer(&tier.file, alignment).is_ok() {
                return FileTier { capabilities, direct: true, ..tier };
            }
            // If it cannot be turned off, it was not turned on.
            let _ = set_direct(&tier.file, false);
        }
        expect_random_reads(&tier.file);
        tier
    }

    #[cfg(not(target_os = "linux"))]
    fn with_page_cache(&self, tier: FileTier) -> FileTier {
        tier
    }

    fn error(&self, problem: FileTierProblem) -> FileTierError {
        FileTierError {
            directory: self.directory.clone(),
            bytes: self.bytes,
            segment_bytes: self.segment_bytes,
            problem,
        }
    }
}

/// Writes and reads the first unit: some file systems take the flag of direct I/O, and then refuse
/// each transfer.
#[cfg(target_os = "linux")]
fn try_transfer(file: &File, alignment: usize) -> Result<(), BackingError> {
    let mut unit = AlignedBytes::zeroed(alignment, alignment)?;
    write_all(&unit, 0, alignment, |bytes, offset| file.write_at(bytes, offset))?;
    read_all(&mut unit, 0, alignment, |into, offset| file.read_at(into, offset))
}

impl BackingStore for FileTier {
    fn capabilities(&self) -> BackingCapabilities {
        self.capabilities
    }

    fn write(&self, segment: SegmentNumber, bytes: &[u8]) -> Result<(), BackingError> {
        self.capabilities.check_write(segment, bytes);
        let (offset, alignment) = (self.offset_of(segment), self.capabilities.alignment());
        write_all(bytes, offset, alignment, |bytes, offset| self.file.write_at(bytes, offset))?;
        if !self.direct {
            self.forget_written(segment);
        }
        Ok(())
    }

    fn read(
        &self,
        segment: SegmentNumber,
        offset: usize,
        into: &mut [u8],
    ) -> Result<(), BackingError> {
        self.capabilities.check_read(segment, offset, into);
        let (at, alignment) =
            (self.offset_of(segment) + offset as u64, self.capabilities.alignment());
        read_all(into, at, alignment, |into, offset| self.file.read_at(into, offset))?;
        if !self.direct {
            self.forget_cached(at, into.len());
        }
        Ok(())
    }

    /// Keeps the space: it was allocated for this tier, and freeing it takes longer than a write.
    fn discard(&self, segment: SegmentNumber) -> Result<(), BackingError> {
        self.capabilities.check_discard(segment);
        Ok(())
    }
}

impl fmt::Debug for FileTier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FileTier { capabilities, direct, allocated, .. } = self;
        f.debug_struct("FileTier")
            .field("capabilities", capabilities)
            .field("direct", direct)
            .field("allocated", allocated)
            .finish_non_exhaustive()
    }
}

/// The reason why there is no [`FileTier`].
#[derive(Debug)]
pub struct FileTierError {
    directory: PathBuf,
    bytes: u64,
    segment_bytes: usize,
    problem: FileTierProblem,
}

#[derive(Debug)]
enum FileTierProblem {
    Capabilities(CapabilitiesError),
    Create(io::Error),
    Allocate(io::Error),
}

impl FileTierError {
    /// Returns the error of the operating system, if it was one.
    pub fn io_error(&self) -> Option<&io::Error> {
        match &self.problem {
            FileTierProblem::Capabilities(_) => None,
            FileTierProblem::Create(error) | FileTierProblem::Allocate(error) => Some(error),
        }
    }

    /// Returns ", where N are available" if the system knows the number.
    fn available(&self) -> String {
        #[cfg(target_os = "linux")]
        if let Some(available) = temporary::linux::available(&self.directory) {
            return format!(", where {available} are available");
        }
        String::new()
    }
}

impl fmt::Display for FileTierError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (directory, bytes) = (self.directory.display(), self.bytes);
        match &self.problem {
            FileTierProblem::Capabilities(error) => {
                write!(f, "no tier of {bytes} bytes in segments of {}: {error}", self.segment_bytes)
            }
            FileTierProblem::Create(error) => write!(
                f,
                "cannot create a file for a tier in {directory}: {error}; name a directory that \
                 this process may write to"
            ),
            FileTierProblem::Allocate(error) => write!(
                f,
                "cannot allocate {bytes} bytes for a tier in {directory}{}: {error}; make it \
                 smaller, or name a directory of a larger file system",
                self.available()
            ),
        }
    }
}

/// The text is whole, so there is no source (`docs/decisions/0039`).
impl Error for FileTierError {}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use rustix::io::{FdFlags, fcntl_getfd};

    use super::*;

    fn tier_in(directory: &Path, page_cache: PageCache) -> FileTier {
        FileTier::builder(directory, 3 << 20).page_cache(page_cache).build().unwrap()
    }

    /// The file has no name while it is open, only its owner may use it, `exec` closes it, and its
    /// whole length is allocated.
    #[test]
    fn file_is_private_and_allocated() {
        let directory = tempfile::tempdir().unwrap();
        let tier = tier_in(directory.path(), PageCache::Bypass);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
        let meta = tier.file.metadata().unwrap();
        assert_eq!((meta.permissions().mode() & 0o777, meta.nlink()), (0o600, 0));
        assert_eq!(meta.len(), 3 << 20);
        assert!(!tier.is_allocated() || meta.blocks() * 512 >= 3 << 20);
        assert!(fcntl_getfd(&tier.file).unwrap().contains(FdFlags::CLOEXEC));
    }

    /// If a file cannot be made without a name, its name is removed at once.
    #[test]
    fn fallback_leaves_no_name() {
        let directory = tempfile::tempdir().unwrap();
        let taken = directory.path().join(format!(".zswap-tier-{}-0", std::process::id()));
        std::fs::write(&taken, b"another tier's").unwrap();
        let created = temporary::create_and_unlink(directory.path()).unwrap();
        assert_eq!(created.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
        assert_eq!(std::fs::read(&taken).unwrap(), b"another tier's");
    }

    /// Direct and buffered files both work, in the temporary directory and in memory.
    #[test]
    fn page_cache_is_as_chosen() {
        for directory in [std::env::temp_dir(), PathBuf::from("/dev/shm")] {
            if !directory.is_dir() {
                continue;
            }
            for page_cache in [PageCache::Bypass, PageCache::Use] {
                let tier = tier_in(&directory, page_cache);
                let flags = rustix::fs::fcntl_getfl(&tier.file).unwrap();
                let direct = flags.contains(rustix::fs::OFlags::DIRECT);
                assert_eq!(direct, tier.is_direct());
                assert!(page_cache == PageCache::Bypass || !direct);
                assert_eq!(tier.capabilities().alignment() > 1, direct);
            }
        }
    }

    /// A file that is truncated from outside is a failure, and neither zeros nor an endless loop.
    #[test]
    fn truncated_file_fails_reads() {
        for page_cache in [PageCache::Bypass, PageCache::Use] {
            let tier = tier_in(&std::env::temp_dir(), page_cache);
            tier.file.set_len(1 << 20).unwrap();
            let mut bytes = tier.capabilities().segment_buffer().unwrap();
            tier.read(SegmentNumber::new(0), 0, &mut bytes).unwrap();
            let error = tier.read(SegmentNumber::new(1), 0, &mut bytes).unwrap_err();
            assert!(matches!(error, BackingError::Failed(_)), "{error}");
        }
    }

    /// Errors name the directory, the sizes and a remedy.
    #[test]
    fn errors_name_directory_and_sizes() {
        let missing = FileTier::temporary("/nonexistent/tier", 1 << 20).unwrap_err();
        assert_eq!(missing.io_error().unwrap().kind(), io::ErrorKind::NotFound);
        assert!(missing.to_string().contains("in /nonexistent/tier: "), "{missing}");
        let small = FileTier::temporary("/tmp", 1000).unwrap_err();
        assert!(small.io_error().is_none());
        assert!(small.to_string().contains("1000 bytes in segments of 1048576"), "{small}");
        // More than any file system of a test machine has.
        let large = FileTier::temporary(std::env::temp_dir(), 1 << 50).unwrap_err();
        let text = large.to_string();
        assert!(text.contains(&format!("allocate {} bytes", 1_u64 << 50)), "{text}");
        assert!(text.contains("are available") && large.source().is_none(), "{text}");
    }
}
