//! Settings of moves between pools: drains, and the cold pool.

use std::hash::{BuildHasher, Hash};
use std::time::Duration;

use zpool_core::spec::PoolSpec;

use super::StoreBuilder;
use crate::build_error::BuildError;
use crate::moving::background::start_drain;
use crate::moving::cold::start_heat_clock;
use crate::store::Store;
use crate::store::cold_state::DEFAULT_COLD_TURN;
use crate::store::drain_state::{DrainPolicy, StartJob};

/// Settings of moves. What they start has more bounds on keys and hasher than a store has, so each
/// setting comes with a function.
pub(super) struct MoveSettings<K, S> {
    pub(super) cold: Option<PoolSpec>,
    cold_turn: Duration,
    drain_policy: DrainPolicy,
    /// `None` if the hasher was set later: `build` refuses that.
    start_drain: Option<StartJob<K, S>>,
    start_clock: Option<StartJob<K, S>>,
}

impl<K, S> Default for MoveSettings<K, S> {
    fn default() -> Self {
        MoveSettings {
            cold: None,
            cold_turn: DEFAULT_COLD_TURN,
            drain_policy: DrainPolicy::Never,
            start_drain: None,
            start_clock: None,
        }
    }
}

impl<K, S> MoveSettings<K, S> {
    /// Returns the settings for another hasher, without the functions.
    pub(super) fn with_other_hasher<S2>(self) -> MoveSettings<K, S2> {
        let MoveSettings { cold, cold_turn, drain_policy, .. } = self;
        MoveSettings { cold, cold_turn, drain_policy, ..MoveSettings::default() }
    }

    pub(super) fn check(&self) -> Result<(), BuildError> {
        let share = self.drain_policy.share_percent();
        if !(1..=100).contains(&share) {
            return Err(BuildError::DrainShare(share));
        }
        if self.drain_policy != DrainPolicy::Never && self.start_drain.is_none() {
            return Err(BuildError::DrainBeforeHasher);
        }
        if self.cold.is_some() && self.start_clock.is_none() {
            return Err(BuildError::ColdBeforeHasher);
        }
        if self.cold_turn.is_zero() { Err(BuildError::ColdTurn) } else { Ok(()) }
    }

    /// Applies the settings to a new store, and starts its clock.
    pub(super) fn apply(self, store: Store<K, S>) -> Store<K, S> {
        let store = store
            .with_drain_policy(self.drain_policy, self.start_drain)
            .with_cold_turn(self.cold_turn);
        if let (Some(start), true) = (self.start_clock, self.cold.is_some()) {
            start(&store);
        }
        store
    }
}

impl<K, S> StoreBuilder<K, S>
where
    K: Hash + Eq + Clone + Send + 'static,
    S: BuildHasher + Send + Sync + 'static,
{
    /// Adds a second pool, the *cold pool*, of `spec`, for blocks that have cooled down (default:
    /// none). Call it after [`hasher`](Self::hasher).
    ///
    /// Each use warms a block, up to 3; each [turn](Self::cold_turn) of a clock cools it by 1. A
    /// block that two turns in a row find without heat is cold.
    ///
    /// New blocks go to the current pool. The clock compresses cold ones again into this pool, such
    /// as `zsmalloc+zstd(level=1)` beside lz4. A block that would not become smaller by 1/8 stays.
    /// One whose heat is at least 2 returns. What the clock does is in
    /// [`StoreStats::cold`](crate::StoreStats::cold).
    ///
    /// The clock runs on the executor, if that keeps delays as the default one does. Otherwise call
    /// [`Store::turn_heat_clock`]. The clock also cools the heat by which blocks are evicted.
    ///
    /// ```
    /// # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
    /// let store = zswap::Store::<u64>::builder().cold("zsmalloc(chain=8)+lz4".parse()?).build()?;
    /// store.store(1, b"a page of memory ".repeat(240))?;
    /// assert!(store.stats().cold.is_some());
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn cold(mut self, spec: PoolSpec) -> Self {
        self.moves.cold = Some(spec);
        self.moves.start_clock = Some(start_heat_clock);
        self
    }

    /// Sets the time of a turn of the clock that finds [cold](Self::cold) blocks: more than 0
    /// (default [`DEFAULT_COLD_TURN`](crate::drain::DEFAULT_COLD_TURN)).
    ///
    /// ```
    /// # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
    /// use std::time::Duration;
    ///
    /// let store = zswap::Store::<u64>::builder()
    ///     .cold("zsmalloc(chain=8)+lz4".parse()?)
    ///     .cold_turn(Duration::from_secs(60))
    ///     .build()?;
    /// store.store(1, b"a page of memory ".repeat(240))?;
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn cold_turn(mut self, turn: Duration) -> Self {
        self.moves.cold_turn = turn;
        self
    }

    /// Sets when retired pools are [drained](Store::drain) on the executor (default: never). Call
    /// it after [`hasher`](Self::hasher).
    ///
    /// Switches of the store count, not those of its [manager](Store::manager).
    ///
    /// ```
    /// # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
    /// use std::time::Duration;
    /// use zswap::drain::DrainPolicy;
    /// use zswap::Store;
    ///
    /// let idle = Duration::from_secs(10);
    /// let policy = DrainPolicy::After { idle, share_percent: 25 };
    /// let store = Store::<u64>::builder().drain(policy).build()?;
    /// store.store(1, b"a page of memory ".repeat(240))?;
    /// store.switch(&"zsmalloc(chain=8)+lz4".parse()?)?; // in 10 seconds, block 1 begins to move
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn drain(mut self, policy: DrainPolicy) -> Self {
        self.moves.drain_policy = policy;
        self.moves.start_drain = Some(start_drain);
        self
    }
}
