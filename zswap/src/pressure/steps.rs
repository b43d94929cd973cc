//! Steps of eviction: the coldest entries leave memory, a few at a time or one.

use std::hash::{BuildHasher, Hash};

use zpool_core::internal::catch;
use zpool_manager::PoolRef;

use crate::index::shard::Item;
use crate::pressure::candidates::Consultation;
use crate::pressure::writeback::{MAX_WAIT, Writeback};
use crate::stats::thrash::Departure;
use crate::store::Store;

/// The number of entries in a step of eviction after which the held bytes are measured.
const MEASURED: usize = 16;

/// The most pools that a step of eviction trims, of those that its entries were in.
const TRIMMED: usize = 8;

/// If a listener keeps this many entries, evicting for the debt stops and the debt is reset.
const KEPT_FOR_DEBT: usize = 32;

/// Result of a step that makes room.
#[derive(Debug, Clone, Copy)]
pub(super) struct ReliefStep {
    /// Cost of the blocks that have left memory.
    pub(super) freed: usize,
    /// Entries that a listener kept.
    pub(super) kept: usize,
}

/// Adds a pool to those to be trimmed, if it is not among them and there is room.
fn note_pool(pools: &mut [Option<PoolRef>; TRIMMED], pool: &PoolRef) {
    for slot in pools {
        match slot {
            Some(noted) if PoolRef::same(noted, pool) => return,
            Some(_) => {}
            None => {
                *slot = Some(pool.clone());
                return;
            }
        }
    }
}

impl<K: Hash + Eq, S: BuildHasher> Store<K, S> {
    /// Writes a segment of cold blocks to the tier, or evicts blocks that cost `step` bytes.
    pub(super) fn relieve_step(&self, step: usize) -> ReliefStep {
        match self.write_segment(MAX_WAIT) {
            Writeback::Freed(freed) => ReliefStep { freed, kept: 0 },
            // Not 0: there may be room now, so nothing is evicted or refused yet.
            Writeback::Waited => ReliefStep { freed: 1, kept: 0 },
            _ if self.eviction().evicts() => self.evict_step(step),
            _ => ReliefStep { freed: 0, kept: 0 },
        }
    }

    /// Evicts entries that cost `step` bytes together, or fewer if the store already holds that
    /// much less: what an entry really frees depends on its neighbours. Trims the pools that the
    /// entries were in.
    fn evict_step(&self, step: usize) -> ReliefStep {
        let enough = self.measure_held().map_or(0, |held| held.saturating_sub(step));
        let mut trimmed = [const { None }; TRIMMED];
        let (mut freed, mut evicted) = (0, 0usize);
        let mut consultation = Consultation::thorough();
        while freed < step
            && let Some((key, stored)) = self.take_coldest(&mut consultation)
        {
            if let Some(pool) = stored.pool() {
                note_pool(&mut trimmed, pool);
            }
            freed += self.cost(&stored);
            self.notify_listener((key, stored));
            evicted += 1;
            if evicted.is_multiple_of(MEASURED)
                && self.measure_held().is_ok_and(|held| held <= enough)
            {
                break;
            }
        }
        for pool in trimmed.into_iter().flatten() {
            catch(|| pool.zpool().trim());
        }
        ReliefStep { freed: freed + consultation.gone, kept: consultation.kept }
    }

    /// Takes the coldest entry out of the index, or the coldest one that a listener lets go.
    fn take_coldest(&self, consultation: &mut Consultation) -> Option<Item<K>> {
        let eviction = self.eviction();
        if let Some(listener) = &eviction.deciding {
            return self.take_consenting(listener, consultation);
        }
        self.index().take_coldest(eviction.keep_compressible, |key| eviction.advise(key))
    }

    /// Writes a segment of cold blocks to the tier, or evicts the coldest entry. Returns what they
    /// cost, or `None` if there are none.
    pub(super) fn relieve_one(&self) -> Option<usize> {
        match self.write_segment(MAX_WAIT) {
            Writeback::Freed(freed) => Some(freed),
            Writeback::Waited => Some(1),
            _ if self.eviction().evicts() => self.evict_one(),
            _ => None,
        }
    }

    /// Evicts the coldest entry. Returns its cost, or `None` if there is no entry.
    fn evict_one(&self) -> Option<usize> {
        let mut consultation = Consultation::up_to(KEPT_FOR_DEBT);
        let Some((key, stored)) = self.take_coldest(&mut consultation) else {
            return (consultation.gone > 0).then_some(consultation.gone);
        };
        let cost = self.cost(&stored);
        self.notify_listener((key, stored));
        Some(cost)
    }

    /// Frees an evicted item, and then notifies the listener. A panic of the listener is only
    /// counted.
    pub(crate) fn notify_listener(&self, (key, stored): Item<K>) {
        let len = stored.len();
        self.free(stored);
        let told = catch(|| {
            if let Some(meter) = self.index().meter() {
                meter.note(self.hash(&key), Departure::Evicted);
            }
            if let Some(listener) = &self.eviction().listener {
                listener(&key, len);
            }
            drop(key);
        });
        if told.is_none() {
            self.counters().listener_panicked();
        }
    }
}
