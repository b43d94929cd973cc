//! The limit: what the store may hold, in bytes as the operating system counts them, and the hysteresis around it.
//!
//! What is held is the sum over all pools (retired ones included, with the contexts of their compressors) and the index. Walking the pools takes a
//! lock and a heap call, so a store asks only the current pool, and for all others uses what they held at the last switch: they are retired and only shrink,
//! so that is an upper bound. Only where the bound says no, the pools are walked and the exact figure decides.
//!
//! What is being stored while the limit is checked is not counted, so the limit is overshot by at most what the stores in flight add.

use zpool_core::sync::Mutex;
use zpool_core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use zpool_manager::{PoolManager, PoolRef};

use crate::error::ErrorKind;

/// No count of switches: nothing is known yet.
const NEVER: u64 = u64::MAX;

/// A limit, and whether it was reached.
#[derive(Debug)]
pub(crate) struct Limit {
    /// At this many bytes the store is full.
    max: usize,
    /// Once full, it takes blocks again below this many bytes.
    accept_below: usize,
    full: AtomicBool,
    /// What all pools but the current one held at most...
    others: AtomicUsize,
    /// ...as long as the manager has made this many switches.
    as_of: AtomicU64,
    /// Held while those two are written.
    refresh: Mutex<()>,
}

impl Limit {
    /// A limit of `max` bytes; once full, the store takes blocks again at `accept_percent` of it.
    pub(crate) fn new(max: usize, accept_percent: u8) -> Limit {
        let threshold = max as u128 * u128::from(accept_percent) / 100;
        let threshold = usize::try_from(threshold).unwrap_or(max);
        Limit {
            max,
            accept_below: threshold.saturating_add(1).min(max),
            full: AtomicBool::new(false),
            others: AtomicUsize::new(0),
            as_of: AtomicU64::new(NEVER),
            refresh: Mutex::new(()),
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.max
    }

    /// May a block be stored in `pool`?
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Full`].
    #[inline]
    pub(crate) fn admit(
        &self,
        pool: &PoolRef,
        manager: &PoolManager,
        index_bytes: usize,
    ) -> Result<(), ErrorKind> {
        // Relaxed: whoever is late to see the flag goes by the other threshold once more.
        let full = self.full.load(Ordering::Relaxed);
        let below = if full { self.accept_below } else { self.max };
        // Acquire: pairs with the Release in `walk`: the bound is that of the count.
        if self.as_of.load(Ordering::Acquire) == manager.switches() {
            let others = self.others.load(Ordering::Relaxed);
            if pool.bytes_held() + others + index_bytes < below {
                self.set_full(full, false);
                return Ok(());
            }
        }
        let held = self.walk(manager) + index_bytes;
        self.set_full(full, held >= below);
        if held < below { Ok(()) } else { Err(ErrorKind::Full { held, limit: self.max }) }
    }

    #[inline]
    fn set_full(&self, was: bool, is: bool) {
        if was != is {
            self.full.store(is, Ordering::Relaxed);
        }
    }

    /// What all pools hold now; and remembers the part of those that are not current.
    #[cold]
    fn walk(&self, manager: &PoolManager) -> usize {
        let before = manager.switches();
        let Some(current) = manager.current() else { return manager.bytes_held() };
        let others = manager.bytes_held_besides(&current);
        let refresh = self.refresh.lock();
        // Unchanged: so `current` was current all the time, or is the successor that a switch has published and not counted yet. What is
        // written in that moment ends with the count.
        if manager.switches() == before {
            // A reader between the two stores uses the new bound with the old count, once.
            self.others.store(others, Ordering::Relaxed);
            // Release: pairs with the Acquire in `admit`.
            self.as_of.store(before, Ordering::Release);
        }
        drop(refresh);
        current.bytes_held() + others
    }
}
