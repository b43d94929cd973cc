//! The eight ioctls of `userfaultfd`, by rustix, and the events that are read from it.
//!
//! Each function is one system call. Which page may be moved or filled, and when, is decided by the
//! engine; here are only the calls, with the promises that they need.

use std::fs::File;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::{io, ptr};

use rustix::io::{DupFlags, Errno, dup3, fcntl_dupfd_cloexec};
use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, Updater, ioctl, opcode};
use rustix::mm::UserfaultfdFlags;

use crate::error::RegionError;

/// The group of these ioctls in their numbers.
const GROUP: u8 = 0xAA;
const NEW: Opcode = opcode::none(GROUP, 0x00);
const API: Opcode = opcode::read_write::<ApiArgs>(GROUP, 0x3F);
const REGISTER: Opcode = opcode::read_write::<RegisterArgs>(GROUP, 0x00);
const WAKE: Opcode = opcode::read::<RangeArgs>(GROUP, 0x02);
const COPY: Opcode = opcode::read_write::<TransferArgs>(GROUP, 0x03);
const ZEROPAGE: Opcode = opcode::read_write::<FillArgs>(GROUP, 0x04);
const MOVE: Opcode = opcode::read_write::<TransferArgs>(GROUP, 0x05);
const POISON: Opcode = opcode::read_write::<FillArgs>(GROUP, 0x08);

/// The version of the interface, in `ApiArgs`.
const API_VERSION: u64 = 0xAA;
const FEATURE_SIGBUS: u64 = 1 << 7;
const FEATURE_POISON: u64 = 1 << 14;
const FEATURE_MOVE: u64 = 1 << 16;
/// Mode of `REGISTER`: report accesses to missing pages.
const MISSING: u64 = 1;
/// Mode of `MOVE`: do not wake threads that wait for the target, because there are none.
const MOVE_DONTWAKE: u64 = 1;
/// Flag of the system call: report faults of user mode only, which needs no privilege.
const USER_MODE_ONLY: u32 = 1;

/// The kind of event of a fault.
const EVENT_PAGEFAULT: u8 = 0x12;
const FAULT_WRITE: u64 = 1;
const EVENT_BYTES: usize = 32;
/// Events that one read returns at most.
pub(crate) const EVENTS_PER_READ: usize = 16;

#[repr(C)]
struct ApiArgs {
    version: u64,
    features: u64,
    ioctls: u64,
}

#[repr(C)]
struct RangeArgs {
    start: u64,
    len: u64,
}

#[repr(C)]
struct RegisterArgs {
    range: RangeArgs,
    mode: u64,
    ioctls: u64,
}

/// Arguments of `ZEROPAGE` and `POISON`; `done` is the bytes that were filled, or an error.
#[repr(C)]
struct FillArgs {
    range: RangeArgs,
    mode: u64,
    done: i64,
}

/// Arguments of `COPY` and `MOVE`; `done` is the bytes that were transferred, or an error.
#[repr(C)]
struct TransferArgs {
    to: u64,
    from: u64,
    len: u64,
    mode: u64,
    done: i64,
}

/// The ioctl of `/dev/userfaultfd` that makes a descriptor. It returns the descriptor's number.
struct NewDescriptor {
    flags: u32,
}

// SAFETY: the opcode takes its flags by value and returns a new descriptor, as the kernel's
// documentation of `USERFAULTFD_IOC_NEW` says.
unsafe impl Ioctl for NewDescriptor {
    type Output = OwnedFd;

    const IS_MUTATING: bool = false;

    fn opcode(&self) -> Opcode {
        NEW
    }

    fn as_ptr(&mut self) -> *mut core::ffi::c_void {
        ptr::without_provenance_mut(self.flags as usize)
    }

    unsafe fn output_from_ptr(
        number: IoctlOutput,
        _: *mut core::ffi::c_void,
    ) -> rustix::io::Result<OwnedFd> {
        // SAFETY: the call succeeded, so this is a new descriptor that nothing else owns.
        Ok(unsafe { OwnedFd::from_raw_fd(number) })
    }
}

