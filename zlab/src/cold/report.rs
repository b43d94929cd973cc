//! The result of `analyze --cold`, as JSON and as a table.

use serde::Serialize;
use workload::{Pages, format_bytes, format_ns};
use zpool_core::spec::PoolSpec;

use super::measure::{ColdPoolCost, SinglePoolCost};
use super::train::Training;
use crate::output::table;

/// The JSON object that `analyze --cold --json` prints.
#[derive(Debug, Serialize)]
pub(super) struct ColdPoolReport {
    pub(super) hot: String,
    pub(super) cold: String,
    bytes: usize,
    blocks: usize,
    block_size: usize,
    pub(super) plain: SinglePoolCost,
    pub(super) results: Vec<ColdPoolCost>,
    /// The verdict of `--train`.
    training: Option<Training>,
}

impl ColdPoolReport {
    pub(super) fn new(
        [hot, cold]: &[PoolSpec; 2],
        pages: &Pages,
        plain: SinglePoolCost,
        results: Vec<ColdPoolCost>,
        training: Option<Training>,
    ) -> ColdPoolReport {
        ColdPoolReport {
            hot: hot.to_string(),
            cold: cold.to_string(),
            bytes: pages.bytes().len(),
            blocks: pages.len(),
            block_size: pages.block_size(),
            plain,
            results,
            training,
        }
    }

    /// Returns the bytes held, over those of the store without a cold pool.
    pub(super) fn over_plain(&self, measured: &ColdPoolCost) -> f64 {
        measured.held_bytes as f64 / self.plain.held_bytes.max(1) as f64
    }

    /// Names the stores whose blocks did not come back as they were, if there are any.
    pub(super) fn broken(&self) -> Option<String> {
        let mut broken = Vec::new();
        if !self.plain.verified {
            broken.push(format!("{} alone", self.hot));
        }
        let results = self.results.iter().filter(|measured| !measured.verified);
        broken.extend(results.map(|measured| format!("{} hot", measured.share())));
        (!broken.is_empty())
            .then(|| format!("blocks did not come back as they were: {}", broken.join(", ")))
    }

    /// Formats the report for people: the input, and a row per share of hot blocks.
    pub(super) fn text(&self, input: &[String]) -> String {
        let header = [
            "\nhot",
            "\nheld",
            "over\nalone",
            "made\ncold",
            "\nstayed",
            "CPU µs\nper block",
            "load hot\np50",
            "\np99",
            "load cold\np50",
            "\np99",
            "\nverified",
        ];
        let mut table = table(1, &header);
        let SinglePoolCost { held_bytes, load_ns, verified } = &self.plain;
        let ns = |ns: u64| format_ns(ns as f64);
        let yes = |verified: bool| if verified { "yes" } else { "NO" }.to_owned();
        let dash = || "-".to_owned();
        table.add_row([
            "alone".to_owned(),
            format_bytes(*held_bytes as u64),
            "1.00".to_owned(),
            dash(),
            dash(),
            dash(),
            ns(load_ns.p50),
            ns(load_ns.p99),
            dash(),
            dash(),
            yes(*verified),
        ]);
        for measured in &self.results {
            table.add_row([
                measured.share(),
                format_bytes(measured.held_bytes as u64),
                format!("{:.2}", self.over_plain(measured)),
                measured.made_cold.to_string(),
                measured.stayed.to_string(),
                format!("{:.1}", measured.cpu_us_per_block),
                ns(measured.hot_load_ns.p50),
                ns(measured.hot_load_ns.p99),
                ns(measured.cold_load_ns.p50),
                ns(measured.cold_load_ns.p99),
                yes(measured.verified),
            ]);
        }
        let title = format!("{} for all blocks, and {} for cold ones", self.hot, self.cold);
        let training = self.training.as_ref().map_or_else(String::new, Training::text);
        let (input, table) = (input.join("\n"), table.trim_fmt());
        format!("{input}\n\n{title}\n\n{table}\n\n{training}{LEGEND}")
    }
}

impl ColdPoolCost {
    /// Returns the share of hot blocks, as the table and the chart show it.
    pub(super) fn share(&self) -> String {
        let trained = if self.trained { ", trained" } else { "" };
        format!("{} %{trained}", self.hot_percent)
    }
}

const LEGEND: &str = "\
hot: share of the blocks, chosen at random, that is loaded before each turn of
  the heat clock; alone: without cold blocks.
over alone: bytes held by pools, contexts and index, over those of the first row.
stayed: blocks that would not shrink by 1/8, and so stay where they are.
CPU µs per block: time to compress a block again, once, compaction included.
trained: with what --train has made from cold blocks.
";
