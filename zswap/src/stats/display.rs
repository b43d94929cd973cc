//! A store's statistics as a table.

use std::fmt;

use zpool_core::PoolStats;
use zpool_manager::ManagerStats;

use crate::stats::{LatencyStats, Rejected, StoreStats, percent};

impl fmt::Display for StoreStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt_bytes(f)?;
        let ManagerStats { pools_alive: alive, switches, pools_destroyed, .. } = &self.manager;
        writeln!(f, "pools    {alive} alive, {switches} switches, {pools_destroyed} destroyed")?;
        self.fmt_accesses(f)?;
        let Rejected { full, compress_failed, alloc_failed, no_pool, bad_input } = self.rejected;
        write!(f, "stores   {}; rejected: {full} full, {compress_failed} compress, ", self.stores)?;
        write!(f, "{alloc_failed} alloc, {no_pool} no pool, {bad_input} bad input")?;
        if let Some(tier) = &self.tier {
            write!(f, "\n{tier}")?;
        }
        if let Some(LatencyStats { store, load }) = &self.latencies {
            write!(f, "\nstore    {store}\nload     {load}")?;
        }
        Ok(())
    }
}

impl StoreStats {
    /// Writes the lines about stored and held bytes.
    fn fmt_bytes(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: usize| bytes as f64 / (1 << 20) as f64;
        let StoreStats { entries, stored_compressed, stored_raw, same_filled, .. } = self;
        let large = self.large_values;
        write!(f, "entries  {entries} ({stored_compressed} compressed, {stored_raw} raw, ")?;
        writeln!(f, "{same_filled} same-filled, {large} large)")?;
        let (stored, held) = (self.stored_bytes, self.bytes_held());
        let times = stored as f64 / held.max(1) as f64;
        let (stored, held) = (mib(stored), mib(held));
        writeln!(f, "bytes    {stored:.1} MiB stored in {held:.1} MiB: {times:.2} to 1")?;
        let (pools, contexts) = (mib(self.pool_bytes), mib(self.context_bytes));
        let index = mib(self.index_bytes);
        write!(f, "held     pools {pools:.1}, contexts {contexts:.1}, index {index:.1} MiB")?;
        if let Some(limit) = self.limit_bytes {
            write!(f, ", limit {:.1}", mib(limit))?;
        }
        let PoolStats { payload_bytes, rounding_bytes, tail_bytes, .. } = &self.current;
        let (payload, rounding) = (mib(*payload_bytes), mib(*rounding_bytes));
        write!(f, "\ncurrent  payload {payload:.1}, rounding {rounding:.1}, ")?;
        let (tails, metadata) = (mib(*tail_bytes), mib(self.current.metadata_bytes));
        let fragmentation = mib(self.current.fragmentation_bytes);
        write!(f, "tails {tails:.1}, fragmentation {fragmentation:.1}, ")?;
        writeln!(f, "metadata {metadata:.1} MiB")
    }

    /// Writes the lines about look-ups and removals.
    fn fmt_accesses(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, hit, missed) in [
            ("loads", self.loads_hit, self.loads_missed),
            ("takes", self.taken, self.takes_missed),
            ("peeks", self.peeks_hit, self.peeks_missed),
        ] {
            write!(f, "{name}    {hit} hit, {missed} missed")?;
            if let Some(share) = percent(hit, missed) {
                write!(f, ": {share:.1} %")?;
            }
            writeln!(f)?;
        }
        let StoreStats { taken, invalidated, evicted, .. } = self;
        writeln!(f, "removed  {taken} taken, {invalidated} invalidated, {evicted} evicted")
    }
}
