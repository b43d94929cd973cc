//! Address space of which parts are opened and closed, for the memory of an unmodified program.
//!
//! ```text
//!   reserve:  │ closed │ open: 0, stored, here │ closed │ given up │ closed ... │
//!                │ open, close: a call each        │ another mapping of the program's
//!                ▼
//!             no access (`SIGSEGV`)
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
use crate::handler::Handlers;
use crate::state::UnitState;
use crate::stats::RegionStats;

/// The least number for descriptors of a reserve: below are those that programs count on.
pub(crate) const LEAST_NUMBER: RawFd = 700;

/// Address space that is a region where it is open. Made by
/// [`RegionBuilder::reserve`](crate::RegionBuilder::reserve), for allocators and for programs that
/// run unchanged.
///
/// All of it is closed at first. There is no slice of it: what is in use is the caller's to know.
/// Accesses are by pointers from [`base`](Self::base).
///
/// # Concurrency
///
/// Any thread may access open parts at any time, also while they are evicted. Calls on the same
/// part must not overlap: the caller holds a lock, or owns the part.
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
    pub(crate) server: Mutex<Option<Handlers>>,
    handlers: usize,
    /// Leaked if parts of its memory were given up.
    pub(crate) engine: ManuallyDrop<Arc<Engine>>,
    /// The numbers of the descriptors that the program must not close.
    numbers: [AtomicU32; 2],
    /// Parts that hold other mappings.
    pub(crate) given_up: Mutex<Vec<Range<usize>>>,
    /// The units around the stack of the thread that forks.
    pub(crate) stack: Mutex<Range<usize>>,
    /// Whether a child may have the memory: all advice of `suspend` was taken.
    pub(crate) inherited: AtomicBool,
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
        self.engine.residents.lock().release_inside(&units);
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

    /// Brings an open part in and keeps it resident until all of it is closed by one call. Returns
    /// false if a page of it was lost.
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

    pub(crate) fn start_handlers(&self) -> io::Result<()> {
        let handlers = Handlers::start_apart(&self.engine, self.handlers, LEAST_NUMBER)?;
        let numbers = [self.engine.uffd.as_fd().as_raw_fd(), handlers.stop_number()];
        for (place, number) in self.numbers.iter().zip(numbers) {
            place.store(number as u32, Ordering::Relaxed);
        }
        *self.server.lock() = Some(handlers);
        Ok(())
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
