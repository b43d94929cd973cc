//! How a part of a region becomes zeros again.

use std::ops::Range;

use zpool_core::internal::sync::atomic::Ordering;
use zpool_core::internal::sync::thread;

use crate::engine::Engine;
use crate::fault::lost_unit;
use crate::state::UnitState;

/// Units that are discarded by one system call.
const RUN: usize = 512;

impl Engine {
    /// Makes units empty, or closes them, whatever they are.
    ///
    /// No other thread of the program discards them. If one accesses them meanwhile, it finds what
    /// was there, or zeros, as with `MADV_DONTNEED`.
    pub(crate) fn discard_units(&self, units: Range<usize>, to: UnitState) {
        let mut at = units.start;
        while at < units.end {
            let end = units.end.min(at + RUN);
            let run = at..(at..end).find(|&unit| !self.claim_to_discard(unit)).unwrap_or(end);
            if run.is_empty() {
                // A handler thread owns the unit: it reads ahead, or puts it away.
                thread::yield_now();
                continue;
            }
            at = run.end;
            let len = run.len() * self.unit;
            // SAFETY: (1) whole pages, and the caller gave up what is in them; (2) the units are
            // owned by this thread, and are zeros from here on. Poison marks go, too.
            let gone = unsafe { self.memory.discard_even_locked(run.start * self.unit, len) };
            if gone.is_err() {
                lost_unit();
            }
            for unit in run {
                self.store.invalidate(&(unit as u64));
                self.settle(unit, to);
            }
        }
    }

    /// Makes the caller the owner of a unit in any state but a transient one.
    fn claim_to_discard(&self, unit: usize) -> bool {
        match self.states.get(unit) {
            UnitState::Resident => {
                // Units enter and leave the queues under this lock.
                let mut residents = self.residents.lock();
                if !self.states.claim(unit, UnitState::Resident, UnitState::Evicting) {
                    return false;
                }
                residents.remove(unit);
                self.resident.fetch_sub(1, Ordering::Relaxed);
                true
            }
            from if from.is_transient() => false,
            from => self.states.claim(unit, from, UnitState::Loading),
        }
    }
}