/// A fault as the kernel reports it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FaultEvent {
    /// The address, with the offset in its page cleared.
    pub(crate) address: usize,
    /// Whether the access was a write.
    pub(crate) write: bool,
}

/// The reason why a kernel cannot serve a region.
#[derive(Debug)]
pub(crate) enum Unsupported {
    /// No `userfaultfd` at all, or it is not allowed here.
    NoUserfaultfd(io::Error),
    /// The kernel is older than Linux 6.8 and has no `UFFDIO_MOVE`.
    NoMove,
}

impl From<Unsupported> for RegionError {
    fn from(unsupported: Unsupported) -> Self {
        match unsupported {
            Unsupported::NoUserfaultfd(error) => RegionError::NoUserfaultfd(error),
            Unsupported::NoMove => RegionError::KernelTooOld,
        }
    }
}

/// A `userfaultfd`: private to its owner, close-on-exec, and not blocking when it is read.
#[derive(Debug)]
pub(crate) struct Userfault {
    descriptor: OwnedFd,
    serves_kernel_faults: bool,
}

impl Userfault {
    /// Opens a descriptor that reports missing pages as events or, with `by_signal`, makes the
    /// kernel send `SIGBUS` to the faulting thread.
    pub(crate) fn open(by_signal: bool) -> Result<Userfault, Unsupported> {
        // A descriptor can be asked for its features once, so the first one is only a probe.
        let (probe, _) = open_descriptor().map_err(Unsupported::NoUserfaultfd)?;
        let features = agree(&probe, 0).map_err(|e| Unsupported::NoUserfaultfd(e.into()))?;
        let needed = FEATURE_MOVE | FEATURE_POISON | if by_signal { FEATURE_SIGBUS } else { 0 };
        check_features(features, needed)?;
        let (descriptor, all_faults) = open_descriptor().map_err(Unsupported::NoUserfaultfd)?;
        agree(&descriptor, needed).map_err(|e| Unsupported::NoUserfaultfd(e.into()))?;
        Ok(Userfault { descriptor, serves_kernel_faults: all_faults && !by_signal })
    }

    /// Moves the descriptor to a number from `least` on, if there is one: programs expect that the
    /// low ones are theirs.
    pub(crate) fn renumber(&mut self, least: RawFd) {
        if let Ok(moved) = fcntl_dupfd_cloexec(&self.descriptor, least) {
            self.descriptor = moved;
        }
    }

    /// Lets this value's number stand for the descriptor of `other`, in a forked child whose
    /// descriptor is that of its parent.
    pub(crate) fn replace(&self, other: &Userfault) -> rustix::io::Result<()> {
        // SAFETY: our own descriptor. The second owner is not dropped.
        let number = unsafe { OwnedFd::from_raw_fd(self.descriptor.as_raw_fd()) };
        let mut number = ManuallyDrop::new(number);
        dup3(&other.descriptor, &mut number, DupFlags::CLOEXEC)
    }

    /// Returns whether accesses of the kernel, in a system call, are reported as well.
    pub(crate) fn serves_kernel_faults(&self) -> bool {
        self.serves_kernel_faults
    }

    /// Makes this descriptor responsible for the missing pages of a range.
    ///
    /// # Safety
    ///
    /// 1. The range is whole pages of a private anonymous mapping of the caller's.
    /// 2. The caller fills every page of it that is accessed, or has the accessor killed.
    pub(crate) unsafe fn register(&self, start: *mut u8, len: usize) -> io::Result<()> {
        let mut args = RegisterArgs { range: range(start, len), mode: MISSING, ioctls: 0 };
        // SAFETY: `REGISTER` is the opcode of these arguments.
        let call = unsafe { Updater::<REGISTER, _>::new(&mut args) };
        // SAFETY: (1) and (2).
        unsafe { ioctl(&self.descriptor, call) }.map_err(io::Error::from)
    }

