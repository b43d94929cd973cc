//! The pools that the objects of a batch are in.

use std::cell::OnceCell;

use zpool_manager::PoolRef;

/// Pools that the entries of a batch come from, at most.
const SOURCES: usize = 8;

/// References to the pools that the objects of a batch are in. They outlive the pins.
#[derive(Debug, Default)]
pub(crate) struct SourcePools {
    pools: [OnceCell<PoolRef>; SOURCES],
}

impl SourcePools {
    /// Returns a reference to `pool` that lives as long as this, or `None` if there are too many.
    pub(crate) fn hold(&self, pool: &PoolRef) -> Option<&PoolRef> {
        let mut held = self.pools.iter().map(|cell| cell.get_or_init(|| pool.clone()));
        held.find(|held| PoolRef::same(held, pool))
    }

    /// The pools that are held.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &PoolRef> {
        self.pools.iter().filter_map(OnceCell::get)
    }
}
