//! Faults served in the faulting thread, by `SIGBUS`.
//!
//! One handler per process looks the address up in a list of regions. It saves the two switches of
//! threads that a handler thread costs. What it asks of the program is at
//! [`fault_in_signal_handler`](crate::RegionBuilder::fault_in_signal_handler).

use std::ffi::c_int;
use std::mem::MaybeUninit;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use std::{io, ptr};

use zpool_core::internal::sync::thread;

use crate::engine::Engine;
use crate::fault::Served;

/// A region in signal mode. Nodes are never freed, so that a handler may walk the list at any time.
struct RegionNode {
    start: usize,
    end: usize,
    /// Valid while `live`, and while the region is accessed, because an access borrows it.
    engine: *const Engine,
    live: AtomicBool,
    next: *mut RegionNode,
}

/// The list of all regions in signal mode, the latest first.
static REGIONS: AtomicPtr<RegionNode> = AtomicPtr::new(ptr::null_mut());

/// The handler that was there before, or why ours cannot be installed.
static PREVIOUS: OnceLock<Result<libc::sigaction, c_int>> = OnceLock::new();

/// A region's place in the list. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct SignalRegistration(&'static RegionNodeHandle);

/// A node, which is shared with signal handlers.
#[derive(Debug)]
struct RegionNodeHandle(*mut RegionNode);

// SAFETY: the node is never freed, and only its atomic changes.
unsafe impl Send for RegionNodeHandle {}
// SAFETY: as above.
unsafe impl Sync for RegionNodeHandle {}

impl SignalRegistration {
    /// Makes the process's handler serve faults of this region.
    ///
    /// # Safety
    ///
    /// 1. The engine outlives the registration.
    /// 2. The program keeps the rules of `RegionBuilder::fault_in_signal_handler`.
    pub(crate) unsafe fn new(engine: &Engine) -> io::Result<SignalRegistration> {
        // SAFETY: (2).
        let installed = PREVIOUS.get_or_init(|| unsafe { install() });
        if let Err(errno) = installed {
            return Err(io::Error::from_raw_os_error(*errno));
        }
        let start = engine.memory.base().addr();
        let node = Box::into_raw(Box::new(RegionNode {
            start,
            end: start + engine.memory.len(),
            engine: ptr::from_ref(engine),
            live: AtomicBool::new(true),
            next: ptr::null_mut(),
        }));
        let mut head = REGIONS.load(Ordering::Relaxed);
        loop {
            // SAFETY: not yet in the list, so nothing else refers to it.
            unsafe { (*node).next = head };
            // Release: pairs with the Acquire of `find`, which then sees the whole node.
            match REGIONS.compare_exchange(head, node, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => {
                    return Ok(SignalRegistration(Box::leak(Box::new(RegionNodeHandle(node)))));
                }
                Err(now) => head = now,
            }
        }
    }
}

impl Drop for SignalRegistration {
    fn drop(&mut self) {
        // SAFETY: nodes are never freed.
        let node = unsafe { &*self.0.0 };
        // Release: the address range may be mapped again later, and found in a newer node.
        node.live.store(false, Ordering::Release);
    }
}

/// Returns the engine of the region that an address is in.
fn find(address: usize) -> Option<*const Engine> {
    // Acquire: pairs with the Release of `new`.
    let mut at = REGIONS.load(Ordering::Acquire);
    // SAFETY: a node is never freed, and was complete before it was in the list.
    while let Some(node) = unsafe { at.as_ref() } {
        if (node.start..node.end).contains(&address) && node.live.load(Ordering::Acquire) {
            return Some(node.engine);
        }
        at = node.next;
    }
    None
}

/// Installs the handler, and returns the one before.
///
/// # Safety
///
/// 1. The program keeps the rules of `RegionBuilder::fault_in_signal_handler`.
unsafe fn install() -> Result<libc::sigaction, c_int> {
    let errno = || io::Error::last_os_error().raw_os_error().unwrap_or(libc::EINVAL);
    let mut previous = MaybeUninit::<libc::sigaction>::zeroed();
    let mut ours = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: zeros are a valid `sigaction`.
    let action = unsafe { ours.assume_init_mut() };
    action.sa_sigaction = on_sigbus as *const () as usize;
    // Not on the alternate stack, which std makes too small for a codec. Not deferred, because a
    // slice of one region may be stored in another store by code that runs here.
    action.sa_flags = libc::SA_SIGINFO | libc::SA_NODEFER;
    // SAFETY: both are valid; (1). Until `PREVIOUS` is set no region is registered, and the handler
    // treats a signal as if there had been none before ours.
    if unsafe { libc::sigaction(libc::SIGBUS, action, previous.as_mut_ptr()) } != 0 {
        return Err(errno());
    }
    // SAFETY: the call succeeded, so it was written.
    Ok(unsafe { previous.assume_init() })
}