    /// Fills missing pages with a copy of `bytes`, and wakes threads that wait for them. Returns
    /// the bytes that were filled, and the error that ended the call early.
    ///
    /// # Safety
    ///
    /// 1. `to` is the start of a registered range of that length, of missing pages that the caller
    ///    alone may fill now.
    /// 2. `bytes` is what the program must find there.
    pub(crate) unsafe fn copy(&self, to: *mut u8, bytes: &[u8]) -> (usize, Option<Errno>) {
        let from = bytes.as_ptr().addr() as u64;
        // SAFETY: (1) and (2); the slice is readable.
        unsafe { self.transfer::<COPY>(to, from, bytes.len(), 0) }
    }

    /// Fills missing pages with the zero page, and wakes threads that wait for them. Returns as
    /// [`copy`](Self::copy) does.
    ///
    /// # Safety
    ///
    /// 1. As for [`copy`](Self::copy).
    /// 2. The program must find zeros there.
    pub(crate) unsafe fn zero(&self, to: *mut u8, len: usize) -> (usize, Option<Errno>) {
        // SAFETY: (1) and (2).
        unsafe { self.fill::<ZEROPAGE>(to, len) }
    }

    /// Makes accesses to missing pages raise `SIGBUS`, including those of threads that wait for
    /// them.
    ///
    /// # Safety
    ///
    /// 1. `to` is the start of a registered range of missing pages.
    pub(crate) unsafe fn poison(&self, to: *mut u8, len: usize) -> (usize, Option<Errno>) {
        // SAFETY: (1); no access succeeds, so no contents are made up.
        unsafe { self.fill::<POISON>(to, len) }
    }

    /// Moves pages, contents and frames, to missing pages elsewhere. The source is missing
    /// afterwards. Returns the bytes that were moved, and the error that ended the call early:
    /// `EBUSY` for a page that is pinned by a device.
    ///
    /// # Safety
    ///
    /// 1. Both ranges are whole pages of mappings of the caller's, and the target is registered.
    /// 2. An access to a page of the source, from now on, is answered by the caller.
    /// 3. There is no reference into the target.
    pub(crate) unsafe fn move_pages(
        &self,
        to: *mut u8,
        from: *mut u8,
        len: usize,
    ) -> (usize, Option<Errno>) {
        // SAFETY: (1) to (3).
        unsafe { self.transfer::<MOVE>(to, from.addr() as u64, len, MOVE_DONTWAKE) }
    }

    /// Lets threads that wait for pages of a range try again.
    pub(crate) fn wake(&self, start: *mut u8, len: usize) {
        let mut args = range(start, len);
        // SAFETY: `WAKE` is the opcode of these arguments.
        let call = unsafe { Updater::<WAKE, _>::new(&mut args) };
        // SAFETY: a thread that is woken repeats its access, so nothing can be seen too early.
        let woken = unsafe { ioctl(&self.descriptor, call) };
        // Fails for a range that is empty or overflows, which none of ours is, and if the program
        // has closed the descriptor. A thread that is not woken would hang.
        if woken.is_err() {
            std::process::abort();
        }
    }

    /// Reads the faults that wait, at most [`EVENTS_PER_READ`], and calls `each` with every one.
    pub(crate) fn read_events(&self, mut each: impl FnMut(FaultEvent)) -> rustix::io::Result<()> {
        let mut buffer = [0_u8; EVENT_BYTES * EVENTS_PER_READ];
        let bytes = match rustix::io::read(&self.descriptor, &mut buffer) {
            Err(Errno::AGAIN | Errno::INTR) => return Ok(()),
            read => read?,
        };
        let word = |event: &[u8], at: usize| {
            u64::from_ne_bytes(event[at..at + 8].try_into().expect("eight bytes"))
        };
        for event in buffer[..bytes].chunks_exact(EVENT_BYTES) {
            if event[0] == EVENT_PAGEFAULT {
                let address = word(event, 16) as usize;
                each(FaultEvent { address, write: word(event, 8) & FAULT_WRITE != 0 });
            }
        }
        Ok(())
    }

