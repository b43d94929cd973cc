//! The region: a slice of bytes, and the calls about its cold parts.

use std::fmt;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut, Range};
use std::sync::Arc;

use zswap::{PoolSpec, SwitchError, Switched};

use crate::builder::RegionBuilder;
use crate::control::RegionControl;
use crate::engine::Engine;
use crate::error::RegionError;
use crate::handler::Handlers;
use crate::held::{Held, HeldMut};
use crate::signal::SignalRegistration;
use crate::state::UnitState;
use crate::stats::RegionStats;

/// The threads that serve the faults of a region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FaultMode {
    /// Threads of the region's own. System calls see the region like any memory, if the process may
    /// serve faults of the kernel: [`Region::serves_kernel_faults`].
    Threads,
    /// The faulting thread itself, in a handler of `SIGBUS`.
    Signal,
}

/// Serves the faults until it is dropped.
#[derive(Debug)]
pub(crate) enum FaultServer {
    Threads(Handlers),
    Signal {
        /// Kept for its drop.
        _registration: SignalRegistration,
    },
}

/// Memory whose parts lie compressed in a store of its own when they were not used for a while. See
/// the [crate's essay](crate).
///
/// It is a slice of bytes, zero at first. Any number of threads may read it at once, and write
/// parts of it that they have borrowed, as with any slice. An access to a part that is not resident
/// waits until it is brought back.
///
/// # Bytes that cannot be brought back
///
/// If a block cannot be decompressed, each access to its page raises `SIGBUS`, which ends a process
/// that does not handle it. To make such a page usable again, [`discard`](Region::discard) all of
/// it.
///
/// # Dropping
///
/// The drop waits for the region's threads and frees its memory. It needs `&mut self`, so there is
/// no access in flight, unless unsafe code kept a pointer.
///
/// # Fork
///
/// A child that is forked without an `exec` does not have the region's memory: an access ends it
/// with `SIGSEGV`, instead of reading zeros. In the child, `evict`, `prefetch`, `discard` and the
/// drop do nothing, and `hold` is an error. Do not call `switch` or `stats` there, because another
/// thread of the parent may have held a lock of the store at the fork.
pub struct Region {
    pub(crate) len: usize,
    /// Dropped before the engine; both are left alone in a forked child.
    pub(crate) server: ManuallyDrop<FaultServer>,
    pub(crate) engine: ManuallyDrop<Arc<Engine>>,
}

impl Region {
    /// Starts to build a region.
    pub fn builder() -> RegionBuilder {
        RegionBuilder::new()
    }

    /// Returns which threads serve the faults.
    pub fn fault_mode(&self) -> FaultMode {
        match &*self.server {
            FaultServer::Threads(_) => FaultMode::Threads,
            FaultServer::Signal { .. } => FaultMode::Signal,
        }
    }

    /// Returns whether system calls may read and write parts that are not resident.
    ///
    /// That takes handler threads and a privilege: root, `CAP_SYS_PTRACE`, the setting
    /// `vm.unprivileged_userfaultfd`, or access to `/dev/userfaultfd`. Without it such a call fails
    /// with `EFAULT`, or ends early with a short count, so pass it a part that is
    /// [held](Self::hold).
    pub fn serves_kernel_faults(&self) -> bool {
        self.engine.uffd.serves_kernel_faults()
    }

    /// Returns a handle for other threads, which can watch and steer the region while its bytes are
    /// borrowed.
    pub fn control(&self) -> RegionControl {
        RegionControl::new(&self.engine, self.len)
    }

    /// Returns figures of the region. Walks the pools of the store.
    pub fn stats(&self) -> RegionStats {
        self.engine.stats(self.len)
    }

    /// Sets the limit in bytes, and puts cold parts away until it holds, as far as that is
    /// possible. A limit below what the region needs at the least is exceeded.
    pub fn set_limit(&self, bytes: usize) {
        self.engine.set_limit(bytes);
        self.engine.balance_fully();
    }

    /// Makes a pool of `spec` the one that units are stored in from now on. Units stored before
    /// stay where they are. May block.
    ///
    /// # Errors
    ///
    /// As for `Store::switch`; everything is then as it was.
    pub fn switch(&self, spec: &PoolSpec) -> Result<Switched, SwitchError> {
        self.engine.store.switch(spec)
    }

