//! Address space of which parts are opened and closed, for memory of a program that knows nothing
//! of it.
//!
//! ```text
//!   reserve:  │ closed │ open: 0, stored, here │ closed │ given up │ closed ... │
//!                │ open, close: a call each        │ another mapping of the program's
//!                ▼
//!             no access (`SIGSEGV`)
//!
//!   fork:     suspend ─► fork ─┬─► resume_in_parent: the handlers start again
//!                              └─► resume_in_child: a descriptor and handlers of its own; pages
//!                                  are shared until they are written, and blocks with the heap
//! ```

use std::fmt;
use std::io;
use std::mem::ManuallyDrop;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::Arc;

use zpool_core::internal::sync::Mutex;
use zpool_core::internal::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::engine::Engine;
use crate::error::RegionError;
use crate::handler::Handlers;
use crate::state::UnitState;
use crate::stats::RegionStats;
use crate::uffd::Userfault;

/// The least number for descriptors of a reserve: below are those that programs count on.
pub(crate) const LEAST_NUMBER: RawFd = 700;

/// Bytes of stack, in each direction, that a thread may touch while it forks.
const STACK_REACH: usize = 64 << 10;

/// Address space that is a region where it is open. Made by
/// [`RegionBuilder::reserve`](crate::RegionBuilder::reserve), for allocators and for programs that
/// run unchanged.
///
/// All of it is closed at first. There is no slice of it: what is in use is the caller's to know.
/// Accesses are by pointers from [`base`](Self::base).
///
/// # Concurrency
///
/// Any thread may access open parts at any time, also while they are evicted. Calls about the same
/// part must not overlap, so that the caller has a lock or owns the part.
///
/// # Fork
///
/// A forked child has no memory of the reserve, and an access ends it, unless the fork was between
/// [`suspend`](Self::suspend) and [`resume_in_child`](Self::resume_in_child). Then it has a copy.
///
/// # Dropping
///
/// The drop unmaps the address space. There must be no access in flight. If parts were given up,
/// the memory is leaked.
pub struct RegionReserve {
    // The handlers are dropped first.
    server: Mutex<Option<Handlers>>,
    handlers: usize,
    /// Leaked if parts of its memory were given up.
    engine: ManuallyDrop<Arc<Engine>>,
    /// The numbers of the descriptors that the program must not close.
    numbers: [AtomicU32; 2],
    /// Parts that hold other mappings.
    given_up: Mutex<Vec<Range<usize>>>,
    /// The units around the stack of the thread that forks.
    stack: Mutex<Range<usize>>,
    /// Whether a child may have the memory: all advice of `suspend` was taken.
    inherited: AtomicBool,
}

impl RegionReserve {
    pub(crate) fn start(engine: Arc<Engine>, handlers: usize) -> io::Result<RegionReserve> {
        let reserve = RegionReserve {
            server: Mutex::new(None),
            handlers,
            engine: ManuallyDrop::new(engine),
            numbers: [const { AtomicU32::new(0) }; 2],
            given_up: Mutex::new(Vec::new()),
            stack: Mutex::new(0..0),
            inherited: AtomicBool::new(false),
        };
        reserve.start_handlers()?;
        Ok(reserve)
    }

    /// The first byte.
    pub fn base(&self) -> *mut u8 {
        self.engine.memory.base()
    }

    /// Bytes of address space.
    #[allow(clippy::len_without_is_empty, reason = "a reserve has at least one page")]
    pub fn len(&self) -> usize {
        self.engine.memory.len()
    }

    /// Returns whether system calls may read and write parts that are not resident, as
    /// [`Region::serves_kernel_faults`](crate::Region::serves_kernel_faults) does.
    pub fn serves_kernel_faults(&self) -> bool {
        self.engine.uffd.serves_kernel_faults()
    }

    /// Returns figures of the reserve. Walks the pools of the store.
    pub fn stats(&self) -> RegionStats {
        self.engine.stats(self.len())
    }

    /// Returns the numbers of the descriptors of this reserve. If the program closes one, calls
    /// about the reserve end the process. Faults are served from copies that it cannot close.
    pub fn descriptors(&self) -> [RawFd; 2] {
        // Relaxed: they change in a fork only, when there is no other thread in here.
        self.numbers.each_ref().map(|number| number.load(Ordering::Relaxed) as RawFd)
    }