/// The handler. An unwinding panic aborts here, at the edge of a C function.
extern "C" fn on_sigbus(signal: c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: has no preconditions.
    let errno_place = unsafe { libc::__errno_location() };
    // SAFETY: errno of this thread, which lives as long as the thread.
    let errno = unsafe { errno_place.read() };
    // SAFETY: the system passes a valid pointer.
    let info_ref = unsafe { &*info };
    // SAFETY: `SIGBUS` carries an address.
    let address = unsafe { info_ref.si_addr() }.addr();
    // Another code is an error of the memory itself, or a poison mark: filling does not help.
    let missing = info_ref.si_code == libc::BUS_ADRERR;
    let served = missing
        && find(address).is_some_and(|engine| {
            // SAFETY: this thread is in the middle of an access to the region, which borrows it.
            let engine = unsafe { &*engine };
            // SAFETY: the system passes the context of this thread.
            serve(engine, address, unsafe { is_write(context) })
        });
    if !served {
        // SAFETY: the arguments of this call.
        unsafe { chain(signal, info, context) };
    }
    // SAFETY: as above.
    unsafe { errno_place.write(errno) };
}

/// Serves one fault. Returns false if the access has to fail.
fn serve(engine: &Engine, address: usize, write: bool) -> bool {
    let Some(unit) = engine.unit_at(address) else { return false };
    // A forked child may have another mapping there. The descriptor is that of its parent's memory.
    if !engine.is_ours() {
        return false;
    }
    engine.note_fault();
    loop {
        match engine.serve(unit, write) {
            Served::InTransit => thread::yield_now(),
            Served::Poisoned | Served::Closed => return false,
            Served::Filled | Served::Present => break,
        }
    }
    engine.balance();
    true
}

/// Calls the handler that was there before ours.
///
/// # Safety
///
/// 1. The arguments are those of a signal that is being handled.
#[expect(clippy::disallowed_methods, reason = "a function whose address the system reports")]
unsafe fn chain(signal: c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let previous = PREVIOUS.get().and_then(|previous| previous.as_ref().ok());
    let handler = previous.map_or(libc::SIG_DFL, |previous| previous.sa_sigaction);
    if handler == libc::SIG_DFL || handler == libc::SIG_IGN {
        // The access is repeated after the return, and then ends the process. A fault that is
        // ignored would repeat for ever.
        // SAFETY: the default action of a signal can be set at any time.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
        return;
    }
    if previous.is_some_and(|previous| previous.sa_flags & libc::SA_SIGINFO != 0) {
        type Handler = extern "C" fn(c_int, *mut libc::siginfo_t, *mut libc::c_void);
        // SAFETY: with this flag the address is that of such a function.
        let handler: Handler = unsafe { std::mem::transmute(handler) };
        handler(signal, info, context);
    } else {
        // SAFETY: without the flag the address is that of such a function.
        let handler: extern "C" fn(c_int) = unsafe { std::mem::transmute(handler) };
        handler(signal);
    }
}

/// Returns whether the access was a write, as far as the processor reports.
///
/// # Safety
///
/// 1. `context` is the context of a fault that is being handled.
#[cfg(target_arch = "x86_64")]
unsafe fn is_write(context: *mut libc::c_void) -> bool {
    const WRITE: i64 = 1 << 1;
    // SAFETY: (1).
    let context = unsafe { &*context.cast::<libc::ucontext_t>() };
    context.uc_mcontext.gregs[libc::REG_ERR as usize] & WRITE != 0
}

/// Returns false, because the processor's report has no portable place here. A page that is then
/// written costs one more fault of the kernel's own at most.
///
/// # Safety
///
/// 1. None.
#[cfg(not(target_arch = "x86_64"))]
unsafe fn is_write(_: *mut libc::c_void) -> bool {
    false
}
