//! State of a store's cold pool, and of the clock that finds cold blocks.

use std::time::Duration;

use zpool_core::PoolId;
use zpool_core::internal::sync::Mutex;
use zpool_core::internal::sync::atomic::{AtomicU64, Ordering};

use crate::index::table::Position;
use crate::stats::cold_report::ColdReport;
use crate::store::drain_state::MoveCursor;

/// Default of [`StoreBuilder::cold_turn`](crate::StoreBuilder::cold_turn).
pub const DEFAULT_COLD_TURN: Duration = Duration::from_secs(60);

/// The hand of the clock.
#[derive(Debug, Default)]
pub(crate) struct ClockHand {
    pub(crate) cursor: MoveCursor,
    /// The cold pool that the hand moved entries to last.
    cold: Option<PoolId>,
    /// The number of shards, the one under the hand included, in which entries that stayed are
    /// tried again with that pool.
    retries_left: usize,
}

impl ClockHand {
    /// Returns whether entries that would not have become smaller are tried again: for one turn
    /// after the cold pool has changed. The index has this many `shards`.
    pub(crate) fn retries_kept(&mut self, cold: PoolId, shards: usize) -> bool {
        if self.cold.replace(cold) != Some(cold) {
            let is_in_shard = self.cursor.position != Position::default();
            self.retries_left = shards + usize::from(is_in_shard);
        }
        self.retries_left > 0
    }

    /// Moves the hand to `next`, or from the end of its shard to the following one.
    pub(crate) fn advance(&mut self, next: Option<Position>, shards: usize) {
        self.cursor = match next {
            Some(position) => MoveCursor { shard: self.cursor.shard, position },
            None => {
                self.retries_left = self.retries_left.saturating_sub(1);
                MoveCursor { shard: (self.cursor.shard + 1) % shards, ..MoveCursor::default() }
            }
        };
    }
}

/// State of the clock.
#[derive(Debug)]
pub(crate) struct ColdState {
    /// The hand. Locked while a batch is chosen; the lock of a shard is taken under this lock.
    pub(crate) hand: Mutex<ClockHand>,
    /// Time of a turn, if the clock runs by itself.
    pub(crate) turn: Duration,
    made_cold: AtomicU64,
    returned: AtomicU64,
    stayed: AtomicU64,
}

impl Default for ColdState {
    fn default() -> Self {
        ColdState {
            hand: Mutex::default(),
            turn: DEFAULT_COLD_TURN,
            made_cold: AtomicU64::new(0),
            returned: AtomicU64::new(0),
            stayed: AtomicU64::new(0),
        }
    }
}

impl ColdState {
    /// Adds the report of a part of a turn to the counters.
    pub(crate) fn add(&self, report: &ColdReport) {
        // Relaxed, here and below: statistics only.
        self.made_cold.fetch_add(report.made_cold as u64, Ordering::Relaxed);
        self.returned.fetch_add(report.returned as u64, Ordering::Relaxed);
        self.stayed.fetch_add(report.stayed as u64, Ordering::Relaxed);
    }

    /// Returns how many entries were made cold, returned, and kept so far.
    pub(crate) fn counts(&self) -> [u64; 3] {
        [&self.made_cold, &self.returned, &self.stayed].map(|count| count.load(Ordering::Relaxed))
    }
}
