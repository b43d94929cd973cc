//! Hooks around a fork. See Z3 and Z4 of the crate's essay.
//!
//! ```text
//!   prepare:  signals blocked ─► glibc's list of streams ─► range table ─► handlers stopped
//!   parent:   handlers started ─► range table ─► list of streams ─► signals
//!   child:    descriptor, handlers ─► range table ─► signals   (glibc has made the list anew)
//! ```
//!
//! The handlers are registered before the program's own. So ours runs last before the fork, and
//! first after it.

use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::mem::ManuallyDrop;
use std::ptr;

use crate::calls::{AllSignalsBlocked, NextFunction, exit_now, write_stderr};
use crate::space::{Entered, Space};

unsafe extern "C" {
    fn _IO_list_lock();
    fn _IO_list_unlock();
}

/// Locks of the forking thread. Never dropped by the end of a thread, so it needs no destructor.
struct ForkLocks {
    entered: Entered,
    /// Released last.
    signals: AllSignalsBlocked,
}

thread_local! {
    static HELD: Cell<Option<ManuallyDrop<ForkLocks>>> = const { Cell::new(None) };
}

/// Registers what runs around a fork. Returns whether that was possible.
pub(crate) fn register() -> bool {
    // SAFETY: three functions that are never unloaded, because a preloaded library is not.
    unsafe { libc::pthread_atfork(Some(prepare), Some(in_parent), Some(in_child)) == 0 }
}

unsafe extern "C" fn prepare() {
    let Some(space) = Space::get() else { return };
    // A signal handler that needs a fault served would wait for this very thread.
    let signals = AllSignalsBlocked::enter();
    // A thread that has this lock may wait for a fault, so it is taken while they are served. The
    // lock is recursive: glibc takes it again.
    // SAFETY: released in the parent; the child gets a new one.
    unsafe { _IO_list_lock() };
    let entered = space.enter();
    // SAFETY: (1) all calls about the reserve enter first; (2) what glibc does next touches only
    // memory of its own, by Z2; (3) both functions below resume.
    unsafe { space.reserve.suspend() };
    HELD.set(Some(ManuallyDrop::new(ForkLocks { entered, signals })));
}

unsafe extern "C" fn in_parent() {
    let (Some(space), Some(held)) = (Space::get(), HELD.take()) else { return };
    // SAFETY: (1) this thread suspended.
    unsafe { space.reserve.resume_in_parent() };
    let ForkLocks { entered, signals } = ManuallyDrop::into_inner(held);
    drop(entered);
    // SAFETY: taken by `prepare`, on this thread.
    unsafe { _IO_list_unlock() };
    drop(signals);
}

unsafe extern "C" fn in_child() {
    let Some(held) = HELD.take() else { return };
    Space::adopt();
    let Some(space) = Space::get() else { return };
    // SAFETY: (1) this thread suspended, and this is the first that runs in the child.
    if let Err(error) = unsafe { space.reserve.resume_in_child() } {
        write_stderr(&format!("zrun: a forked child cannot have the program's memory: {error}\n"));
        exit_now(125);
    }
    let ForkLocks { entered, signals } = ManuallyDrop::into_inner(held);
    drop(entered);
    drop(signals);
}

/// Sets the stack of a thread to be: `pthread_attr_setstack(3)`. glibc keeps what it knows of a
/// thread at the end of its stack, and a child touches it before it resumes.
///
/// # Safety
///
/// 1. As for the function.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub(crate) unsafe extern "C" fn pthread_attr_setstack(
    attributes: *mut libc::pthread_attr_t,
    stack: *mut c_void,
    len: usize,
) -> c_int {
    static OF_GLIBC: NextFunction = NextFunction::new(c"pthread_attr_setstack");
    if let Some((space, range)) = Space::get().zip(Space::overlap(stack.addr(), len)) {
        let page = space.page;
        let range = range.start / page * page..range.end.next_multiple_of(page);
        let entered = space.enter();
        let open = entered.table.pieces(&range).iter().all(|(_, of)| of.is_open());
        if !open || !space.reserve.keep_resident(range) {
            return libc::EINVAL;
        }
    }
    let function = OF_GLIBC.address();
    if function == 0 {
        return libc::ENOSYS;
    }
    type SetStack = unsafe extern "C" fn(*mut libc::pthread_attr_t, *mut c_void, usize) -> c_int;
    let function: *const c_void = ptr::with_exposed_provenance(function);
    #[expect(clippy::disallowed_methods, reason = "no other conversion makes a function")]
    // SAFETY: this is the type of the function of that name.
    let function: SetStack = unsafe { std::mem::transmute(function) };
    // SAFETY: (1).
    unsafe { function(attributes, stack, len) }
}
