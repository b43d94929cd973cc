//! How a forked child gets a copy of a reserve.
//!
//! ```text
//!   suspend ─► fork ─┬─► resume_in_parent: the handlers start again
//!                    └─► resume_in_child: a descriptor and handlers of its own; pages and
//!                        blocks are shared until they are written
//! ```
//!
//! While the handlers are stopped, no unit is in transit and no lock of the store is held. So the
//! child's copy of the tables and of the store is as good as the original. They are in the heap and
//! in the store's arenas, which a child inherits.

use std::io;
use std::ops::Range;

use zpool_core::internal::sync::atomic::Ordering;

use crate::error::RegionError;
use crate::reserve::{LEAST_NUMBER, RegionReserve};
use crate::uffd::Userfault;

/// Bytes of stack, in each direction, that a thread may touch while it forks.
const STACK_REACH: usize = 64 << 10;

impl RegionReserve {
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

    /// Resumes the parent after a fork, successful or not. If the system refuses a thread, the
    /// process aborts, because accessors would hang.
    ///
    /// # Safety
    ///
    /// 1. [`suspend`](Self::suspend) was called by this thread, and this once after it.
    pub unsafe fn resume_in_parent(&self) {
        self.resume();
    }

    /// Resumes the child after a fork. It then has a region of its own, with the same limit.
    ///
    /// # Safety
    ///
    /// 1. [`suspend`](Self::suspend) was called by this thread before the fork, and this once after
    ///    it, before anything touched the reserve.
    ///
    /// # Errors
    ///
    /// [`RegionError`]: the system refuses a descriptor or a registration. The child must then not
    /// use the memory: missing pages would read as zeros. If the system refuses a thread, the
    /// process aborts, because accessors would hang.
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
        // If this fails, later children still inherit the memory. They must not use it without
        // `resume_in_child`.
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
}