    /// Makes a closed part accessible. It reads as zeros.
    ///
    /// # Errors
    ///
    /// If the process has too many mappings, or the system does not commit itself to that much
    /// memory. The part stays closed.
    ///
    /// # Panics
    ///
    /// If the range is not whole pages of the reserve.
    pub fn open(&self, range: Range<usize>) -> io::Result<()> {
        let units = self.whole_units(&range);
        // SAFETY: (1) whole pages; nothing was accessible.
        unsafe { self.engine.memory.set_accessible(range.start, range.len(), true) }?;
        for unit in units {
            // Nothing but this call touches a closed unit.
            if self.engine.states.claim(unit, UnitState::Closed, UnitState::Loading) {
                self.engine.settle(unit, UnitState::Empty);
            }
        }
        Ok(())
    }

    /// Frees a part and makes it inaccessible, whatever access the program has set.
    ///
    /// # Safety
    ///
    /// 1. There is no reference into the range, and its contents are not needed.
    ///
    /// # Errors
    ///
    /// If the process has too many mappings. The part is then open, with its contents.
    ///
    /// # Panics
    ///
    /// As for [`open`](Self::open).
    pub unsafe fn close(&self, range: Range<usize>) -> io::Result<()> {
        let units = self.whole_units(&range);
        // First, so that a thread which still accesses it gets its signal, and waits for nothing.
        // SAFETY: (1) whole pages, and the caller's (1).
        unsafe { self.engine.memory.set_accessible(range.start, range.len(), false) }?;
        self.engine.discard_units(units, UnitState::Closed);
        Ok(())
    }

    /// Frees the pages and blocks of an open part, which reads as zeros from then on.
    ///
    /// # Safety
    ///
    /// 1. There is no reference into the range, and its contents are not needed.
    ///
    /// # Panics
    ///
    /// As for [`open`](Self::open).
    pub unsafe fn discard(&self, range: Range<usize>) {
        self.engine.discard_units(self.whole_units(&range), UnitState::Empty);
    }

    /// Puts the pages of a part away now, as [`Region::evict`](crate::Region::evict) does. Returns
    /// the bytes that went.
    ///
    /// # Panics
    ///
    /// As for [`open`](Self::open).
    pub fn evict(&self, range: Range<usize>) -> usize {
        self.engine.evict_units(self.whole_units(&range)) * self.engine.unit
    }

    /// Brings an open part in and keeps it resident for ever, or until it is closed and opened
    /// again by a program that then pays for it. Returns false if a page of it was lost.
    ///
    /// # Panics
    ///
    /// As for [`open`](Self::open).
    pub fn keep_resident(&self, range: Range<usize>) -> bool {
        let units = self.whole_units(&range);
        self.engine.residents.lock().hold(units.clone());
        units.clone().all(|unit| self.engine.bring_in(unit, units.end - unit, true))
    }

    /// Leaves a closed part to the caller, for ever. It may be mapped over and unmapped.
    ///
    /// # Panics
    ///
    /// As for [`open`](Self::open).
    pub fn give_up(&self, range: Range<usize>) {
        self.whole_units(&range);
        let mut given_up = self.given_up.lock();
        given_up.push(range);
        given_up.sort_unstable_by_key(|range| range.start);
    }

    /// Prepares a fork: the child can have the memory, and nothing changes until one of the calls
    /// that resume. Threads that access a missing page wait until then.
    ///
    /// If the system refuses the advice that a child may have the memory, the child cannot resume.
    ///
    /// # Safety
    ///
    /// 1. Until it resumes, no other thread makes a call about this reserve, or about its store.
    /// 2. Until it resumes, the calling thread touches no part of the reserve except its stack, and
    ///    waits for no thread that may.
    /// 3. The calling thread resumes, in each of the processes.
    pub unsafe fn suspend(&self) {
        *self.stack.lock() = self.hold_stack();
        if let Some(mut handlers) = self.server.lock().take() {
            handlers.stop();
        }
        // Relaxed, here and below: no other thread is in here.
        self.inherited.store(self.set_inherited(true).is_ok(), Ordering::Relaxed);
    }

    /// Goes on after a fork, or after a fork that failed, in the process that was there before.
    ///
    /// # Safety
    ///
    /// 1. [`suspend`](Self::suspend) was called by this thread, and this once after it.
    pub unsafe fn resume_in_parent(&self) {
        self.resume();
    }