    /// Puts the pages of a range away now, except for those that are held or pinned. Returns the
    /// number of bytes put away. Waits for pages that are on their way. The bytes at the ends of
    /// the range take their whole pages with them.
    ///
    /// # Panics
    ///
    /// If the range is not inside the region.
    pub fn evict(&self, range: Range<usize>) -> usize {
        self.engine.evict_units(self.engine.units_of(&range, self.len)) * self.engine.unit
    }

    /// Brings the stored pages of a range back, until the region is at its limit. A hint: pages
    /// that cannot be brought back are left alone.
    ///
    /// # Panics
    ///
    /// If the range is not inside the region.
    pub fn prefetch(&self, range: Range<usize>) {
        self.engine.prefetch_units(self.engine.units_of(&range, self.len));
    }

    /// Makes a range read as zeros.
    ///
    /// Frees the pages and blocks that lie wholly in it, and makes lost ones usable again. Pages
    /// that it covers in part are written, which raises `SIGBUS` if they were lost: pass whole
    /// pages then.
    ///
    /// # Panics
    ///
    /// If the range is not inside the region.
    pub fn discard(&mut self, range: Range<usize>) {
        let unit = self.engine.unit;
        // Panics if the range is not inside.
        self.engine.units_of(&range, self.len);
        if !self.engine.is_ours() {
            return;
        }
        let whole = range.start.div_ceil(unit)..range.end / unit;
        let whole =
            if range.end == self.len { whole.start..self.len.div_ceil(unit) } else { whole };
        if whole.is_empty() {
            self[range].fill(0);
            return;
        }
        self[range.start..whole.start * unit].fill(0);
        let behind = (whole.end * unit).min(range.end);
        self[behind..range.end].fill(0);
        self.engine.discard_units(whole, UnitState::Empty);
    }

    /// Brings a range in and keeps it resident while the result lives, so that it can be passed to
    /// system calls where faults of the kernel [are not served](Self::serves_kernel_faults).
    ///
    /// What is held counts towards the limit, and may exceed it.
    ///
    /// # Errors
    ///
    /// [`RegionError::Poisoned`] if a page of the range was lost, [`RegionError::OtherProcess`] in
    /// a forked child.
    ///
    /// # Panics
    ///
    /// If the range is not inside the region.
    pub fn hold(&self, range: Range<usize>) -> Result<Held<'_>, RegionError> {
        Held::new(self, range)
    }

    /// Holds a range to be written, as [`hold`](Self::hold) does.
    ///
    /// # Errors
    ///
    /// As for [`hold`](Self::hold).
    ///
    /// # Panics
    ///
    /// As for [`hold`](Self::hold).
    pub fn hold_mut(&mut self, range: Range<usize>) -> Result<HeldMut<'_>, RegionError> {
        HeldMut::new(self, range)
    }
}

impl Deref for Region {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: (1) the region's threads or handler answer accesses until it is dropped; (2) only
        // `deref_mut` lends bytes to be written, and it borrows the region exclusively. What the
        // engine does to pages changes no contents.
        unsafe { self.engine.memory.bytes(0, self.len) }
    }
}

impl DerefMut for Region {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: (1) the region's threads or handler answer accesses until it is dropped; (2)
        // `self` is borrowed exclusively.
        unsafe { self.engine.memory.bytes_mut(0, self.len) }
    }
}

impl AsRef<[u8]> for Region {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl AsMut<[u8]> for Region {
    fn as_mut(&mut self) -> &mut [u8] {
        self
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Region")
            .field("len", &self.len)
            .field("limit", &self.engine.limit())
            .field("store", &self.engine.store)
            .finish_non_exhaustive()
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        if !self.engine.is_ours() {
            // A forked child has neither the memory nor the threads. What is at the address of the
            // memory may be another mapping.
            return;
        }
        if let FaultServer::Threads(handlers) = &mut *self.server {
            handlers.stop();
        }
        // SAFETY: the fields are not used again.
        unsafe { ManuallyDrop::drop(&mut self.server) };
        // SAFETY: as above. No thread has the engine any more.
        unsafe { ManuallyDrop::drop(&mut self.engine) };
    }
}
