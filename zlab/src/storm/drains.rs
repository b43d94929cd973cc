//! `storm --drain`: after every switch the retired pools are drained, and at the end one pool has
//! every block.

use serde::Serialize;
use zswap::Store;
use zswap::drain::{DrainBudget, DrainEnd, DrainReport};

use super::executors::StormExecutor;
use crate::error::Failure;

/// The drains of a phase, as JSON.
#[derive(Debug, Default, Clone, Serialize)]
pub(super) struct DrainCounts {
    pub(super) drains: u64,
    pub(super) moved: u64,
    pub(super) copied: u64,
    pub(super) recompressed: u64,
    /// Entries that were replaced or removed while they were copied.
    pub(super) changed: u64,
    pub(super) unreadable: u64,
    pub(super) refused: u64,
    /// Drains that ended because the store was at its limit.
    pub(super) ended_at_limit: u64,
    /// Blocks in retired pools after the last drain, when no worker ran any more.
    pub(super) left: u64,
    /// Pools alive after that.
    pub(super) pools_alive: u64,
    /// Entries by kind, and objects by pool, add up after that.
    pub(super) books_balance: bool,
}

impl DrainCounts {
    /// Drains the store, while workers go on.
    pub(super) fn drain(&mut self, store: &Store<u64>) {
        self.add(store.drain(DrainBudget::UNLIMITED));
    }

    fn add(&mut self, report: DrainReport) {
        self.drains += 1;
        self.moved += report.moved as u64;
        self.copied += report.copied as u64;
        self.recompressed += report.recompressed as u64;
        self.changed += report.changed as u64;
        self.unreadable += report.unreadable as u64;
        self.refused += report.refused as u64;
        self.ended_at_limit += u64::from(report.end == DrainEnd::Limit);
    }

    /// Drains a store that no worker uses any more, and looks at what is left.
    pub(super) fn finish(
        &mut self,
        store: &Store<u64>,
        executor: &StormExecutor,
    ) -> Result<(), Failure> {
        let report = store.drain(DrainBudget::UNLIMITED);
        self.add(report);
        executor.drain()?;
        self.left = report.remaining as u64;
        let stats = store.stats();
        self.pools_alive = stats.manager.pools_alive as u64;
        let in_pools = stats.stored_compressed + stats.stored_raw;
        let objects: usize = stats.objects_by_pool.iter().map(|(_, objects)| objects).sum();
        let backed = stats.tier.map_or(0, |tier| tier.backed);
        // The workers store no value of several blocks.
        self.books_balance = stats.entries == store.len()
            && stats.entries == in_pools + stats.same_filled + backed
            && objects == in_pools
            && stats.free_failed == 0;
        Ok(())
    }

    /// Names the contracts that the drains broke. At its limit a store may keep retired pools.
    pub(super) fn broken(&self) -> Vec<String> {
        let may_keep = self.ended_at_limit > 0;
        let left_behind = if may_keep { 0 } else { self.left };
        let mut broken: Vec<String> = [
            (self.unreadable, "blocks that a drain could not read"),
            (self.refused, "blocks that a drain could not store"),
            (left_behind, "blocks left in retired pools"),
        ]
        .into_iter()
        .filter(|&(count, _)| count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
        if self.pools_alive != 1 && !may_keep {
            broken.push(format!("{} pools alive after the last drain", self.pools_alive));
        }
        if !self.books_balance {
            broken.push("books that do not balance after the last drain".to_owned());
        }
        broken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each broken contract of a drain is named. A limit excuses what is left, and nothing else.
    #[test]
    fn broken_drains_are_named() {
        let fine = DrainCounts { pools_alive: 1, books_balance: true, ..DrainCounts::default() };
        let broken = |spoil: fn(&mut DrainCounts)| {
            let mut counts = fine.clone();
            spoil(&mut counts);
            counts.broken().join(", ")
        };
        assert_eq!(broken(|_| {}), "");
        assert_eq!(broken(|c| c.unreadable = 2), "2 blocks that a drain could not read");
        assert_eq!(broken(|c| c.refused = 3), "3 blocks that a drain could not store");
        assert_eq!(broken(|c| c.left = 4), "4 blocks left in retired pools");
        assert_eq!(broken(|c| c.pools_alive = 2), "2 pools alive after the last drain");
        assert_eq!(broken(|c| (c.left, c.pools_alive, c.ended_at_limit) = (4, 2, 1)), "");
        let books = "books that do not balance after the last drain";
        assert_eq!(broken(|c| (c.books_balance, c.ended_at_limit) = (false, 1)), books);
    }
}