    /// # Safety
    ///
    /// 1. That of the call that `OPCODE` stands for, with these arguments.
    unsafe fn transfer<const OPCODE: Opcode>(
        &self,
        to: *mut u8,
        from: u64,
        len: usize,
        mode: u64,
    ) -> (usize, Option<Errno>) {
        let mut args = TransferArgs { to: to.addr() as u64, from, len: len as u64, mode, done: 0 };
        // SAFETY: `OPCODE` is one of the two that take these arguments.
        let call = unsafe { Updater::<OPCODE, _>::new(&mut args) };
        // SAFETY: (1).
        let result = unsafe { ioctl(&self.descriptor, call) };
        outcome(result, args.done, len)
    }

    /// # Safety
    ///
    /// 1. That of the call that `OPCODE` stands for, with these arguments.
    unsafe fn fill<const OPCODE: Opcode>(&self, to: *mut u8, len: usize) -> (usize, Option<Errno>) {
        let mut args = FillArgs { range: range(to, len), mode: 0, done: 0 };
        // SAFETY: `OPCODE` is one of the two that take these arguments.
        let call = unsafe { Updater::<OPCODE, _>::new(&mut args) };
        // SAFETY: (1).
        let result = unsafe { ioctl(&self.descriptor, call) };
        outcome(result, args.done, len)
    }
}

impl AsFd for Userfault {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// Returns the bytes that a call finished, and the error that ended it. The kernel reports an end
/// before the last page as `EAGAIN`, with the bytes so far.
fn outcome(result: rustix::io::Result<()>, done: i64, len: usize) -> (usize, Option<Errno>) {
    match result {
        Ok(()) => (len, None),
        Err(error) => (usize::try_from(done).unwrap_or(0), Some(error)),
    }
}

fn range(start: *mut u8, len: usize) -> RangeArgs {
    RangeArgs { start: start.addr() as u64, len: len as u64 }
}

/// Opens a descriptor. Returns whether it also reports the kernel's own faults: that takes a
/// privilege, or access to `/dev/userfaultfd`.
fn open_descriptor() -> io::Result<(OwnedFd, bool)> {
    let flags = UserfaultfdFlags::CLOEXEC | UserfaultfdFlags::NONBLOCK;
    // SAFETY: nothing is registered yet.
    if let Ok(descriptor) = unsafe { rustix::mm::userfaultfd(flags) } {
        return Ok((descriptor, true));
    }
    if let Ok(device) = File::open("/dev/userfaultfd") {
        // SAFETY: the device has this ioctl; nothing is registered yet.
        let opened = unsafe { ioctl(&device, NewDescriptor { flags: flags.bits() }) };
        if let Ok(descriptor) = opened {
            return Ok((descriptor, true));
        }
    }
    let flags = flags | UserfaultfdFlags::from_bits_retain(USER_MODE_ONLY);
    // SAFETY: nothing is registered yet.
    let descriptor = unsafe { rustix::mm::userfaultfd(flags) }?;
    Ok((descriptor, false))
}

/// Checks that a kernel with these features can serve a region.
fn check_features(features: u64, needed: u64) -> Result<(), Unsupported> {
    if features & needed == needed { Ok(()) } else { Err(Unsupported::NoMove) }
}

/// Agrees with the kernel on `features`, and returns those that it has.
fn agree(descriptor: &OwnedFd, features: u64) -> rustix::io::Result<u64> {
    let mut args = ApiArgs { version: API_VERSION, features, ioctls: 0 };
    // SAFETY: `API` is the opcode of these arguments.
    let call = unsafe { Updater::<API, _>::new(&mut args) };
    // SAFETY: it changes only the descriptor.
    unsafe { ioctl(descriptor, call) }?;
    Ok(args.features)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Linux 6.7 has all features that a region needs except `UFFDIO_MOVE`.
    #[test]
    fn old_kernels_are_refused() {
        let linux_6_7 = (1 << 16) - 1;
        let needed = FEATURE_MOVE | FEATURE_POISON | FEATURE_SIGBUS;
        assert!(matches!(check_features(linux_6_7, needed), Err(Unsupported::NoMove)));
        assert!(check_features(linux_6_7 | FEATURE_MOVE, needed).is_ok());
    }
}
