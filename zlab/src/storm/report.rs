//! The result of `storm`, as JSON and as a table, and the contracts that it broke.

use serde::Serialize;
use workload::{format_bytes, format_ns};
use zpool_core::first_violation;
use zswap::stats::{THRASH_BUCKETS, ThrashCounts};

use super::drains::DrainCounts;
use super::tier::TierCounts;
use crate::output::table;

/// The JSON object that `storm --json` prints.
#[derive(Debug, Default, Serialize)]
pub(super) struct StormReport {
    pub(super) phases: Vec<PhaseReport>,
    /// The kernel's zswap, if the command line asks for it and it can be measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) kernel: Option<KernelReport>,
}

#[derive(Debug, Serialize)]
pub(super) struct KernelReport {
    pub(super) seconds: f64,
    pub(super) switches: u64,
    pub(super) switches_per_s: f64,
    pub(super) switch_ns: SwitchNs,
}

#[derive(Debug, Serialize)]
pub(super) struct PhaseReport {
    pub(super) phase: &'static str,
    pub(super) seconds: f64,
    /// Changes of the current pool, the first pool included.
    pub(super) switches: u64,
    pub(super) switches_per_s: f64,
    pub(super) switch_ns: SwitchNs,
    pub(super) pools_created: u64,
    pub(super) pools_destroyed: u64,
    pub(super) pools_revived: u64,
    /// Pools at the end, when all blocks are dropped: the current one.
    pub(super) pools_alive: u64,
    pub(super) pending_destroy_max: u64,
    pub(super) destroyed_on_caller: u64,
    pub(super) no_block_violations: u64,
    pub(super) stores: u64,
    pub(super) loads: u64,
    pub(super) invalidations: u64,
    pub(super) mismatches: u64,
    pub(super) lost: u64,
    /// Mismatches in which a load returned an older block of that key.
    pub(super) stale: u64,
    /// Blocks removed at the limit, as the store counts them.
    pub(super) evicted: u64,
    /// Stores refused at the limit.
    pub(super) refused: u64,
    /// The most bytes beyond the limit that workers saw.
    pub(super) over_limit_max_bytes: u64,
    /// The most bytes beyond the limit that are allowed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) over_limit_bound_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) evicted_fate: Option<EvictedFate>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) drain: Option<DrainCounts>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tier: Option<TierCounts>,
    pub(super) errors: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) first_error: Option<String>,
}

/// The fate of evicted blocks, of which 1 in 16 is tracked.
#[derive(Debug, Serialize)]
pub(super) struct EvictedFate {
    pub(super) noted: u64,
    /// Blocks that were asked for again: in less than 1 second, 2, 4, and so on to 128.
    pub(super) asked_again: [u64; THRASH_BUCKETS],
    pub(super) asked_later: u64,
    pub(super) removed_unasked: u64,
}

impl EvictedFate {
    pub(super) fn of(counts: &ThrashCounts) -> EvictedFate {
        let ThrashCounts { noted, reloaded, reloaded_late, removed_unread, .. } = *counts;
        EvictedFate {
            noted,
            asked_again: reloaded,
            asked_later: reloaded_late,
            removed_unasked: removed_unread,
        }
    }

    /// Returns the share of a count in percent.
    fn percent(&self, count: u64) -> String {
        format!("{:.0} %", 100.0 * count as f64 / self.noted.max(1) as f64)
    }
}

#[derive(Debug, Serialize)]
pub(super) struct SwitchNs {
    pub(super) p50: u64,
    pub(super) p99: u64,
    pub(super) max: u64,
}

