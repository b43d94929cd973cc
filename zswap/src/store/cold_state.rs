//! State of a store's cold pool, and of the clock that finds cold blocks.

use std::time::Duration;

use zpool_core::internal::sync::Mutex;
use zpool_core::internal::sync::atomic::{AtomicU64, Ordering};

use crate::stats::cold_report::ColdReport;
use crate::store::drain_state::MoveCursor;

/// Default of [`StoreBuilder::cold_turn`](crate::StoreBuilder::cold_turn).
pub const DEFAULT_COLD_TURN: Duration = Duration::from_secs(60);

/// State of the clock.
#[derive(Debug)]
pub(crate) struct ColdState {
    /// The hand. Locked while a batch is chosen; the lock of a shard is taken under this lock.
    pub(crate) hand: Mutex<MoveCursor>,
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
