//! The engine of a region: its memory, the states of its units, and the store behind them.

use std::io;

use rustix::process::{Pid, getpid};
use zpool_core::internal::sync::Mutex;
use zpool_core::internal::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use zswap::{SequentialKeys, Store};

use crate::buffers::BufferPool;
use crate::fingerprint::FingerprintKey;
use crate::mapping::Mapping;
use crate::readahead::{MAX_WINDOW, Readahead};
use crate::reclaim::{BATCH, ReclaimBatch};
use crate::residents::Residents;
use crate::state::{UnitState, UnitStates};
use crate::stats::{RegionCounters, RegionStats};
use crate::uffd::Userfault;

/// The store of a region: its keys are the numbers of units.
pub(crate) type UnitStore = Store<u64, SequentialKeys>;

/// Faults between two readings of the store's bytes.
const STORE_BYTES_REFRESH: usize = 32;

/// A deliberate bug, which the tests must find.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
#[cfg_attr(not(feature = "testing"), allow(unreachable_pub, reason = "public in tests only"))]
pub enum PlantedBug {
    /// None: the code as it should be.
    #[default]
    None,
    /// The stale copy of a unit is invalidated after the unit became evictable. An eviction in
    /// between stores the new bytes, which the late invalidation then removes.
    LateInvalidate,
}

/// Everything that handler threads and callers share.
///
/// Fields are dropped in this order: the region is unmapped first, and the descriptor is closed
/// after that, because a missing page reads as zeros once it is closed.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) memory: Mapping,
    pub(crate) reclaimer: Mutex<ReclaimBatch>,
    pub(crate) buffers: BufferPool,
    /// A window of zeros, never written.
    pub(crate) zeros: Mapping,
    pub(crate) uffd: Userfault,
    pub(crate) store: UnitStore,
    /// Bytes of a unit, a page of the system.
    pub(crate) unit: usize,
    pub(crate) states: UnitStates,
    /// The queues: a unit is resident if and only if it is in one, or its owner is about to put it
    /// there. A leaf lock: nothing is taken under it, and no plug-in runs.
    pub(crate) residents: Mutex<Residents>,
    pub(crate) readahead: Readahead,
    pub(crate) fingerprint_key: FingerprintKey,
    /// Whether the block of a unit stays in the store while the unit is resident.
    pub(crate) clean_copies: bool,
    pub(crate) counters: RegionCounters,
    pub(crate) planted: PlantedBug,
    /// Whether the memory is a reserve. It adopts its copy in a forked child: see `reserve.rs`.
    reserved: bool,
    /// Whether pages may be shared with a process that was forked, so that they do not move.
    pub(crate) forked: AtomicBool,
    /// The process that the memory and the descriptor belong to, if it is no reserve.
    process: Pid,
    /// Pages that are there: those of the queues, and those of units that are being put away.
    pub(crate) resident: AtomicUsize,
    limit: AtomicUsize,
    store_bytes: AtomicUsize,
    /// Statistics only.
    store_peak_bytes: AtomicUsize,
    until_refresh: AtomicUsize,
}

/// The parts of an engine.
pub(crate) struct EngineParts {
    pub(crate) uffd: Userfault,
    pub(crate) store: UnitStore,
    pub(crate) residents: Residents,
    pub(crate) units: usize,
    pub(crate) unit: usize,
    pub(crate) limit: usize,
    pub(crate) readahead: usize,
    pub(crate) clean_copies: bool,
    pub(crate) planted: PlantedBug,
    /// Whether the memory is a reserve, closed at first.
    pub(crate) reserved: bool,
}

