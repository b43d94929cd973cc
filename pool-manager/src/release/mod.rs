//! From the last reference to the destroyed pool.
//!
//! ```text
//!   last PoolRef dropped ──► released, in a NoBlock section: job ──► destroy queue ──► destroyed
//!        (any thread)              │ a ticket for it                      ▲
//!                                  ├──► executor, or a waiting thread ────┤
//!                                  │ refused                              │
//!                                  ├──► orphan list ──► next switch, reap(), manager's drop
//!                                  └ manager gone ──► run here; in a no-block section: leaked
//! ```
//!
//! Nothing here unwinds: foreign code is called inside a catch.

pub(crate) mod destroy_queue;
pub(crate) mod pool_executor;
pub(crate) mod release_gate;

use std::cell::Cell;
use std::sync::Arc;

use zpool_core::NoBlock;
use zpool_core::exec::{Executor, Job};
use zpool_core::internal::sync::atomic::Ordering;
use zpool_core::internal::{Dying, Foreign, Released, catch};

use self::release_gate::Leftovers;
use crate::observe::PoolEventKind;
use crate::pools::pool::{DestroyJobs, Drivers, Parts, Pool};
use crate::shared::{Shared, count};

/// Pools leaked so far. A static of the process, because a pool may outlive its manager; and not
/// one of loom's, because it is part of no protocol.
static LEAKED: core::sync::atomic::AtomicU64 = core::sync::atomic::AtomicU64::new(0);

/// Returns how many pools of this process were leaked. There are two reasons:
///
/// - The last reference was dropped inside a [`NoBlock`] section after the manager was dropped.
///   That thread must not block, and no other thread would destroy the pool.
/// - The thread that was destroying the pool ended halfway, or does not exist in a forked child.
pub fn pools_leaked() -> u64 {
    // Relaxed: statistics only.
    LEAKED.load(Ordering::Relaxed)
}

/// Counts pools that no thread will destroy.
fn count_leaked(pools: usize) {
    // Relaxed: statistics only.
    LEAKED.fetch_add(pools as u64, Ordering::Relaxed);
}

thread_local! {
    /// Releases on this thread's stack. A pool that is destroyed on this thread while it is not
    /// zero is destroyed by the call that dropped its last reference.
    static RELEASING: Cell<u32> = const { Cell::new(0) };
}

impl Released for Pool {
    fn released(dying: Dying<Pool>) {
        let in_no_block = NoBlock::is_active();
        let section = NoBlock::enter();
        let shared = dying.shared().clone();
        shared.notifier.notify_pool(PoolEventKind::Emptied, &dying);
        let DestroyJobs { job, ticket } = dying.take_jobs();
        let bytes = shared.charge_pending(&dying);
        let job = job.arm(PendingDestroy { bytes, dying: Some(dying) });
        RELEASING.with(|depth| depth.set(depth.get() + 1));
        let leftovers = shared.gate.hand_over(job, || ticket.arm(Ticket(shared.clone())));
        RELEASING.with(|depth| depth.set(depth.get() - 1));
        drop(section);
        if let Some(leftovers) = leftovers {
            finish_leftovers(leftovers, &shared, in_no_block);
        }
        // If this was the last owner, the manager is gone and has taken the executor, so only
        // memory is freed here.
        drop(shared);
    }
}

/// Finishes what a manager that is gone has left to this thread.
fn finish_leftovers(leftovers: Leftovers, shared: &Shared, must_not_block: bool) {
    let Leftovers { job, orphans, executor } = leftovers;
    let orphans = if orphans { shared.gate.take_orphans() } else { Vec::new() };
    for job in job.into_iter().chain(orphans) {
        run_or_leak(job, must_not_block);
    }
    let is_last = |executor: &Foreign<Arc<dyn Executor>>| Arc::strong_count(executor) == 1;
    if must_not_block && executor.as_ref().is_some_and(is_last) {
        // We are its only owner, and its drop may wait for its jobs. (The manager told a queue of
        // its own to end.) The executor's thread ends it.
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
        // A destructor's panic is caught and counted where it happens.
        let _ = job.run();
    }
}

/// Drops an object that a plug-in made. Catches and counts a panic.
pub(crate) fn destroy<T>(made: T, shared: &Shared) {
    if catch(|| drop(made)).is_none() {
        count(&shared.counters.destructors_panicked);
    }
}

/// An executor's part in a destruction: run or dropped, it destroys the pool that has waited
/// longest.
#[derive(Debug)]
pub(crate) struct Ticket(Arc<Shared>);

impl Drop for Ticket {
    fn drop(&mut self) {
        self.0.gate.destroy_oldest();
    }
}

/// A pool that its job owns. Dropping it destroys the pool, so a job that is dropped unrun loses
/// nothing.
#[derive(Debug)]
pub(crate) struct PendingDestroy {
    dying: Option<Dying<Pool>>,
    /// The allocator's bytes when the last reference was dropped: pending until it is destroyed.
    bytes: usize,
}

impl Drop for PendingDestroy {
    fn drop(&mut self) {
        let Some(dying) = self.dying.take() else { return };
        let shared = dying.shared().clone();
        let (label, created, block) =
            (dying.label().clone(), dying.created(), Dying::block(&dying).clone());
        // First: a destroyed or half destroyed pool is on no list (I2).
        shared.pools.unlist(&dying);
        let Parts { codec, zpool, drivers } = dying.into_value().into_parts();
        shared.pools.free_block(block);
        // Contexts first: they may refer to what the compressor shares. Relaxed: statistics only.
        shared
            .counters
            .destructors_panicked
            .fetch_add(codec.free_contexts() as u64, Ordering::Relaxed);
        destroy(codec, &shared);
        destroy(zpool, &shared);
        shared.gate.subtract_pending_bytes(self.bytes);
        let Drivers { allocator, compressor } = drivers;
        destroy(allocator, &shared);
        destroy(compressor, &shared);
        if RELEASING.with(Cell::get) > 0 {
            count(&shared.counters.destroyed_on_caller);
        }
        count(&shared.counters.destroyed);
        shared.notifier.notify(PoolEventKind::Destroyed, &label, created.elapsed(), 0);
        shared.gate.end_pending();
    }
}
