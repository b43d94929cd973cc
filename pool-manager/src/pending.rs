//! Destroying the pools that await it, for a caller that needs their memory.

use std::time::{Duration, Instant};

use zpool_core::internal::in_job;
use zpool_core::internal::sync::atomic::Ordering;
use zpool_core::{NoBlock, might_block};

use crate::hub::{Hub, is_handing_over};
use crate::manager::PoolManager;
use crate::queue::wait::PATIENCE;
use crate::switch::is_inside_switch;

/// How long a caller waits for destructions that other threads have begun.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

impl PoolManager {
    /// Returns the bytes of the allocators of pools that await destruction.
    #[inline]
    pub fn pending_bytes(&self) -> usize {
        // Relaxed: a statistic.
        self.hub.counters.pending_bytes.load(Ordering::Relaxed)
    }

    /// Destroys the pools that await destruction and that the executor has not begun to destroy,
    /// then waits up to a second for those that other threads are destroying. Returns the bytes
    /// that their allocators held.
    ///
    /// A destruction that took longer than that is not waited for again until another one ends.
    /// Does nothing where it could be waiting for itself: inside a job, a switch, an observer, a
    /// constructor, an executor's `submit` or a no-block section. May block; hold no lock that a
    /// plug-in's destructor wants.
    pub fn destroy_pending(&self) -> usize {
        if in_job() || is_inside_switch() || is_handing_over() || NoBlock::is_active() {
            return 0;
        }
        if !self.hub.has_pending() {
            return 0;
        }
        might_block("PoolManager::destroy_pending");
        let before = self.pending_bytes();
        self.hub.destroy_pending();
        before.saturating_sub(self.pending_bytes())
    }
}

impl Hub {
    fn has_pending(&self) -> bool {
        let gate = self.gate.lock();
        gate.pending > gate.lost
    }

    fn destroy_pending(&self) {
        let deadline = Instant::now() + LONGEST_WAIT;
        loop {
            self.run_orphans();
            while self.doomed.run_one() {}
            let mut gate = self.gate.lock();
            if gate.pending <= gate.lost.max(gate.stuck) {
                return;
            }
            // A job is pushed before its pusher takes the gate's lock to say so.
            if self.doomed.is_waiting() || !self.orphans.is_empty() {
                continue;
            }
            if Instant::now() >= deadline || self.maker.is_of_another_process() {
                gate.stuck = gate.pending;
                return;
            }
            self.gate_moved.wait_for(&mut gate, PATIENCE);
        }
    }
}
