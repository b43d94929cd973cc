//! Temporary files, and what Linux knows about them.

use std::fs::File;
use std::io;
use std::path::Path;

/// Creates a file in `directory` that is gone when it is closed.
///
/// On Linux it never has a name, where the file system supports that. Elsewhere it has one for a
/// moment. A process of the same user can open it in that moment.
pub(super) fn create_unnamed(directory: &Path) -> io::Result<File> {
    #[cfg(target_os = "linux")]
    match linux::create_unnamed(directory) {
        // What file systems without support say, and kernels that do not know the flag.
        Err(error) if linux::is_unsupported(&error) => {}
        created => return created,
    }
    create_and_unlink(directory)
}

/// Creates a file with a name that is not taken, and removes the name.
pub(super) fn create_and_unlink(directory: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;

    let mut options = File::options();
    options.read(true).write(true).create_new(true).mode(0o600);
    for attempt in 0..1000 {
        let path = directory.join(format!(".zswap-tier-{}-{attempt}", std::process::id()));
        match options.open(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
            Ok(file) => {
                std::fs::remove_file(&path)?;
                return Ok(file);
            }
        }
    }
    Err(io::Error::other("1000 files of other tiers are in the way: remove .zswap-tier-*"))
}

/// Allocates `len` bytes for `file`. Returns false if the file system cannot, and has only set the
/// length.
pub(super) fn allocate(file: &File, len: u64) -> io::Result<bool> {
    #[cfg(target_os = "linux")]
    match linux::allocate(file, len) {
        Err(error) if linux::is_unsupported(&error) => {}
        allocated => return allocated.map(|()| true),
    }
    file.set_len(len).map(|()| false)
}

#[cfg(target_os = "linux")]
pub(super) mod linux {
    //! System calls that std does not have.

    use std::fs::File;
    use std::io;
    use std::num::NonZeroU64;
    use std::path::Path;

    use rustix::fs::{self, Advice, AtFlags, FallocateFlags, Mode, OFlags, StatxFlags};
    use rustix::io::{Errno, retry_on_intr};

    /// The alignment of direct I/O if the kernel does not name it: that of all common disks.
    const COMMON_ALIGNMENT: usize = 4096;

    /// Creates a file that never has a name, not even later (`O_EXCL`).
    pub(crate) fn create_unnamed(directory: &Path) -> io::Result<File> {
        let flags = OFlags::TMPFILE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC;
        let opened = retry_on_intr(|| fs::open(directory, flags, Mode::RUSR | Mode::WUSR));
        Ok(File::from(opened?))
    }

    /// Returns whether `error` means that the file system or kernel lacks the operation.
    pub(crate) fn is_unsupported(error: &io::Error) -> bool {
        let codes = [Errno::OPNOTSUPP, Errno::NOSYS, Errno::INVAL, Errno::ISDIR];
        error.raw_os_error().is_some_and(|code| codes.contains(&Errno::from_raw_os_error(code)))
    }

    /// Allocates the first `len` bytes.
    pub(crate) fn allocate(file: &File, len: u64) -> io::Result<()> {
        let allocate = || fs::fallocate(file, FallocateFlags::empty(), 0, len);
        Ok(retry_on_intr(allocate)?)
    }

    /// Turns direct I/O on or off. Fails where the file system has none.
    pub(crate) fn set_direct(file: &File, direct: bool) -> io::Result<()> {
        let mut flags = fs::fcntl_getfl(file)?;
        flags.set(OFlags::DIRECT, direct);
        Ok(fs::fcntl_setfl(file, flags)?)
    }

    /// Returns the alignment in bytes that direct I/O on `file` needs.
    pub(crate) fn direct_alignment(file: &File) -> usize {
        let stat = fs::statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN);
        let named = stat.ok().filter(|stat| stat.stx_mask & StatxFlags::DIOALIGN.bits() != 0);
        let alignment = named.map(|stat| stat.stx_dio_mem_align.max(stat.stx_dio_offset_align));
        match alignment {
            Some(alignment) if alignment.is_power_of_two() => alignment as usize,
            _ => COMMON_ALIGNMENT,
        }
    }

    /// Returns the bytes that this user can still allocate in the file system of `directory`.
    pub(crate) fn available(directory: &Path) -> Option<u64> {
        let stat = fs::statvfs(directory).ok()?;
        stat.f_bavail.checked_mul(stat.f_frsize)
    }

    /// Advises the kernel that a range is not needed in the page cache. Written bytes begin their
    /// way to the disk and stay until a later advice.
    pub(crate) fn forget_cached(file: &File, offset: u64, len: usize) {
        if let Some(len) = NonZeroU64::new(len as u64) {
            // A hint: the contents are right without it.
            let _ = fs::fadvise(file, offset, Some(len), Advice::DontNeed);
        }
    }

    /// Advises the kernel to read nothing ahead.
    pub(crate) fn expect_random_reads(file: &File) {
        let _ = fs::fadvise(file, 0, None, Advice::Random);
    }
}
