//! Puts cold pages away.
//!
//! ```text
//!   residents ──► victims: Resident ─► Evicting
//!                   └► UFFDIO_MOVE, a call per run of neighbours ──► staging area
//!                        │ pinned: back to Resident                    │
//!                        │                          unchanged: nothing ┤
//!                        │                              zeros: nothing ┤
//!                        │                             otherwise: store┘
//!                        └► Evicting ─► Stored | Empty, and the staging area is emptied
//! ```
//!
//! A page is *moved*, never copied and then dropped: a device that writes to the page meanwhile
//! (`O_DIRECT`, io_uring) holds a pin, which makes the move fail, and a thread that writes to it
//! faults. So what is in the staging area is all that was ever written.

use std::io;

use rustix::io::Errno;
use zpool_core::internal::sync::atomic::Ordering;
use zpool_core::internal::sync::{MutexGuard, thread};

use crate::engine::Engine;
use crate::fault::lost_unit;
use crate::mapping::Mapping;
use crate::residents::{Evictee, Fifo};
use crate::state::UnitState;
use crate::uffd::Userfault;

/// Units that are put away at once. It is as large as the largest readahead window, so that a scan
/// cannot bring in more than is put away.
pub(crate) const BATCH: usize = 16;

/// Units that stay resident whatever the limit is, so that data which does not compress cannot
/// leave the program without pages.
const MIN_RESIDENT: usize = 64;

/// Batches that one fault may put away while the region is over its limit.
const BATCHES_PER_FAULT: usize = 4;

/// The staging area and the lists of a batch, used under a lock by one thread at a time.
#[derive(Debug)]
pub(crate) struct ReclaimBatch {
    staging: Mapping,
    /// The victims of a batch, by unit. Never longer than a batch, so it never grows.
    batch: Vec<Evictee>,
    /// The victims that were moved, in the order of the staging area.
    staged: Vec<Evictee>,
}

/// How a staged unit ended.
enum PutAway {
    Stored,
    Clean,
    Zero,
    /// The store refused it.
    Refused,
}

impl ReclaimBatch {
    pub(crate) fn new(staging: Mapping) -> ReclaimBatch {
        ReclaimBatch {
            staging,
            batch: Vec::with_capacity(BATCH),
            staged: Vec::with_capacity(BATCH),
        }
    }

    /// Makes a descriptor responsible for the staging area.
    pub(crate) fn register(&self, uffd: &Userfault) -> io::Result<()> {
        // SAFETY: (1) our mapping, whole pages; (2) the engine reads only pages that it moved here.
        unsafe { uffd.register(self.staging.base(), self.staging.len()) }
    }

    /// Sets whether a forked child has the staging area.
    pub(crate) fn set_inherited(&self, inherited: bool) -> io::Result<()> {
        self.staging.set_inherited(0, self.staging.len(), inherited)
    }
}

impl Engine {
    /// Puts cold units away while the region is over its limit, within the bound of one fault.
    pub(crate) fn balance(&self) {
        for _ in 0..BATCHES_PER_FAULT {
            if self.over_limit() == 0 || self.reclaim(BATCH) == 0 {
                break;
            }
        }
    }

    /// Puts cold units away until the region is within its limit, or nothing more can be done.
    pub(crate) fn balance_fully(&self) {
        if !self.is_ours() {
            return;
        }
        self.refresh_store_bytes();
        let mut fruitless = 0;
        while self.over_limit() > 0 && fruitless < 4 {
            let before = self.over_limit();
            // Waits for a handler that reclaims: it may have a batch that still counts as resident.
            if self.reclaim_with(self.reclaimer.lock(), BATCH) == 0 {
                break;
            }
            fruitless = if self.over_limit() < before { 0 } else { fruitless + 1 };
        }
    }

    /// Puts at most `want` of the coldest units away. Returns how many. If another thread is
    /// reclaiming, leaves the work to that thread, unless the region is over its limit by more than
    /// a batch.
    pub(crate) fn reclaim(&self, want: usize) -> usize {
        let far = self.over_limit() > BATCH * self.unit;
        let reclaimer = self.reclaimer.try_lock();
        let reclaimer = reclaimer.or_else(|| far.then(|| self.reclaimer.lock()));
        reclaimer.map_or(0, |reclaimer| self.reclaim_with(reclaimer, want))
    }

    fn reclaim_with(&self, mut reclaimer: MutexGuard<'_, ReclaimBatch>, want: usize) -> usize {
        self.choose_coldest(&mut reclaimer, want);
        let gone = self.put_batch_away(&mut reclaimer);
        self.refresh_store_bytes();
        gone
    }

