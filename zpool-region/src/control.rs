//! Calls about the cold parts of a region that need no borrow of it.

use std::ops::Range;
use std::sync::{Arc, Weak};

use zswap::{PoolSpec, SwitchError, Switched};

use crate::engine::Engine;
use crate::state::UnitState;
use crate::stats::RegionStats;

/// A handle by which other threads watch and steer a region while its bytes are borrowed. Made by
/// [`Region::control`](crate::Region::control).
///
/// Nothing here changes contents. Once the region is dropped, every call does nothing; a call that
/// is under way keeps the region's memory until it returns. In a forked child, the rules of
/// [`Region`](crate::Region#fork) hold.
#[derive(Debug, Clone)]
pub struct RegionControl {
    engine: Weak<Engine>,
    len: usize,
}

impl RegionControl {
    pub(crate) fn new(engine: &Arc<Engine>, len: usize) -> RegionControl {
        RegionControl { engine: Arc::downgrade(engine), len }
    }

    /// Returns figures of the region, as [`Region::stats`](crate::Region::stats) does; `None` if it
    /// was dropped.
    pub fn stats(&self) -> Option<RegionStats> {
        self.engine.upgrade().map(|engine| engine.stats(self.len))
    }

    /// Sets the limit, as [`Region::set_limit`](crate::Region::set_limit) does.
    pub fn set_limit(&self, bytes: usize) {
        if let Some(engine) = self.engine.upgrade() {
            engine.set_limit(bytes);
            engine.balance_fully();
        }
    }

    /// Puts the pages of a range away, as [`Region::evict`](crate::Region::evict) does. Returns the
    /// number of bytes put away.
    ///
    /// # Panics
    ///
    /// If the range is not inside the region.
    pub fn evict(&self, range: Range<usize>) -> usize {
        self.engine
            .upgrade()
            .map_or(0, |engine| engine.evict_units(engine.units_of(&range, self.len)) * engine.unit)
    }

    /// Brings stored pages back, as [`Region::prefetch`](crate::Region::prefetch) does.
    ///
    /// # Panics
    ///
    /// If the range is not inside the region.
    pub fn prefetch(&self, range: Range<usize>) {
        if let Some(engine) = self.engine.upgrade() {
            engine.prefetch_units(engine.units_of(&range, self.len));
        }
    }

    /// Switches the store to another pool, as [`Region::switch`](crate::Region::switch) does;
    /// `None` if the region was dropped.
    ///
    /// # Errors
    ///
    /// As for `Store::switch`; everything is then as it was.
    pub fn switch(&self, spec: &PoolSpec) -> Option<Result<Switched, SwitchError>> {
        self.engine.upgrade().map(|engine| engine.store.switch(spec))
    }
}

impl Engine {
    /// Returns the units that a range of bytes overlaps.
    ///
    /// # Panics
    ///
    /// If the range is not inside the region's `len` bytes.
    pub(crate) fn units_of(&self, range: &Range<usize>, len: usize) -> Range<usize> {
        assert!(
            range.start <= range.end && range.end <= len,
            "the range {range:?} is not inside a region of {len} bytes: pass a part of it"
        );
        if range.is_empty() { 0..0 } else { range.start / self.unit..range.end.div_ceil(self.unit) }
    }

    /// Brings the stored units of a range back, until the region is at its limit.
    pub(crate) fn prefetch_units(&self, units: Range<usize>) {
        if !self.is_ours() {
            return;
        }
        self.refresh_store_bytes();
        for unit in units.clone() {
            if self.over_limit() > 0 {
                return;
            }
            let claim = || self.states.claim(unit, UnitState::Stored, UnitState::Loading);
            if self.states.get(unit) == UnitState::Stored && claim() {
                self.fill_window(unit, UnitState::Stored, units.end - unit, false);
            }
        }
    }
}