impl PhaseReport {
    /// Names the contracts that the phase broke.
    fn broken(&self) -> Vec<String> {
        let mut broken: Vec<String> = [
            (self.mismatches, "mismatches"),
            (self.lost, "blocks lost"),
            (self.stale, "stale blocks"),
            (self.errors, "failed operations"),
            (self.destroyed_on_caller, "pools destroyed by the caller"),
            (self.no_block_violations, "no-block violations"),
        ]
        .into_iter()
        .filter(|&(count, _)| count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
        let (created, destroyed, alive) =
            (self.pools_created, self.pools_destroyed, self.pools_alive);
        if created != destroyed + alive || alive != 1 {
            broken.push(format!("{created} pools created, {destroyed} destroyed, {alive} alive"));
        }
        if let Some(bound) = self.over_limit_bound_bytes
            && self.over_limit_max_bytes > bound
        {
            broken.push(format!(
                "{} bytes over the limit, {bound} are allowed",
                self.over_limit_max_bytes
            ));
        }
        if let Some(drain) = &self.drain {
            broken.extend(drain.broken());
        }
        if let Some(tier) = &self.tier {
            broken.extend(tier.broken());
        }
        if let Some(error) = &self.first_error {
            broken.push(format!("the first error: {error}"));
        }
        broken
    }
}

impl StormReport {
    /// Names the contracts that the pools broke, with the first operation that blocked in a
    /// no-block section. `None` if they broke none.
    pub(super) fn broken(&self) -> Option<String> {
        let phases = self.phases.iter().filter_map(|phase| {
            let broken = phase.broken();
            (!broken.is_empty()).then(|| format!("phase {}: {}", phase.phase, broken.join(", ")))
        });
        let mut broken: Vec<String> = phases.collect();
        if broken.is_empty() {
            return None;
        }
        broken
            .extend(first_violation().map(|violation| format!("the first violation: {violation}")));
        Some(broken.join("; "))
    }

