//! Fills missing pages: from the store, or with zeros.

use std::io::Write;

use rustix::io::Errno;
use zpool_core::internal::sync::thread;

use crate::engine::{Engine, PlantedBug};
use crate::fingerprint::Fingerprint;
use crate::readahead::MAX_WINDOW;
use crate::residents::Fifo;
use crate::state::UnitState;

/// Result of one attempt to serve an access.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Served {
    /// The page was missing and is there now, or the access has to be repeated.
    Filled,
    /// The page was there already.
    Present,
    /// Another thread owns the unit, and wakes all that wait for it.
    InTransit,
    /// The contents could not be brought back. The access raises `SIGBUS`.
    Poisoned,
    /// Not memory of the program any more. The access raises `SIGSEGV` when it is repeated.
    Closed,
}

/// A window of units that one thread fills.
struct Window {
    first: usize,
    len: usize,
    /// The queue for each unit, and the fingerprint of the block that stays in the store.
    plans: [(Fifo, Option<Fingerprint>); MAX_WINDOW],
}

/// Attempts to fill a page before its unit counts as lost, if the kernel has no memory.
const FILL_ATTEMPTS: usize = 1000;

impl Engine {
    /// Serves an access to a unit, once. Does not wait for other threads.
    pub(crate) fn serve(&self, unit: usize, write: bool) -> Served {
        self.serve_with(unit, write, || self.readahead.window(unit))
    }

    /// Serves an access, and brings in up to `window` units if this one is not resident.
    fn serve_with(&self, unit: usize, write: bool, window: impl Fn() -> usize) -> Served {
        loop {
            match self.states.get(unit) {
                UnitState::Resident => return Served::Present,
                UnitState::Poisoned => return Served::Poisoned,
                UnitState::Closed => return Served::Closed,
                from @ (UnitState::Empty | UnitState::Stored) => {
                    if self.states.claim(unit, from, UnitState::Loading) {
                        return self.fill_window(unit, from, window(), write);
                    }
                }
                UnitState::Loading | UnitState::Evicting => {
                    if self.states.ask_for_wake(unit) {
                        return Served::InTransit;
                    }
                }
            }
        }
    }

    /// Brings a unit in, with up to `window` units from it on, and waits while another thread owns
    /// it. Returns false if it is poisoned or closed.
    pub(crate) fn bring_in(&self, unit: usize, window: usize, write: bool) -> bool {
        loop {
            match self.serve_with(unit, write, || window) {
                Served::Filled if self.states.get(unit) != UnitState::Poisoned => return true,
                Served::Present => return true,
                Served::Filled | Served::Poisoned | Served::Closed => return false,
                // Its owner does a bounded amount of work, and never waits for a fault.
                Served::InTransit => thread::yield_now(),
            }
        }
    }

    /// Fills `first`, which the caller has claimed in state `from`, and those after it that are in
    /// that state as well, up to `window` units.
    pub(crate) fn fill_window(
        &self,
        first: usize,
        from: UnitState,
        window: usize,
        write: bool,
    ) -> Served {
        let window = window.min(self.states.len() - first).min(MAX_WINDOW);
        if from == UnitState::Empty {
            self.fill_zeros(first, window, write)
        } else {
            self.fill_stored(first, window, write)
        }
    }

    fn fill_zeros(&self, first: usize, window: usize, write: bool) -> Served {
        let mut len = 1;
        while len < window && self.states.claim(first + len, UnitState::Empty, UnitState::Loading) {
            len += 1;
        }
        let window = Window { first, len, plans: [(Fifo::Small, None); MAX_WINDOW] };
        self.publish(&window, UnitState::Empty, |done, left| {
            let page = self.memory.at(first * self.unit + done);
            if write {
                // SAFETY: (1) ordinary memory, which the kernel fills; (2) it is never written.
                let zeros = unsafe { self.zeros.bytes(0, left) };
                // SAFETY: (1) and (2): these units are ours and empty, so they are missing pages
                // that read as zeros.
                unsafe { self.uffd.copy(page, zeros) }
            } else {
                // SAFETY: (1) and (2): as above.
                unsafe { self.uffd.zero(page, left) }
            }
        })
    }

    fn fill_stored(&self, first: usize, window: usize, write: bool) -> Served {
        let mut buffer = self.buffers.take();
        let mut filled = Window { first, len: 0, plans: [(Fifo::Small, None); MAX_WINDOW] };
        while filled.len < window {
            let unit = first + filled.len;
            let ahead = filled.len > 0;
            if ahead && !self.states.claim(unit, UnitState::Stored, UnitState::Loading) {
                break;
            }
            // A unit that nothing has asked for arrives cold.
            let fifo =
                if ahead { Fifo::Small } else { self.residents.lock().fifo_of_fault(unit, true) };
            let into = buffer.unit_mut(filled.len);
            match self.store.load(&(unit as u64), into) {
                Ok(Some(len)) if len == self.unit => {
                    // Keeping the block pays if the unit is likely to be evicted before it is
                    // written.
                    let keep = self.clean_copies && fifo == Fifo::Small && (ahead || !write);
                    let fingerprint = keep.then(|| self.fingerprint_key.of(into));
                    filled.plans[filled.len] = (fifo, fingerprint);
                    filled.len += 1;
                }
                // Its own fault will find out.
                _ if ahead => {
                    self.settle(unit, UnitState::Stored);
                    break;
                }
                _ => return self.poison(unit),
            }
        }
        self.counters.loads.add(1);
        self.counters.read_ahead.add(filled.len - 1);
        self.publish(&filled, UnitState::Stored, |done, left| {
            let page = self.memory.at(first * self.unit + done);
            // SAFETY: (1) these units are ours, and were stored, so their pages are missing; (2)
            // the bytes are those last stored under the unit.
            unsafe { self.uffd.copy(page, &buffer.units(filled.len)[done..done + left]) }
        })
    }

