//! From the last reference to the destroyed pool.
//!
//! ```text
//!   last PoolRef dropped ──► released: NoBlock section, the pool's own job ──► doomed jobs ──► Doomed dropped: unlist, destroy
//!        (any thread)              │ a ticket for it                            ▲
//!                                  ├──► executor, or a thread that waits for it ┤
//!                                  │ refused                                    │
//!                                  ├──► orphan list ──► next switch, reap(), manager's drop
//!                                  └ manager gone ──► run here; inside a no-block section: leak, and count
//! ```
//!
//! Nothing in it unwinds: what is foreign is called inside a catch.

use std::cell::Cell;
use std::sync::Arc;

use zpool_core::NoBlock;
use zpool_core::exec::{Executor, Job};
use zpool_core::internal::sync::atomic::Ordering;
use zpool_core::internal::{Contained, contained};
use zpool_core::internal::{Dying, Released};

use crate::hub::{Hub, Left, count};
use crate::observe::PoolEventKind;
use crate::pool::{Drivers, Parts, Pool};

/// Pools leaked so far. The process's, because a manager is gone when one of its pools is; core's,
/// since statics are no part of a protocol.
static LEAKED: core::sync::atomic::AtomicU64 = core::sync::atomic::AtomicU64::new(0);

/// Returns how many pools of this process were leaked. There are two reasons:
///
/// - The last reference was dropped inside a [`NoBlock`] section after the manager was gone: that
///   thread must not block, and there is no other that would destroy the pool.
/// - The thread that destroyed the pool was ended in the middle, or is not there in a forked child.
pub fn pools_leaked() -> u64 {
    // Relaxed: statistics only.
    LEAKED.load(Ordering::Relaxed)
}

/// Counts pools that no thread will destroy.
pub(crate) fn count_leaked(pools: usize) {
    // Relaxed: statistics only.
    LEAKED.fetch_add(pools as u64, Ordering::Relaxed);
}

thread_local! {
    /// Releases on this thread's stack: a pool destroyed while this is not zero was destroyed by
    /// the call that dropped it.
    static RELEASING: Cell<u32> = const { Cell::new(0) };
}

impl Released for Pool {
    fn released(dying: Dying<Pool>) {
        let inside = NoBlock::is_active();
        let section = NoBlock::enter();
        let hub = dying.hub().clone();
        hub.watch.pool(PoolEventKind::Emptied, &dying);
        let (job, ticket) = dying.take_jobs();
        let job = job.arm(Doomed { bytes: hub.owe(&dying), dying: Some(dying) });
        RELEASING.with(|r| r.set(r.get() + 1));
        let left = hub.hand_over(job, ticket);
        RELEASING.with(|r| r.set(r.get() - 1));
        drop(section);
        if let Some(left) = left {
            see_to(left, &hub, inside);
        }
        // If this was the last owner of the hub: the manager is gone and the executor out of it, so
        // only memory is freed here.
        drop(hub);
    }
}

/// The manager is gone: nobody else will do it.
pub(crate) fn see_to(left: Left, hub: &Hub, must_not_block: bool) {
    let Left { job, orphans, executor } = left;
    let orphans = if orphans { hub.take_orphans() } else { Vec::new() };
    for job in job.into_iter().chain(orphans) {
        run_or_leak(job, must_not_block);
    }
    let last = |executor: &Contained<Arc<dyn Executor>>| Arc::strong_count(executor) == 1;
    if must_not_block && executor.as_ref().is_some_and(last) {
        // Ours alone, and its drop may wait for its jobs. (The manager's own queue was told to end
        // when the manager went.) The thread that has it ends it.
        std::mem::forget(executor);
    } else {
        drop(executor);
    }
}

fn run_or_leak(job: Job, must_not_block: bool) {
    if must_not_block {
        count_leaked(1);
        std::mem::forget(job);
    } else {
        // A destructor's panic is contained and counted where it happens.
        let _ = job.run();
    }
}

/// Drops what a plug-in made. A panic in that is contained and counted.
pub(crate) fn destroy<T>(made: T, hub: &Hub) {
    if contained(|| drop(made)).is_none() {
        count(&hub.counters.destructors_panicked);
    }
}

/// A pool in the hands of its job. Dropping this destroys the pool, also when the job itself is
/// dropped unrun: nothing is lost.
#[derive(Debug)]
pub(crate) struct Doomed {
    dying: Option<Dying<Pool>>,
    /// What its allocator held when it came here, on the books until it is gone.
    bytes: usize,
}

impl Drop for Doomed {
    fn drop(&mut self) {
        let Some(dying) = self.dying.take() else { return };
        let hub = dying.hub().clone();
        let (label, created, block) =
            (dying.label().clone(), dying.created(), Dying::block(&dying).clone());
        // First: what is destroyed, or half destroyed, is on no list (I2).
        hub.unlist(&dying);
        let Parts { codec, zpool, drivers } = dying.into_value().into_parts();
        hub.free_block(block);
        // Contexts first: they may refer to what the compressor shares, the allocator to nothing of
        // theirs. Relaxed, here and below: statistics only.
        hub.counters
            .destructors_panicked
            .fetch_add(codec.free_contexts() as u64, Ordering::Relaxed);
        destroy(codec, &hub);
        destroy(zpool, &hub);
        hub.counters.pending_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        let Drivers { allocator, compressor } = drivers;
        destroy(allocator, &hub);
        destroy(compressor, &hub);
        if RELEASING.with(Cell::get) > 0 {
            count(&hub.counters.destroyed_on_caller);
        }
        count(&hub.counters.destroyed);
        hub.watch.tell(PoolEventKind::Destroyed, &label, created.elapsed(), 0);
        hub.one_less_pending();
    }
}