    /// Puts the units of a range away that are resident and not held. Returns how many.
    pub(crate) fn evict_units(&self, units: std::ops::Range<usize>) -> usize {
        if !self.is_ours() {
            return 0;
        }
        let mut gone = 0;
        let mut at = units.start;
        while at < units.end {
            // A handler wakes a thread a moment before the unit counts as resident. Not under a
            // lock, because its owner may need the same one.
            while self.states.get(at).is_transient() {
                thread::yield_now();
            }
            let mut reclaimer = self.reclaimer.lock();
            reclaimer.batch.clear();
            {
                let mut residents = self.residents.lock();
                while at < units.end && reclaimer.batch.len() < BATCH {
                    let state = self.states.get(at);
                    if state.is_transient() {
                        break;
                    }
                    if state == UnitState::Resident && !residents.is_held(at) {
                        self.claim_resident(at);
                        reclaimer.batch.push(residents.remove(at));
                    }
                    at += 1;
                }
            }
            gone += self.put_batch_away(&mut reclaimer);
        }
        self.refresh_store_bytes();
        gone
    }

    fn choose_coldest(&self, reclaimer: &mut ReclaimBatch, want: usize) {
        reclaimer.batch.clear();
        let mut residents = self.residents.lock();
        let mut looks = 0;
        while reclaimer.batch.len() < want.min(BATCH) && residents.len() > MIN_RESIDENT {
            let Some(unit) = residents.coldest() else { break };
            looks += 1;
            if looks > 4 * BATCH {
                // Nearly all is held: the next batch continues where this one ends.
                break;
            }
            if residents.is_held(unit) {
                residents.defer(unit);
                continue;
            }
            self.claim_resident(unit);
            reclaimer.batch.push(residents.remove(unit));
        }
    }

    /// Makes the caller, who has the lock of the residents, the owner of a unit in a queue.
    fn claim_resident(&self, unit: usize) {
        let claimed = self.states.claim(unit, UnitState::Resident, UnitState::Evicting);
        // Units are `Resident` exactly while they are in a queue, and both change under the lock.
        debug_assert!(claimed, "unit {unit} is in a queue and not resident");
    }

    /// Puts the units of `reclaimer.batch` away, which the caller owns and has taken out of their
    /// queues. Returns how many went.
    fn put_batch_away(&self, reclaimer: &mut ReclaimBatch) -> usize {
        let ReclaimBatch { staging, batch, staged } = reclaimer;
        batch.sort_unstable_by_key(|evictee| evictee.unit);
        staged.clear();
        let mut rest = &batch[..];
        while let [first, ..] = rest {
            let run = rest.iter().zip(first.unit..).take_while(|(of, unit)| of.unit == *unit);
            let (run, behind) = rest.split_at(run.count());
            self.stage_run(staging, staged, run);
            rest = behind;
        }
        let mut gone = 0;
        for (at, evictee) in staged.iter().enumerate() {
            // SAFETY: (1) the page was moved here; (2) nothing else refers to the staging area,
            // which is behind a lock.
            let bytes = unsafe { staging.bytes(at * self.unit, self.unit) };
            match self.put_unit_away(*evictee, bytes) {
                PutAway::Refused => self.move_back(staging, at, evictee.unit),
                end => {
                    gone += 1;
                    self.finish_eviction(evictee.unit, &end);
                }
            }
        }
        if !staged.is_empty() {
            empty_staging(staging, staged.len() * self.unit);
        }
        gone
    }

    /// Moves a run of neighbours to the staging area. Units that cannot be moved stay.
    fn stage_run(&self, staging: &Mapping, staged: &mut Vec<Evictee>, run: &[Evictee]) {
        let mut rest = run;
        let mut retries = 0;
        let mut unshared = None;
        let mut at_once = run.len();
        while let [first, ..] = rest {
            let to = staging.at(staged.len() * self.unit);
            let tried = rest.len().min(at_once);
            let len = tried * self.unit;
            // SAFETY: (1) both ours, whole pages, registered; (2) the units are `Evicting` and
            // owned by this thread, which wakes those that wait; (3) the staging area is empty
            // from here on, and behind a lock.
            let (bytes, error) = unsafe { self.uffd.move_pages(to, self.page(first.unit), len) };
            let (moved, behind) = rest.split_at(bytes / self.unit);
            staged.extend_from_slice(moved);
            rest = behind;
            if error.is_none() {
                continue;
            }
            if error == Some(Errno::AGAIN) && (bytes > 0 || retries < 8) {
                retries += 1;
                continue;
            }
            if bytes == 0 && tried > 1 && matches!(error, Some(Errno::INVAL | Errno::NOENT)) {
                // The run is in two mappings of a reserve, to the kernel.
                at_once = 1;
                continue;
            }
            if error == Some(Errno::BUSY)
                && let [first, ..] = rest
                && unshared != Some(first.unit)
                && self.unshare(first.unit)
            {
                unshared = Some(first.unit);
                continue;
            }
            if let [stuck, behind @ ..] = rest {
                // `EBUSY`: pinned by a device. `EINVAL`: locked, or protected by the program.
                self.counters.pinned.add(1);
                self.put_back(*stuck);
                rest = behind;
            }
        }
    }

