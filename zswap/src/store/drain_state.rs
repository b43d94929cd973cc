//! State of the moves between pools: where they continue, and memory for their batches.

use std::time::Duration;

use bumpalo::Bump;
use zpool_core::internal::sync::Mutex;

use crate::index::table::Position;
use crate::stats::drain_report::DrainEnd;
use crate::store::Store;

/// The share of one CPU, in percent, that a drain takes by default.
const DEFAULT_SHARE_PERCENT: u8 = 50;

/// The next entry to look at, in the order of shards and hashes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct MoveCursor {
    pub(crate) shard: usize,
    pub(crate) position: Position,
}

/// Progress of a drain over many calls.
#[derive(Debug, Default)]
struct MoveProgress {
    /// The manager's switches when it began.
    switches: Option<u64>,
    /// Bytes that the store held then.
    held: usize,
    /// Bytes of holes that moved entries left in retired pools, since compacting these was last
    /// considered.
    holes: usize,
    /// Entries moved out of retired pools since then.
    departed: usize,
}

/// State of a store's moves.
#[derive(Debug, Default)]
pub(crate) struct DrainState {
    /// Held while a batch is chosen, so that two drains choose different entries. The lock of a
    /// shard is taken under it.
    pub(crate) cursor: Mutex<MoveCursor>,
    /// The arena of the latest drain, for the next one.
    arena: Mutex<Option<Bump>>,
    progress: Mutex<MoveProgress>,
    /// Not held while a job is submitted, because an executor may run it at once.
    pub(crate) background: Mutex<BackgroundDrain>,
    pub(crate) policy: DrainPolicy,
}

impl DrainState {
    /// Notes that a drain begins in a store that holds `held` bytes and has made `switches`
    /// switches. A drain that continues in the same direction keeps what the first one noted.
    pub(crate) fn begin(&self, switches: u64, held: usize) {
        let mut progress = self.progress.lock();
        if progress.switches != Some(switches) {
            *progress = MoveProgress { switches: Some(switches), held, ..MoveProgress::default() };
        }
    }

    /// Returns the bytes that the store held when its drain began.
    pub(crate) fn held_before(&self) -> usize {
        self.progress.lock().held
    }

    /// Adds `entries` that were moved out of retired pools, and `bytes` of holes that they left
    /// there. If the holes since the last `Some` reach `enough` bytes, returns the number of
    /// entries moved since then.
    pub(crate) fn take_holes(&self, bytes: usize, entries: usize, enough: usize) -> Option<usize> {
        let mut progress = self.progress.lock();
        progress.holes += bytes;
        progress.departed += entries;
        if progress.holes < enough {
            return None;
        }
        progress.holes = 0;
        Some(std::mem::take(&mut progress.departed))
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
    /// Never, unless [`switch_and_drain`](crate::Store::switch_and_drain) or
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
    /// Returns the share of one CPU that a drain takes, in percent.
    pub(crate) fn share_percent(self) -> u8 {
        match self {
            DrainPolicy::Never => DEFAULT_SHARE_PERCENT,
            DrainPolicy::After { share_percent, .. } => share_percent,
        }
    }
}

/// Function that begins work of a store on its executor.
pub(crate) type StartJob<K, S> = fn(&Store<K, S>);

/// A drain on the executor.
#[derive(Debug, Default)]
pub(crate) struct BackgroundDrain {
    /// Whether a job is queued, or runs.
    pub(crate) has_job: bool,
    pub(crate) is_paused: bool,
    /// Whether there is something to do, as far as is known.
    pub(crate) is_wanted: bool,
    /// The number of requests for a drain. A drain that ends for an older request continues for a
    /// newer one.
    pub(crate) requests: u64,
    /// Entries moved since the last request.
    pub(crate) moved: usize,
    /// Steps in a row that moved nothing.
    pub(crate) fruitless: u32,
    pub(crate) last_end: Option<DrainEnd>,
}
