//! Moving a value to another pool: a walk over the entries, and an exchange that counts as neither
//! a store nor a use.

use zpool_core::PoolId;
use zpool_manager::PoolRef;

use super::{Shard, ValueRef, equals_itself};
use crate::index::packed_entry::{EntryState, Idle, PackedEntry};
use crate::index::table::{BucketId, Position, Seek};
use crate::value::{Value, ValueId};

/// Entries that one walk visits, and free buckets that it passes, while the shard is locked.
const ENTRIES: usize = 128;
const BUCKETS: usize = 128;

/// The state of an entry, as the clock of the cold pool finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Temperature {
    /// Warm: its heat before this turn took 1 away.
    Used(u32),
    /// Without heat, but not at the turn before, or to be kept.
    Unused,
    /// Without heat at two turns in a row.
    Cold,
}

/// The value that a moved one has replaced, and a reference to a pool that was not needed. Drop
/// both after the lock is released.
#[derive(Debug)]
pub(crate) struct Exchanged {
    pub(crate) old: Value,
    pub(crate) unused_ref: Option<PoolRef>,
}

impl<K> Shard<K> {
    /// Counts the blocks in pools for which `counts` returns true, including those of large values.
    pub(crate) fn blocks_in(&self, counts: impl Fn(PoolId) -> bool) -> usize {
        let mut blocks = 0;
        self.entries_by_pool(|pool, entries| blocks += if counts(pool) { entries } else { 0 });
        blocks
    }