    /// Fills the pages of a window with `fill`, which receives the bytes that are done and those
    /// that it should do next, and makes its units evictable. If the kernel has no memory, the
    /// remaining units go back to `from`; if none was filled, the first unit is poisoned.
    fn publish(
        &self,
        window: &Window,
        from: UnitState,
        mut fill: impl FnMut(usize, usize) -> (usize, Option<Errno>),
    ) -> Served {
        let total = window.len * self.unit;
        let mut done = 0;
        let mut attempts = 0;
        let mut at_once = total;
        while done < total {
            let left = at_once.min(total - done);
            let (bytes, error) = fill(done, left);
            done += bytes;
            match error {
                // The address space is being changed, by a fork or an unmapping elsewhere.
                None | Some(Errno::AGAIN) => {}
                // A page of a unit that is not resident can only be there if the program put it
                // there, against the contract; the contents are then its own.
                Some(Errno::EXIST) => done += self.unit,
                // The window is in two mappings of a reserve, to the kernel.
                Some(_) if left > self.unit => at_once = self.unit,
                Some(_) => {
                    attempts += 1;
                    if attempts == FILL_ATTEMPTS {
                        break;
                    }
                    self.reclaim(MAX_WINDOW);
                    thread::yield_now();
                }
            }
        }
        let filled = done / self.unit;
        for at in filled..window.len {
            let unit = window.first + at;
            if at == 0 {
                return self.poison_all(window, from);
            }
            self.settle(unit, from);
        }
        self.make_evictable(window, filled, from);
        Served::Filled
    }

    /// Puts units whose pages are there into their queues.
    fn make_evictable(&self, window: &Window, filled: usize, from: UnitState) {
        let plans = || (window.first..).zip(window.plans).take(filled);
        let stale =
            |fingerprint: Option<Fingerprint>| from == UnitState::Stored && fingerprint.is_none();
        let early = self.planted != PlantedBug::LateInvalidate;
        // A block that will not be compared must be gone before the unit can be evicted: what an
        // eviction stores would be removed by a later invalidation.
        let invalidate = || {
            for (unit, (_, fingerprint)) in plans() {
                if stale(fingerprint) {
                    self.store.invalidate(&(unit as u64));
                }
            }
        };
        if early {
            invalidate();
        }
        self.resident.fetch_add(filled, zpool_core::internal::sync::atomic::Ordering::Relaxed);
        {
            let mut residents = self.residents.lock();
            for (unit, (fifo, fingerprint)) in plans() {
                residents.push(unit, fifo, fingerprint);
                self.settle(unit, UnitState::Resident);
            }
        }
        if !early {
            // Only those with a block that is invalidated below: an access to any other must not
            // race with this.
            for (unit, _) in plans().filter(|(_, (_, fingerprint))| stale(*fingerprint)) {
                self.evict_units(unit..unit + 1);
            }
            invalidate();
        }
    }

    /// Ends the ownership of a unit, and wakes threads that wait for it.
    pub(crate) fn settle(&self, unit: usize, to: UnitState) {
        if self.states.settle(unit, to) {
            self.wake(unit);
        }
    }

    /// Loses a unit that the caller owns: accesses raise `SIGBUS`. Never zeros, never a hang.
    fn poison(&self, unit: usize) -> Served {
        self.counters.poisoned.add(1);
        // SAFETY: (1) the unit is ours, and its page is missing.
        let (_, error) = unsafe { self.uffd.poison(self.page(unit), self.unit) };
        if error.is_some_and(|error| error != Errno::EXIST) {
            // Without the mark, an accessor could only wait for ever.
            lost_unit();
        }
        self.settle(unit, UnitState::Poisoned);
        // Poisoning wakes threads that wait, except for those that arrived meanwhile.
        self.wake(unit);
        Served::Poisoned
    }

    fn poison_all(&self, window: &Window, from: UnitState) -> Served {
        (1..window.len).for_each(|at| self.settle(window.first + at, from));
        self.poison(window.first)
    }
}

/// Ends the process, because a thread waits for bytes that can neither be had nor refused.
pub(crate) fn lost_unit() -> ! {
    // Not formatted, and standard error has no buffer, so this needs no heap.
    let message = b"zpool-region: a page can be neither filled nor poisoned, aborting\n";
    let _ = std::io::stderr().write_all(message);
    std::process::abort()
}
