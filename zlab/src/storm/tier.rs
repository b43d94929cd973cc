//! `storm --tier`: the file below the store's memory, and what went there.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use zswap::tier::{FileTier, TierPolicy, TierStats};
use zswap::{AtLimit, StoreBuilder};

use crate::error::Failure;

/// The tier of a phase.
#[derive(Debug)]
pub(super) struct StormTier {
    dir: PathBuf,
    bytes: u64,
}

impl StormTier {
    pub(super) fn new(dir: &Path, mib: u64) -> StormTier {
        StormTier { dir: dir.to_owned(), bytes: mib << 20 }
    }

    /// Adds a new file to a store.
    pub(super) fn add_to(
        &self,
        builder: StoreBuilder<u64>,
        at_limit: AtLimit,
    ) -> Result<StoreBuilder<u64>, Failure> {
        let file = FileTier::temporary(&self.dir, self.bytes)
            .map_err(|error| Failure::new(error.to_string()))?;
        let policy = match at_limit {
            AtLimit::Evict => TierPolicy::DropOldest,
            _ => TierPolicy::Refuse,
        };
        Ok(builder.tier(Arc::new(file)).tier_policy(policy))
    }
}

/// Counts of a tier in a phase, as JSON.
#[derive(Debug, Default, Serialize)]
pub(super) struct TierCounts {
    /// Blocks in the tier at the end.
    pub(super) backed: u64,
    pub(super) put: u64,
    pub(super) put_clean: u64,
    pub(super) carried: u64,
    pub(super) reads: u64,
    pub(super) readmitted: u64,
    pub(super) bytes_written: u64,
    pub(super) segments_dropped: u64,
    pub(super) lost_dropped: u64,
    /// Blocks that the file lost or damaged.
    pub(super) damaged: u64,
    pub(super) write_errors: u64,
    pub(super) read_errors: u64,
    pub(super) is_off: bool,
}

impl TierCounts {
    pub(super) fn of(stats: &TierStats) -> TierCounts {
        TierCounts {
            backed: stats.backed as u64,
            put: stats.put,
            put_clean: stats.put_clean,
            carried: stats.carried,
            reads: stats.reads,
            readmitted: stats.readmitted,
            bytes_written: stats.bytes_written,
            segments_dropped: stats.segments_dropped,
            lost_dropped: stats.lost.dropped,
            damaged: stats.lost.gone + stats.lost.corrupt,
            write_errors: stats.write_errors,
            read_errors: stats.read_errors,
            is_off: stats.is_off,
        }
    }

    /// Names the contracts that the tier broke: a file on a disk that works neither fails nor
    /// damages anything.
    pub(super) fn broken(&self) -> Vec<String> {
        [
            (self.damaged, "blocks damaged in the tier"),
            (self.write_errors, "writes to the tier that failed"),
            (self.read_errors, "reads of the tier that failed"),
            (u64::from(self.is_off), "tiers that were switched off"),
        ]
        .into_iter()
        .filter(|&(count, _)| count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each broken contract of a tier is named. A dropped block is none.
    #[test]
    fn broken_tiers_are_named() {
        let broken = |spoil: fn(&mut TierCounts)| {
            let mut counts = TierCounts::default();
            spoil(&mut counts);
            counts.broken().join(", ")
        };
        assert_eq!(broken(|c| c.lost_dropped = 7), "");
        assert_eq!(broken(|c| c.damaged = 1), "1 blocks damaged in the tier");
        assert_eq!(broken(|c| c.write_errors = 2), "2 writes to the tier that failed");
        assert_eq!(broken(|c| c.read_errors = 3), "3 reads of the tier that failed");
        assert_eq!(broken(|c| c.is_off = true), "1 tiers that were switched off");
    }
}