    /// Calls `visit` with one entry after the other from `from` on: its key, state and value.
    /// Returns where to continue: at the entry for which `visit` returned false, or after a bounded
    /// number of entries; `None` at the end of the shard.
    pub(crate) fn walk(
        &self,
        from: Position,
        mut visit: impl FnMut(&K, EntryState, ValueRef<'_>) -> bool,
    ) -> Option<Position> {
        let mut position = from;
        for _ in 0..ENTRIES {
            let (at, found) = match self.table.seek(position, BUCKETS) {
                Seek::Found(at, found) => (at, found),
                Seek::Nothing(behind) => return Some(behind),
                Seek::End => return None,
            };
            let (key, entry) = self.table.get(at)?;
            if !visit(key, entry.state(), self.found(at)?) {
                return Some(found);
            }
            position = self.table.behind(at, found)?;
        }
        Some(position)
    }

    /// Cools one entry after the other from `from` on, and calls `visit` with its key, its
    /// temperature and its value. Returns where to continue: after the entry for which `visit`
    /// returned false, or after a bounded number of entries; `None` at the end of the shard.
    ///
    /// With `retry_kept`, entries that would not become smaller before are cold again.
    pub(crate) fn cool(
        &mut self,
        from: Position,
        retry_kept: bool,
        mut visit: impl FnMut(&K, Temperature, ValueRef<'_>) -> bool,
    ) -> Option<Position> {
        let mut position = from;
        for _ in 0..ENTRIES {
            let (at, found) = match self.table.seek(position, BUCKETS) {
                Seek::Found(at, found) => (at, found),
                Seek::Nothing(behind) => return Some(behind),
                Seek::End => return None,
            };
            let temperature = cool(self.table.get_mut(at)?.1.state_mut(), retry_kept);
            let (key, _) = self.table.get(at)?;
            let goes_on = visit(key, temperature, self.found(at)?);
            position = self.table.behind(at, found)?;
            if !goes_on {
                break;
            }
        }
        Some(position)
    }

    /// Replaces the value at bucket `at` by `new`, which has the same bytes in another pool. The
    /// entry keeps its heat, and neither a store nor a use is counted.
    ///
    /// # Errors
    ///
    /// Returns `new` if there is no memory for it; nothing has changed then.
    pub(crate) fn exchange_value(&mut self, at: BucketId, new: Value) -> Result<Exchanged, Value> {
        let (entry, sum, unused_ref) = self.pack(new)?;
        let old = self.swap_entry(at, entry, sum);
        self.stats.moved += 1;
        Ok(Exchanged { old, unused_ref })
    }

    /// Replaces the entry at bucket `at`, which is in use, and returns the older value. The new
    /// entry takes over place and heat.
    pub(super) fn swap_entry(&mut self, at: BucketId, mut entry: PackedEntry, sum: u32) -> Value {
        let old_sum = self.table.sum(at);
        let Some((_, old)) = self.table.get_mut(at) else {
            unreachable!("the entry was found there under the same lock")
        };
        let (from, to) = (old.state(), entry.state_mut());
        to.set_distance(from.distance());
        to.set_heat(from.heat());
        to.set_idle(from.idle());
        let old = std::mem::replace(old, entry);
        self.table.set_sum(at, sum);
        self.unpack(old, old_sum, None)
    }
}

impl<K: Eq> Shard<K> {
    /// Finds the bucket of the value that `seen` names, which the caller has pinned under `key`.
    /// Returns `None` if the key has another value by now, or none.
    ///
    /// A key that does not equal itself is found by its value, in a walk over the whole shard.
    pub(crate) fn bucket_of_seen(&self, hash: u64, key: &K, seen: ValueId) -> Option<BucketId> {
        let is_seen = |at: &BucketId| self.found(*at).is_some_and(|found| found.id() == seen);
        if equals_itself(key) {
            return self.bucket_of(hash, key).filter(is_seen);
        }
        let mut next = Some(Position::default());
        while let Some(position) = next {
            next = match self.table.seek(position, usize::MAX) {
                Seek::Found(at, _) if is_seen(&at) => return Some(at),
                Seek::Found(at, found) => self.table.behind(at, found),
                Seek::Nothing(behind) => Some(behind),
                Seek::End => None,
            };
        }
        None
    }
}

impl<K: Eq> Shard<K> {
    /// Marks the value that `seen` names to stay where it is until it is used.
    pub(crate) fn keep_idle(&mut self, hash: u64, key: &K, seen: ValueId) {
        if let Some(at) = self.bucket_of_seen(hash, key, seen)
            && let Some((_, entry)) = self.table.get_mut(at)
        {
            entry.state_mut().set_idle(Idle::Kept);
        }
    }
}

/// Cools an entry by one turn.
fn cool(state: &mut EntryState, retry_kept: bool) -> Temperature {
    if retry_kept && state.idle() == Idle::Kept {
        state.set_idle(Idle::ForATurn);
    }
    match (state.heat(), state.idle()) {
        (0, Idle::No) => {
            state.set_idle(Idle::ForATurn);
            Temperature::Unused
        }
        (0, Idle::ForATurn) => Temperature::Cold,
        (0, Idle::Kept) => Temperature::Unused,
        (heat, _) => {
            state.set_heat(heat - 1);
            state.set_idle(Idle::No);
            Temperature::Used(heat)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An entry is cold after two turns that find it without heat, and a use begins that anew.
    #[test]
    fn cool_twice_unused_is_cold() {
        let mut state = EntryState::default();
        let cool = |state: &mut EntryState| cool(state, false);
        assert_eq!([(); 3].map(|()| cool(&mut state)), {
            [Temperature::Unused, Temperature::Cold, Temperature::Cold]
        });
        state.set_heat(2);
        assert_eq!([(); 5].map(|()| cool(&mut state)), {
            use Temperature::{Cold, Unused, Used};
            [Used(2), Used(1), Unused, Cold, Cold]
        });
        state.set_idle(Idle::Kept);
        assert_eq!([(); 3].map(|()| cool(&mut state)), [Temperature::Unused; 3]);
        state.set_heat(1);
        assert_eq!(cool(&mut state), Temperature::Used(1));
        assert_eq!([(); 2].map(|()| cool(&mut state)), [Temperature::Unused, Temperature::Cold]);
    }

    /// A kept entry is cold in a retry, and no longer kept, unless it was used.
    #[test]
    fn cool_retry_ends_keeping() {
        let mut state = EntryState::default();
        state.set_idle(Idle::Kept);
        assert_eq!(cool(&mut state, false), Temperature::Unused);
        assert_eq!([(); 2].map(|()| cool(&mut state, true)), [Temperature::Cold; 2]);
        state.set_idle(Idle::Kept);
        state.set_heat(1);
        assert_eq!(cool(&mut state, true), Temperature::Used(1));
        assert_eq!(cool(&mut state, true), Temperature::Unused);
    }
}
