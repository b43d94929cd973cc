//! System calls and functions of glibc, past the symbols that this library replaces.

use std::ffi::{CStr, c_int, c_void};
use std::io;
use std::mem::MaybeUninit;
use std::ptr;

use zpool_core::internal::sync::atomic::{AtomicUsize, Ordering};

/// A request for a mapping, as `mmap` receives it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MapRequest {
    pub(crate) address: usize,
    pub(crate) len: usize,
    pub(crate) access: c_int,
    pub(crate) flags: c_int,
    pub(crate) descriptor: c_int,
    pub(crate) offset: i64,
}

/// The result of an `mmap` that failed.
pub(crate) const FAILED: *mut c_void = libc::MAP_FAILED;

impl MapRequest {
    /// Maps by the system.
    ///
    /// # Safety
    ///
    /// 1. If the flags say `MAP_FIXED`, the caller gives up what is in the range.
    pub(crate) unsafe fn map(self) -> *mut c_void {
        let MapRequest { address, len, access, flags, descriptor, offset } = self;
        // SAFETY: (1).
        let start = unsafe {
            libc::syscall(libc::SYS_mmap, address, len, access, flags, descriptor, offset)
        };
        ptr::with_exposed_provenance_mut(start as usize)
    }
}

/// Unmaps by the system.
///
/// # Safety
///
/// 1. The caller gives up what is in the range.
pub(crate) unsafe fn munmap(address: usize, len: usize) -> c_int {
    // SAFETY: (1).
    unsafe { libc::syscall(libc::SYS_munmap, address, len) as c_int }
}

/// Moves or resizes a mapping by the system.
///
/// # Safety
///
/// 1. As for the system call.
pub(crate) unsafe fn mremap(
    old: usize,
    old_len: usize,
    new_len: usize,
    flags: c_int,
    new: usize,
) -> *mut c_void {
    // SAFETY: (1).
    let start = unsafe { libc::syscall(libc::SYS_mremap, old, old_len, new_len, flags, new) };
    ptr::with_exposed_provenance_mut(start as usize)
}

/// Advises the system.
///
/// # Safety
///
/// 1. As for the system call.
pub(crate) unsafe fn madvise(address: usize, len: usize, advice: c_int) -> c_int {
    // SAFETY: (1).
    unsafe { libc::syscall(libc::SYS_madvise, address, len, advice) as c_int }
}

/// Sets access by the system.
///
/// # Safety
///
/// 1. As for the system call.
pub(crate) unsafe fn mprotect(address: usize, len: usize, access: c_int) -> c_int {
    // SAFETY: (1).
    unsafe { libc::syscall(libc::SYS_mprotect, address, len, access) as c_int }
}

/// Returns the bytes of a page.
pub(crate) fn page_size() -> usize {
    // SAFETY: reads a constant of the process.
    unsafe { libc::sysconf(libc::_SC_PAGESIZE) as usize }
}

/// Returns the error number of the calling thread.
pub(crate) fn errno() -> c_int {
    // SAFETY: always possible.
    let place = unsafe { libc::__errno_location() };
    // SAFETY: the thread's own variable.
    unsafe { *place }
}

/// Sets the error number of the calling thread.
pub(crate) fn set_errno(error: c_int) {
    // SAFETY: always possible.
    let place = unsafe { libc::__errno_location() };
    // SAFETY: the thread's own variable.
    unsafe { *place = error };
}

/// Sets the error number, and returns what a call that failed returns.
pub(crate) fn fail(error: c_int) -> c_int {
    set_errno(error);
    -1
}

/// Writes to the standard error, past all buffers. What cannot be written is lost.
pub(crate) fn write_stderr(text: &str) {
    write_raw(2, text);
}

/// Writes to a descriptor, past all buffers. Returns whether that was possible.
pub(crate) fn write_raw(descriptor: c_int, text: &str) -> bool {
    // SAFETY: reads the text.
    unsafe { libc::syscall(libc::SYS_write, descriptor, text.as_ptr(), text.len()) >= 0 }
}