impl Engine {
    /// Maps and registers the region and the engine's own memory. The boolean of the error is
    /// whether the program locks all its memory.
    pub(crate) fn new(parts: EngineParts) -> Result<Engine, (io::Error, bool)> {
        let system = |error| (error, false);
        let EngineParts { uffd, store, residents, units, unit, .. } = parts;
        let (map, first): (fn(usize) -> io::Result<Mapping>, _) = if parts.reserved {
            (Mapping::inaccessible, UnitState::Closed)
        } else {
            (Mapping::new, UnitState::Empty)
        };
        let memory = map(units * unit).map_err(system)?;
        let staging = Mapping::new(BATCH * unit).map_err(system)?;
        // SAFETY: (1) and (2) ours, whole pages, and never used before. Memory that is locked as it
        // is mapped refuses: pages of it could neither be missing nor be moved.
        unsafe { staging.discard(0, staging.len()) }.map_err(|error| (error, true))?;
        // SAFETY: (1) our mapping, whole pages; (2) faults are served until the engine is dropped,
        // which unmaps the region first.
        unsafe { uffd.register(memory.base(), memory.len()) }.map_err(system)?;
        let reclaimer = ReclaimBatch::new(staging);
        reclaimer.register(&uffd).map_err(system)?;
        Ok(Engine {
            memory,
            reclaimer: Mutex::new(reclaimer),
            buffers: BufferPool::new(unit).map_err(system)?,
            zeros: Mapping::new(MAX_WINDOW * unit).map_err(system)?,
            uffd,
            unit,
            states: UnitStates::new(units, first),
            residents: Mutex::new(residents),
            readahead: Readahead::new(parts.readahead.min(MAX_WINDOW)),
            fingerprint_key: FingerprintKey::random(unit).map_err(system)?,
            clean_copies: parts.clean_copies,
            counters: RegionCounters::default(),
            planted: parts.planted,
            reserved: parts.reserved,
            forked: AtomicBool::new(false),
            process: getpid(),
            resident: AtomicUsize::new(0),
            limit: AtomicUsize::new(parts.limit),
            store_bytes: AtomicUsize::new(store.bytes_held()),
            store_peak_bytes: AtomicUsize::new(0),
            until_refresh: AtomicUsize::new(STORE_BYTES_REFRESH),
            store,
        })
    }

    /// Returns whether this process has the region's memory. A forked child has the descriptor as
    /// well, by which it would fill and wake pages of its parent.
    pub(crate) fn is_ours(&self) -> bool {
        self.reserved || getpid() == self.process
    }

    /// Returns the start of a unit's page.
    pub(crate) fn page(&self, unit: usize) -> *mut u8 {
        self.memory.at(unit * self.unit)
    }

    /// Returns the unit that an address is in, if it is one of the region's.
    pub(crate) fn unit_at(&self, address: usize) -> Option<usize> {
        let offset = address.checked_sub(self.memory.base().addr())?;
        (offset < self.memory.len()).then_some(offset / self.unit)
    }

    /// Lets threads that wait for a unit try again.
    pub(crate) fn wake(&self, unit: usize) {
        self.uffd.wake(self.page(unit), self.unit);
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    pub(crate) fn set_limit(&self, bytes: usize) {
        // Relaxed: a fault that still sees the old limit is like one that came before the call.
        self.limit.store(bytes, Ordering::Relaxed);
    }

    /// Returns the bytes over the limit, by the latest figure of the store.
    pub(crate) fn over_limit(&self) -> usize {
        let resident = self.resident.load(Ordering::Relaxed) * self.unit;
        let used = resident + self.store_bytes.load(Ordering::Relaxed);
        used.saturating_sub(self.limit())
    }

    /// Reads how many bytes the store holds. That walks its pools, so a fault does it only now and
    /// then.
    pub(crate) fn refresh_store_bytes(&self) {
        let held = self.store.bytes_held();
        self.store_bytes.store(held, Ordering::Relaxed);
        self.store_peak_bytes.fetch_max(held, Ordering::Relaxed);
        self.until_refresh.store(STORE_BYTES_REFRESH, Ordering::Relaxed);
    }

    /// Counts a fault, and reads the store's bytes if it is time.
    pub(crate) fn note_fault(&self) {
        self.counters.faults.add(1);
        // Several threads may find the count at its end, and all of them set it again. A wrap below
        // 0 in between lasts until then.
        if self.until_refresh.fetch_sub(1, Ordering::Relaxed) <= 1 {
            self.refresh_store_bytes();
        }
    }

    pub(crate) fn stats(&self, len: usize) -> RegionStats {
        self.refresh_store_bytes();
        let table_bytes = self.states.len() + self.residents.lock().bytes();
        RegionStats {
            len,
            unit_bytes: self.unit,
            limit_bytes: self.limit(),
            resident_bytes: self.resident.load(Ordering::Relaxed) * self.unit,
            store_bytes: self.store_bytes.load(Ordering::Relaxed),
            store_peak_bytes: self.store_peak_bytes.load(Ordering::Relaxed),
            over_limit_bytes: self.over_limit(),
            table_bytes,
            stored_units: self.store.len(),
            faults: self.counters.faults.get(),
            loads: self.counters.loads.get(),
            units_read_ahead: self.counters.read_ahead.get(),
            units_evicted: self.counters.evicted.get(),
            units_dropped_clean: self.counters.dropped_clean.get(),
            units_dropped_zero: self.counters.dropped_zero.get(),
            units_pinned: self.counters.pinned.get(),
            units_poisoned: self.counters.poisoned.get(),
            stores_failed: self.counters.stores_failed.get(),
        }
    }
}