    /// Formats the report for people: a column per phase.
    pub(super) fn text(&self) -> String {
        let mut header = vec!["phase"];
        header.extend(self.phases.iter().map(|phase| phase.phase));
        let mut table = table(1, &header);
        let mut row = |name: &str, value: &dyn Fn(&PhaseReport) -> String| {
            let mut cells = vec![name.to_owned()];
            cells.extend(self.phases.iter().map(value));
            table.add_row(cells);
        };
        row("seconds", &|p| format!("{:.2}", p.seconds));
        row("switches", &|p| p.switches.to_string());
        row("switches per second", &|p| format!("{:.0}", p.switches_per_s));
        row("a switch takes, p50", &|p| format_ns(p.switch_ns.p50 as f64));
        row("a switch takes, p99", &|p| format_ns(p.switch_ns.p99 as f64));
        row("a switch takes, max", &|p| format_ns(p.switch_ns.max as f64));
        row("pools created", &|p| p.pools_created.to_string());
        row("pools destroyed", &|p| p.pools_destroyed.to_string());
        row("pools revived", &|p| p.pools_revived.to_string());
        row("pools alive at the end", &|p| p.pools_alive.to_string());
        row("awaiting destruction, max", &|p| p.pending_destroy_max.to_string());
        row("stores", &|p| p.stores.to_string());
        row("loads", &|p| p.loads.to_string());
        row("invalidations", &|p| p.invalidations.to_string());
        row("mismatches", &|p| p.mismatches.to_string());
        row("blocks lost", &|p| p.lost.to_string());
        row("stale blocks", &|p| p.stale.to_string());
        if self.phases.iter().any(|phase| phase.over_limit_bound_bytes.is_some()) {
            row("evicted", &|p| p.evicted.to_string());
            let fate = |count: fn(&EvictedFate) -> u64| {
                move |p: &PhaseReport| {
                    let fate = p.evicted_fate.as_ref();
                    fate.map_or_else(|| "-".to_owned(), |fate| fate.percent(count(fate)))
                }
            };
            row("evicted, asked for in 1 s", &fate(|f| f.asked_again[0]));
            row("evicted, asked for in 8 s", &fate(|f| f.asked_again[..4].iter().sum()));
            row("evicted, removed unasked", &fate(|f| f.removed_unasked));
            row("refused", &|p| p.refused.to_string());
            row("over the limit, max", &|p| format_bytes(p.over_limit_max_bytes));
        }
        if self.phases.iter().any(|phase| phase.drain.is_some()) {
            let drains = |count: fn(&DrainCounts) -> u64| {
                move |p: &PhaseReport| p.drain.as_ref().map_or(0, count).to_string()
            };
            row("drains", &drains(|d| d.drains));
            row("entries copied by drains", &drains(|d| d.copied));
            row("entries recompressed", &drains(|d| d.recompressed));
            row("entries changed meanwhile", &drains(|d| d.changed));
            row("left in retired pools", &drains(|d| d.left));
            row("pools after the last drain", &drains(|d| d.pools_alive));
        }
        if self.phases.iter().any(|phase| phase.tier.is_some()) {
            tier_rows(&mut row);
        }
        row("failed operations", &|p| p.errors.to_string());
        row("destroyed by the caller", &|p| p.destroyed_on_caller.to_string());
        row("no-block violations", &|p| p.no_block_violations.to_string());
        let mut text = table.trim_fmt();
        if let Some(kernel) = &self.kernel {
            let (rate, ns) = (kernel.switches_per_s, &kernel.switch_ns);
            text += &format!(
                "\n\nThe kernel's zswap, with nothing stored: \
                 {rate:.0} switches per second, p50 {}, p99 {}.",
                format_ns(ns.p50 as f64),
                format_ns(ns.p99 as f64)
            );
        }
        text
    }
}

/// Adds the rows of a tier, by `row`.
fn tier_rows(row: &mut impl FnMut(&str, &dyn Fn(&PhaseReport) -> String)) {
    let tier = |count: fn(&TierCounts) -> u64| {
        move |p: &PhaseReport| p.tier.as_ref().map_or(0, count).to_string()
    };
    row("blocks in the tier", &tier(|t| t.backed));
    row("blocks put there", &tier(|t| t.put));
    row("without a write", &tier(|t| t.put_clean));
    row("written again", &tier(|t| t.carried));
    row("read", &tier(|t| t.reads));
    row("returned to memory", &tier(|t| t.readmitted));
    row("segments dropped", &tier(|t| t.segments_dropped));
    row("blocks dropped with them", &tier(|t| t.lost_dropped));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn phase() -> PhaseReport {
        PhaseReport {
            phase: "empty",
            seconds: 1.0,
            switches: 10,
            switches_per_s: 10.0,
            switch_ns: SwitchNs { p50: 1, p99: 2, max: 3 },
            pools_created: 10,
            pools_destroyed: 9,
            pools_revived: 0,
            pools_alive: 1,
            pending_destroy_max: 1,
            destroyed_on_caller: 0,
            no_block_violations: 0,
            stores: 0,
            loads: 0,
            invalidations: 0,
            mismatches: 0,
            lost: 0,
            stale: 0,
            evicted: 0,
            refused: 0,
            over_limit_max_bytes: 0,
            over_limit_bound_bytes: None,
            evicted_fate: None,
            drain: None,
            tier: None,
            errors: 0,
            first_error: None,
        }
    }

    /// Each broken contract is named, and a phase without any has no message.
    #[test]
    fn broken_contracts_are_named() {
        assert!(phase().broken().is_empty());
        let broken = |spoil: fn(&mut PhaseReport)| {
            let mut phase = phase();
            spoil(&mut phase);
            phase.broken().join(", ")
        };
        assert_eq!(broken(|p| p.mismatches = 1), "1 mismatches");
        assert_eq!(broken(|p| p.lost = 2), "2 blocks lost");
        assert_eq!(broken(|p| p.stale = 6), "6 stale blocks");
        let over =
            |p: &mut PhaseReport| (p.over_limit_max_bytes, p.over_limit_bound_bytes) = (8, Some(7));
        assert_eq!(broken(over), "8 bytes over the limit, 7 are allowed");
        assert_eq!(
            broken(|p| p.drain = Some(DrainCounts { left: 9, ..DrainCounts::default() })),
            "9 blocks left in retired pools, 0 pools alive after the last drain, \
             books that do not balance after the last drain"
        );
        assert_eq!(broken(|p| p.errors = 3), "3 failed operations");
        assert_eq!(broken(|p| p.destroyed_on_caller = 4), "4 pools destroyed by the caller");
        assert_eq!(broken(|p| p.no_block_violations = 5), "5 no-block violations");
        assert_eq!(broken(|p| p.pools_destroyed = 8), "10 pools created, 8 destroyed, 1 alive");
        let two_alive = |p: &mut PhaseReport| (p.pools_destroyed, p.pools_alive) = (8, 2);
        assert_eq!(broken(two_alive), "10 pools created, 8 destroyed, 2 alive");
    }
}