    /// Goes on after a fork in the child, which then has a region of its own, with the same limit.
    ///
    /// # Safety
    ///
    /// 1. [`suspend`](Self::suspend) was called by this thread before the fork, and this once after
    ///    it, before anything touched the reserve.
    ///
    /// # Errors
    ///
    /// [`RegionError`]: the system refuses what the child's own region needs. Its memory is then
    /// not to be used: missing pages would read as zeros.
    pub unsafe fn resume_in_child(&self) -> Result<(), RegionError> {
        if !self.inherited.load(Ordering::Relaxed) {
            return Err(RegionError::System(io::ErrorKind::OutOfMemory.into()));
        }
        let served = self.serves_kernel_faults();
        let mut uffd = Userfault::open(false)?;
        uffd.renumber(LEAST_NUMBER);
        if served && !uffd.serves_kernel_faults() {
            return Err(RegionError::NoUserfaultfd(io::ErrorKind::PermissionDenied.into()));
        }
        let system = |error: rustix::io::Errno| RegionError::System(error.into());
        self.engine.uffd.replace(&uffd).map_err(system)?;
        let memory = &self.engine.memory;
        for part in self.parts() {
            // SAFETY: (1) a part of our mapping, whole pages; (2) served from here on.
            unsafe { self.engine.uffd.register(memory.at(part.start), part.len()) }
                .map_err(RegionError::System)?;
        }
        self.engine.reclaimer.lock().register(&self.engine.uffd).map_err(RegionError::System)?;
        self.resume();
        Ok(())
    }

    fn resume(&self) {
        // Refused: a child that does not resume then has memory that it must not use.
        let _ = self.set_inherited(false);
        self.engine.forked.store(true, Ordering::Relaxed);
        if let Err(error) = self.start_handlers() {
            // Without handlers, every accessor would hang.
            eprintln!("zpool-region: no thread can be started after a fork: {error}, aborting");
            std::process::abort();
        }
        let stack = std::mem::take(&mut *self.stack.lock());
        self.engine.residents.lock().release(&stack);
    }

    fn start_handlers(&self) -> io::Result<()> {
        let handlers = Handlers::start_apart(&self.engine, self.handlers, LEAST_NUMBER)?;
        let numbers = [self.engine.uffd.as_fd().as_raw_fd(), handlers.stop_number()];
        for (place, number) in self.numbers.iter().zip(numbers) {
            place.store(number as u32, Ordering::Relaxed);
        }
        *self.server.lock() = Some(handlers);
        Ok(())
    }

    /// Keeps the units around the caller's stack resident, if the program has its stack in the
    /// reserve.
    fn hold_stack(&self) -> Range<usize> {
        let local = 0_u8;
        let Some(unit) = self.engine.unit_at((&raw const local).addr()) else { return 0..0 };
        let reach = STACK_REACH / self.engine.unit;
        let units = unit.saturating_sub(reach)..(unit + reach).min(self.engine.states.len());
        self.engine.residents.lock().hold(units.clone());
        for unit in units.clone() {
            // Units behind an end of the stack may be closed.
            self.engine.bring_in(unit, 1, true);
        }
        units
    }

    /// Sets whether a child has the memory, with what the engine needs besides.
    fn set_inherited(&self, inherited: bool) -> io::Result<()> {
        let engine = &self.engine;
        for part in self.parts() {
            engine.memory.set_inherited(part.start, part.len(), inherited)?;
        }
        engine.zeros.set_inherited(0, engine.zeros.len(), inherited)?;
        engine.buffers.set_inherited(inherited)?;
        engine.reclaimer.lock().set_inherited(inherited)
    }

    /// The parts that were not given up.
    fn parts(&self) -> Vec<Range<usize>> {
        let mut parts = Vec::new();
        let mut at = 0;
        for given_up in &*self.given_up.lock() {
            parts.push(at..given_up.start);
            at = given_up.end;
        }
        parts.push(at..self.len());
        parts.retain(|part| !part.is_empty());
        parts
    }

    fn whole_units(&self, range: &Range<usize>) -> Range<usize> {
        let unit = self.engine.unit;
        assert!(
            [range.start, range.end].iter().all(|at| at.is_multiple_of(unit)),
            "the range {range:?} is not whole pages of {unit} bytes: round it"
        );
        self.engine.units_of(range, self.len())
    }
}

impl fmt::Debug for RegionReserve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegionReserve")
            .field("len", &self.len())
            .field("limit", &self.engine.limit())
            .finish_non_exhaustive()
    }
}

impl Drop for RegionReserve {
    fn drop(&mut self) {
        if let Some(mut handlers) = self.server.lock().take() {
            handlers.stop();
        }
        if self.given_up.lock().is_empty() {
            // SAFETY: the field is not used again.
            unsafe { ManuallyDrop::drop(&mut self.engine) };
        }
    }
}
