//! From the last reference to the destroyed pool.
//!
//! ```text
//!   last PoolRef dropped ──► released: NoBlock section, the pool's own job ──► executor ──► Doomed dropped: unlist, destroy
//!        (any thread)              │ refused                                       ▲
//!                                  ├──► orphan list ──► next switch, reap(), manager's drop
//!                                  └ manager gone ──► run here; inside a no-block section: leak, and count
//! ```

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use zpool_core::exec::Job;
use zpool_core::{Dying, NoBlock, Released};

use crate::hub::count;
use crate::observe::PoolEventKind;
use crate::pool::{Parts, Pool};

thread_local! {
    /// Releases on this thread's stack: a pool destroyed while this is not zero was destroyed by the call that dropped it.
    static RELEASING: Cell<u32> = const { Cell::new(0) };
}

impl Released for Pool {
    fn released(dying: Dying<Pool>) {
        let inside = NoBlock::is_active();
        let section = NoBlock::enter();
        let hub = dying.hub().clone();
        hub.watch.pool(PoolEventKind::Emptied, &dying);
        let job = dying.take_job().arm(Doomed(Some(dying)));
        RELEASING.with(|r| r.set(r.get() + 1));
        let handed_over = hub.hand_over(job);
        RELEASING.with(|r| r.set(r.get() - 1));
        drop(section);
        if let Err(job) = handed_over {
            run_or_leak(job, inside, &hub.counters.pools_leaked);
        }
        // If this was the last owner of the hub: the manager is gone and took the executor with it, so only memory is freed here.
        drop(hub);
    }
}

/// The manager is gone: nobody else will run the job.
fn run_or_leak(job: Job, must_not_block: bool, leaked: &zpool_core::sync::atomic::AtomicU64) {
    if must_not_block {
        count(leaked);
        std::mem::forget(job);
    } else {
        // A destructor's panic is contained and counted where it happens.
        let _ = job.run();
    }
}

/// A pool in the hands of its job. Dropping this destroys the pool, also when the job itself is dropped unrun: nothing is lost.
#[derive(Debug)]
pub(crate) struct Doomed(Option<Dying<Pool>>);

impl Drop for Doomed {
    fn drop(&mut self) {
        let Some(dying) = self.0.take() else { return };
        let hub = dying.hub().clone();
        let (label, created) = (dying.label().clone(), dying.created());
        hub.unlist(label.id);
        let Parts { codec, zpool, drivers } = dying.into_value().into_parts();
        // Contexts first: they may refer to what the compressor shares, the allocator to nothing of theirs.
        for outcome in
            [catch_unwind(AssertUnwindSafe(|| drop(codec))), catch_unwind(AssertUnwindSafe(|| drop(zpool)))]
        {
            if outcome.is_err() {
                count(&hub.counters.destructors_panicked);
            }
        }
        drop(drivers);
        if RELEASING.with(Cell::get) > 0 {
            count(&hub.counters.destroyed_on_caller);
        }
        count(&hub.counters.destroyed);
        hub.watch.tell(PoolEventKind::Destroyed, &label, created.elapsed(), 0);
        hub.one_less_pending();
    }
}
