//! State of the moves between pools: where they go on, and memory for their batches.

use std::time::Duration;

use bumpalo::Bump;
use zpool_core::internal::sync::Mutex;
use zpool_core::internal::sync::atomic::{AtomicUsize, Ordering};

use crate::index::table::Position;
use crate::stats::drain_report::DrainEnd;
use crate::store::Store;

/// How much of one CPU a drain takes unless the policy says otherwise, in percent.
const DEFAULT_SHARE_PERCENT: u8 = 50;

/// The next entry to look at, in the order of shards and hashes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct MoveCursor {
    pub(crate) shard: usize,
    pub(crate) position: Position,
}

/// State of a store's moves.
#[derive(Debug, Default)]
pub(crate) struct DrainState {
    /// Held while a batch is chosen, so that two drains choose different entries. The lock of a
    /// shard is taken under it.
    pub(crate) cursor: Mutex<MoveCursor>,
    /// The arena of the latest drain, for the next one.
    arena: Mutex<Option<Bump>>,
    /// Bytes that have left retired pools since these were compacted.
    holes: AtomicUsize,
    /// Not held while a job is submitted, because an executor may run it at once.
    pub(crate) background: Mutex<BackgroundDrain>,
    pub(crate) policy: DrainPolicy,
}

impl DrainState {
    /// Adds bytes that have left retired pools. Returns how many have since the last compaction.
    pub(crate) fn add_holes(&self, bytes: usize) -> usize {
        // Relaxed, here and below: an estimate.
        self.holes.fetch_add(bytes, Ordering::Relaxed) + bytes
    }

    /// Notes that the pools were compacted.
    pub(crate) fn reset_holes(&self) {
        self.holes.store(0, Ordering::Relaxed);
    }

    /// Takes the arena, or makes one. It is returned by [`keep_arena`](Self::keep_arena).
    pub(crate) fn take_arena(&self) -> Bump {
        self.arena.lock().take().unwrap_or_default()
    }

    /// Keeps an arena for the next drain. A second one, of a drain at the same time, is freed.
    pub(crate) fn keep_arena(&self, arena: Bump) {
        let second = self.arena.lock().replace(arena);
        drop(second);
    }
}

/// When a store drains its retired pools by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum DrainPolicy {
    /// Not unless [`switch_and_drain`](crate::Store::switch_and_drain) or
    /// [`drain`](crate::Store::drain) is called.
    #[default]
    Never,
    /// On the executor, once no switch has happened for some time.
    After {
        /// The time since the last switch. An executor without a clock does not wait.
        idle: Duration,
        /// How much of one CPU the drain takes: 1 to 100 percent. An executor without a clock does
        /// not pause between its steps.
        share_percent: u8,
    },
}

impl DrainPolicy {
    /// How much of one CPU a drain takes, in percent.
    pub(crate) fn share_percent(self) -> u8 {
        match self {
            DrainPolicy::Never => DEFAULT_SHARE_PERCENT,
            DrainPolicy::After { share_percent, .. } => share_percent,
        }
    }
}

/// Function that begins the work of a store's policy.
pub(crate) type StartDrain<K, S> = fn(&Store<K, S>);

/// A drain on the executor.
#[derive(Debug, Default)]
pub(crate) struct BackgroundDrain {
    /// A job is queued, or runs.
    pub(crate) has_job: bool,
    pub(crate) is_paused: bool,
    /// There is something to do, as far as is known.
    pub(crate) is_wanted: bool,
    /// How often a drain was asked for. One that ends for an older request goes on for a newer one.
    pub(crate) requests: u64,
    /// Entries moved since the last request.
    pub(crate) moved: usize,
    /// Steps in a row that moved nothing.
    pub(crate) fruitless: u32,
    pub(crate) last_end: Option<DrainEnd>,
}