    /// Copies the page of a unit, if a forked process may have it as well: shared pages do not
    /// move. Returns whether the page may move now.
    ///
    /// Only for a unit whose page the kernel has just found: to fill a missing one, it would wait
    /// for a handler, and this may be the only one.
    fn unshare(&self, unit: usize) -> bool {
        // Relaxed: set while no other thread was in the engine.
        self.forked.load(Ordering::Relaxed)
            && self.memory.unshare(unit * self.unit, self.unit).is_ok()
    }

    /// Makes a unit resident again whose page never left.
    fn put_back(&self, evictee: Evictee) {
        let mut residents = self.residents.lock();
        residents.push(evictee.unit, Fifo::Main, evictee.fingerprint);
        self.settle(evictee.unit, UnitState::Resident);
    }

    fn put_unit_away(&self, evictee: Evictee, bytes: &[u8]) -> PutAway {
        let key = evictee.unit as u64;
        if evictee.fingerprint.is_some()
            && evictee.fingerprint == Some(self.fingerprint_key.of(bytes))
        {
            return PutAway::Clean;
        }
        if is_zero(bytes) {
            if evictee.fingerprint.is_some() {
                self.store.invalidate(&key);
            }
            return PutAway::Zero;
        }
        match self.store.store(key, bytes) {
            Ok(()) => PutAway::Stored,
            Err(_) => PutAway::Refused,
        }
    }

    fn finish_eviction(&self, unit: usize, end: &PutAway) {
        self.counters.evicted.add(1);
        let state = match end {
            PutAway::Zero => {
                self.counters.dropped_zero.add(1);
                UnitState::Empty
            }
            PutAway::Clean => {
                self.counters.dropped_clean.add(1);
                UnitState::Stored
            }
            PutAway::Stored | PutAway::Refused => UnitState::Stored,
        };
        self.residents.lock().note_evicted(unit);
        self.resident.fetch_sub(1, Ordering::Relaxed);
        self.settle(unit, state);
    }

    /// Returns a page to its unit, because the store refused it: a page that stays is over the
    /// limit, and one that goes is lost.
    fn move_back(&self, staging: &Mapping, at: usize, unit: usize) {
        self.counters.stores_failed.add(1);
        let from = staging.at(at * self.unit);
        for _ in 0..1000 {
            // SAFETY: (1) both ours, whole pages, registered; (2) this thread has the staging area
            // and does not touch the page again; (3) the unit's page is missing, so there is none.
            let (bytes, _) = unsafe { self.uffd.move_pages(self.page(unit), from, self.unit) };
            if bytes > 0 {
                self.put_back(Evictee { unit, fingerprint: None });
                self.wake(unit);
                return;
            }
            thread::yield_now();
        }
        lost_unit();
    }
}

/// Frees the frames of pages that were put away.
fn empty_staging(staging: &Mapping, len: usize) {
    // SAFETY: (1) the caller has the staging area, and its slices are gone; (2) what was in these
    // pages is in the store, was zeros, or was moved back.
    let mut emptied = unsafe { staging.discard(0, len) };
    if emptied.is_err() {
        // The program locked its memory since (`mlockall`): ours need not be.
        let _ = staging.unlock();
        // SAFETY: as above.
        emptied = unsafe { staging.discard(0, len) };
    }
    if emptied.is_err() {
        // The next batch finds its place taken, and so leaves its units where they are.
        debug_assert!(false, "{emptied:?}");
    }
}

/// Returns whether all bytes are 0.
fn is_zero(bytes: &[u8]) -> bool {
    // Most units differ in the first line already.
    let (lines, rest) = bytes.as_chunks::<64>();
    lines.iter().all(|line| line == &[0; 64]) && rest.iter().all(|&byte| byte == 0)
}