/// Returns a second descriptor for the standard error, numbered from `least` on, if that is a
/// terminal or a file. For a pipe, it would keep the reader waiting for its end.
pub(crate) fn second_standard_error(least: c_int) -> Option<c_int> {
    let mut status = MaybeUninit::uninit();
    // SAFETY: writes the status.
    if unsafe { libc::fstat(2, status.as_mut_ptr()) } != 0 {
        return None;
    }
    // SAFETY: written by the call, which succeeded.
    let status: libc::stat = unsafe { status.assume_init() };
    let kind = status.st_mode & libc::S_IFMT;
    if kind != libc::S_IFREG && kind != libc::S_IFCHR {
        return None;
    }
    // SAFETY: a new descriptor.
    let second = unsafe { libc::fcntl(2, libc::F_DUPFD_CLOEXEC, least) };
    (second >= 0).then_some(second)
}

/// Ends the process at once.
pub(crate) fn exit_now(code: c_int) -> ! {
    // SAFETY: nothing of this process is needed any more.
    unsafe { libc::_exit(code) }
}

/// A function of the libraries behind this one, whose address is kept once it was looked up.
#[derive(Debug)]
pub(crate) struct NextFunction {
    name: &'static CStr,
    /// 0 until it was looked up.
    address: AtomicUsize,
}

impl NextFunction {
    pub(crate) const fn new(name: &'static CStr) -> NextFunction {
        NextFunction { name, address: AtomicUsize::new(0) }
    }

    /// Returns the address, or 0 if there is no such function.
    pub(crate) fn address(&self) -> usize {
        // Relaxed: every thread finds the same one.
        let known = self.address.load(Ordering::Relaxed);
        if known != 0 {
            return known;
        }
        // SAFETY: a name with its end.
        let found = unsafe { libc::dlsym(libc::RTLD_NEXT, self.name.as_ptr()) };
        let found = found.expose_provenance();
        self.address.store(found, Ordering::Relaxed);
        found
    }
}

/// Returns the address of the function that a name means in this process, or 0.
pub(crate) fn function_of_program(name: &CStr) -> usize {
    // SAFETY: a name with its end.
    unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) }.expose_provenance()
}

/// Returns the start of the library or program whose function a name means in this process.
pub(crate) fn place_of_function(name: &CStr) -> Option<usize> {
    // SAFETY: a name with its end.
    let function = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    let mut found = MaybeUninit::uninit();
    // SAFETY: any address may be asked for.
    if unsafe { libc::dladdr(function, found.as_mut_ptr()) } == 0 {
        return None;
    }
    // SAFETY: written by the call, which succeeded.
    let found: libc::Dl_info = unsafe { found.assume_init() };
    Some(found.dli_fbase.addr())
}

/// All signals of the calling thread are blocked until this is dropped.
#[derive(Debug)]
pub(crate) struct AllSignalsBlocked {
    before: libc::sigset_t,
}

impl AllSignalsBlocked {
    pub(crate) fn enter() -> AllSignalsBlocked {
        let mut all = MaybeUninit::uninit();
        // SAFETY: fills the set.
        unsafe { libc::sigfillset(all.as_mut_ptr()) };
        let mut before = MaybeUninit::uninit();
        // SAFETY: the set was filled; the mask before is written to the other.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr()) };
        // SAFETY: written by the call, which fails only for a first argument that it does not know.
        let before = unsafe { before.assume_init() };
        AllSignalsBlocked { before }
    }
}

impl Drop for AllSignalsBlocked {
    fn drop(&mut self) {
        // SAFETY: a set that the system has written.
        unsafe {
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.before, ptr::null_mut())
        };
    }
}

/// Maps a page of zeros that is zeros again in a forked child. It is never unmapped.
pub(crate) fn map_page_wiped_on_fork() -> io::Result<usize> {
    let request = MapRequest {
        address: 0,
        len: page_size(),
        access: libc::PROT_READ | libc::PROT_WRITE,
        flags: libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
        descriptor: -1,
        offset: 0,
    };
    // SAFETY: (1) not fixed.
    let page = unsafe { request.map() };
    if page == FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: (1) our own page; contents do not change in this process.
    if unsafe { madvise(page.addr(), page_size(), libc::MADV_WIPEONFORK) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(page.expose_provenance())
}
