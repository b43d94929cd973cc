//! The result of `analyze`, as JSON and as a table.

use serde::Serialize;
use workload::SampledProcess;

use super::input::AnalyzedBlocks;
use super::pair::PairReport;
use crate::output::{in_us, table};

/// The JSON object that `analyze --json` prints.
#[derive(Debug, Serialize)]
pub(super) struct AnalyzeReport<'a> {
    input: AnalyzedInput<'a>,
    results: Vec<PairReport>,
}

#[derive(Debug, Serialize)]
struct AnalyzedInput<'a> {
    bytes: usize,
    blocks: usize,
    block_size: usize,
    /// `files`, `process`, `processes` or `child`.
    source: &'static str,
    processes: &'a [SampledProcess],
}

impl<'a> AnalyzeReport<'a> {
    pub(super) fn new(input: &'a AnalyzedBlocks, results: Vec<PairReport>) -> AnalyzeReport<'a> {
        let pages = &input.pages;
        let report = AnalyzedInput {
            bytes: pages.bytes().len(),
            blocks: pages.len(),
            block_size: pages.block_size(),
            source: input.source.word(),
            processes: input.source.processes(),
        };
        AnalyzeReport { input: report, results }
    }

    /// Names the pairs whose blocks did not come back as they were, if there are any.
    pub(super) fn broken(&self) -> Option<String> {
        let broken: Vec<String> = self.results.iter().filter(|r| !r.verified).map(name).collect();
        (!broken.is_empty())
            .then(|| format!("blocks did not come back as they were: {}", broken.join(", ")))
    }

    /// Returns whether no pair was measured.
    pub(super) fn is_empty(&self) -> bool {
        self.results.is_empty()
    }

    /// Formats the report for people: the input, and a row per pair.
    pub(super) fn text(&self, input: &[String]) -> String {
        let header = [
            "\npool",
            "\nratio",
            "held /\npayload",
            "same-\nfilled",
            "kept\nraw",
            "store\nmean",
            "\np99",
            "load\nmean",
            "\np99",
            "\nverified",
        ];
        let mut table = table(1, &header);
        for r in &self.results {
            table.add_row([
                name(r),
                quotient(self.input.bytes, r.resident_bytes, 2),
                quotient(r.pool_bytes, r.payload_bytes, 3),
                r.same_filled.to_string(),
                r.incompressible.to_string(),
                in_us(r.store_ns.mean),
                in_us(r.store_ns.p99 as f64),
                in_us(r.load_ns.mean),
                in_us(r.load_ns.p99 as f64),
                if r.verified { "yes" } else { "NO" }.to_owned(),
            ]);
        }
        let rejected: usize = self.results.iter().map(|r| r.rejected).sum();
        let rejected = if rejected > 0 {
            format!("{rejected} blocks were rejected.\n")
        } else {
            String::new()
        };
        format!("{}\n\n{}\n\n{rejected}{LEGEND}", input.join("\n"), table.trim_fmt())
    }
}

const LEGEND: &str = "\
ratio: bytes of input / growth of resident memory that the OS reports, with
  index and compressor.
held / payload: bytes the allocator holds from the OS / bytes of its objects.
same-filled: blocks that repeat one word and take no object.
kept raw: blocks that do not shrink.
mean: all times together / blocks, in µs. It can be over p99: a few blocks wait
  long, for a new pool's memory or for another program on the processor.
p99: 99 of 100 blocks took this time or less, in µs.
verified: every block came back unchanged.
";

fn name(report: &PairReport) -> String {
    format!("{}+{}", report.allocator, report.compressor)
}

fn quotient(a: usize, b: usize, decimals: usize) -> String {
    if b == 0 { "-".to_owned() } else { format!("{:.decimals$}", a as f64 / b as f64) }
}
