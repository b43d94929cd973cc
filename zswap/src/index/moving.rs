//! The index as a mover of values sees it: which shards have blocks to move, and the exchange of
//! one value for its copy in another pool.

use zpool_core::PoolId;

use super::Index;
use crate::index::shard::{Exchanged, Shard};
use crate::stats::thrash::ThrashMeter;
use crate::value::{Value, ValueId};

/// A value that [`Index::exchange_seen`] did not put in. Drop it after the lock is released.
#[derive(Debug)]
pub(crate) struct NotExchanged {
    pub(crate) new: Value,
    /// Whether the key has another value by now, or none. Otherwise there is no memory.
    pub(crate) changed: bool,
}

impl<K> Index<K> {
    /// Adds a thrash meter to a new index.
    pub(crate) fn add_meter(&mut self) {
        self.meter = Some(Box::new(ThrashMeter::new()));
    }

    /// Returns the thrash meter, if there is one.
    #[inline]
    pub(crate) fn meter(&self) -> Option<&ThrashMeter> {
        self.meter.as_deref()
    }

    /// Looks at the shard of this number, under its lock.
    pub(crate) fn look<R>(&self, shard: usize, look: impl FnOnce(&Shard<K>) -> R) -> R {
        look(&self.shards[shard].lock())
    }

    /// Counts the blocks in pools for which `counts` returns true, including those of large values.
    pub(crate) fn blocks_in(&self, counts: impl Fn(PoolId) -> bool) -> usize {
        self.shards.iter().map(|shard| shard.lock().blocks_in(&counts)).sum()
    }
}

impl<K: Eq> Index<K> {
    /// Exchanges `new` with the value under `key`, if that is still the one that `seen` names,
    /// which the caller has pinned. `new` has the same bytes, in another pool.
    ///
    /// # Errors
    ///
    /// Returns `new` if there is no memory for it, or with `changed` if the key has another value
    /// by now, or none.
    pub(crate) fn exchange_seen(
        &self,
        hash: u64,
        key: &K,
        seen: ValueId,
        new: Value,
    ) -> Result<Exchanged, NotExchanged> {
        let (mut shard, hash) = self.lock(hash);
        match shard.bucket_of_seen(hash, key, seen) {
            None => Err(NotExchanged { new, changed: true }),
            Some(at) => self
                .accounted(&mut shard, |shard| shard.exchange_value(at, new))
                .map_err(|new| NotExchanged { new, changed: false }),
        }
    }
}
