//! Settings of the tier below memory.

use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

use zpool_core::backing::BackingStore;

use super::StoreBuilder;
use crate::backing::{Tier, TierPolicy};
use crate::build_error::BuildError;
use crate::pressure::writeback::background::start_writeback;
use crate::store::Store;
use crate::store::drain_state::StartJob;

/// Settings of a tier.
pub(super) struct TierSettings<K, S> {
    backing: Option<Arc<dyn BackingStore>>,
    policy: Option<TierPolicy>,
    /// `None` if the hasher was set later: `build` refuses that.
    start: Option<StartJob<K, S>>,
}

impl<K, S> Default for TierSettings<K, S> {
    fn default() -> Self {
        TierSettings { backing: None, policy: None, start: None }
    }
}

impl<K, S> TierSettings<K, S> {
    /// The settings for another hasher, without the function.
    pub(super) fn with_other_hasher<S2>(self) -> TierSettings<K, S2> {
        TierSettings { backing: self.backing, policy: self.policy, start: None }
    }

    /// Returns whether there is a tier.
    pub(super) fn is_set(&self) -> bool {
        self.backing.is_some()
    }

    pub(super) fn check(&self, limited: bool, evicts: bool) -> Result<(), BuildError> {
        if self.backing.is_none() {
            return match self.policy {
                Some(_) => Err(BuildError::NoTier),
                None => Ok(()),
            };
        }
        if !limited {
            return Err(BuildError::NoLimit { setting: "tier" });
        }
        if self.start.is_none() {
            return Err(BuildError::TierBeforeHasher);
        }
        let policy = self.policy.unwrap_or_default();
        if evicts != (policy == TierPolicy::DropOldest) {
            return Err(BuildError::TierPolicy(policy));
        }
        Ok(())
    }

    /// Adds the tier to a new store.
    pub(super) fn apply(
        self,
        store: Store<K, S>,
        latencies: bool,
    ) -> Result<Store<K, S>, BuildError> {
        let Some(backing) = self.backing else { return Ok(store) };
        let policy = self.policy.unwrap_or_default();
        let tier = Tier::new(backing, policy, store.block_size(), latencies)?;
        Ok(store.with_tier(tier, self.start))
    }
}

impl<K, S> StoreBuilder<K, S> {
    /// Sets what a full tier does (default: [`TierPolicy::DropOldest`]).
    ///
    /// Its counterpart is [`at_limit`](Self::at_limit): a store that evicts drops the oldest
    /// segment of its tier, and one that refuses compacts it. `build` refuses other combinations.
    ///
    /// ```
    /// # #[cfg(all(unix, feature = "zsmalloc", feature = "lz4"))] {
    /// use std::sync::Arc;
    /// use zswap::tier::{FileTier, TierPolicy};
    /// use zswap::{AtLimit, Store};
    ///
    /// let file = FileTier::builder(std::env::temp_dir(), 4 << 20).segment_bytes(256 << 10);
    /// let store = Store::<u64>::builder()
    ///     .limit_bytes(2 << 20)
    ///     .at_limit(AtLimit::Refuse)
    ///     .tier(Arc::new(file.build()?))
    ///     .tier_policy(TierPolicy::Refuse);
    /// assert!(store.build().is_ok());
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn tier_policy(mut self, policy: TierPolicy) -> Self {
        self.tier.policy = Some(policy);
        self
    }
}

impl<K, S> StoreBuilder<K, S>
where
    K: Hash + Eq + Send + 'static,
    S: BuildHasher + Send + Sync + 'static,
{
    /// Adds a tier below memory: at its limit, the store writes its coldest blocks to `backing`
    /// instead of evicting them (default: none). Needs a limit. Call it after
    /// [`hasher`](Self::hasher).
    ///
    /// Blocks are written as they are compressed, a segment at a time. One in the tier costs its
    /// entry in the index, and no other memory. A load reads it from the tier; the second load
    /// within a turn of the eviction clock returns it to memory. Same-filled blocks, and values
    /// longer than a block, stay in memory.
    ///
    /// A job on the executor writes from the [low watermark](Self::accept_percent) on; at the limit
    /// the storing thread does. Write errors lose nothing. After three in a row the tier takes no
    /// more blocks, and the store evicts or refuses as without a tier.
    ///
    /// What a backing store has lost, or returns damaged, is a miss: its entry is removed, and the
    /// eviction listener is called. What the tier did is in
    /// [`StoreStats::tier`](crate::StoreStats::tier).
    ///
    /// ```
    /// # #[cfg(all(unix, feature = "zsmalloc", feature = "lz4"))] {
    /// # let page = |n: u64| (n * 600..n * 600 + 600).map(|n| n.to_string()).collect::<String>();
    /// use std::sync::Arc;
    /// use zswap::tier::FileTier;
    /// use zswap::{AtLimit, Store};
    ///
    /// let file = FileTier::builder(std::env::temp_dir(), 16 << 20).segment_bytes(256 << 10);
    /// let store = Store::builder()
    ///     .limit_bytes(2 << 20)
    ///     .at_limit(AtLimit::Evict)
    ///     .tier(Arc::new(file.build()?))
    ///     .build()?;
    /// for key in 0..1000 {
    ///     store.store(key, page(key))?;
    /// }
    /// for key in 0..1000 {
    ///     assert_eq!(store.load_vec(&key)?, Some(page(key).into_bytes()));
    /// }
    /// let stats = store.stats();
    /// assert!(stats.evicted == 0 && stats.tier.unwrap().backed > 100);
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn tier(mut self, backing: Arc<dyn BackingStore>) -> Self {
        self.tier.backing = Some(backing);
        self.tier.start = Some(start_writeback);
        self
    }
}
