//! The result of a sweep, as JSON and as a table.

use serde::Serialize;
use workload::format_bytes;

use super::grid::SplitSample;
use super::measure::Point;
use super::recommendation::Recommendation;
use crate::output::{in_us, table};

/// The JSON object that `analyze --sweep --json` prints.
#[derive(Debug, Serialize)]
pub(super) struct SweepReport<'a> {
    input: SweepInput,
    settings: Vec<SettingRow<'a>>,
    recommended: RecommendedRows<'a>,
}

#[derive(Debug, Serialize)]
struct SweepInput {
    measured_bytes: usize,
    wanted_bytes: usize,
}

#[derive(Debug, Clone, Serialize)]
struct SettingRow<'a> {
    /// The compressor's spec. `dict=DICT` stands for a dictionary that `zlab train` makes.
    compressor: &'a str,
    block_size: usize,
    bytes_per_kib: f64,
    store_ns_per_kib: f64,
    load_ns_per_kib: f64,
    /// The time to load the wanted bytes. A block is loaded whole.
    load_ns: f64,
    front: bool,
}

#[derive(Debug, Serialize)]
struct RecommendedRows<'a> {
    fast: Advice<'a>,
    balanced: Advice<'a>,
    small: Advice<'a>,
}

#[derive(Debug, Serialize)]
struct Advice<'a> {
    #[serde(flatten)]
    row: SettingRow<'a>,
    why: &'static str,
}

impl<'a> SweepReport<'a> {
    pub(super) fn new(
        sample: &SplitSample,
        points: &'a [Point],
        recommendation: &Recommendation,
    ) -> SweepReport<'a> {
        let row = |(point, &front): (&'a Point, &bool)| SettingRow {
            compressor: &point.compressor,
            block_size: point.block_size,
            bytes_per_kib: point.bytes_per_kib,
            store_ns_per_kib: point.store_ns_per_kib,
            load_ns_per_kib: point.load_ns_per_kib,
            load_ns: point.load_ns(),
            front,
        };
        let settings: Vec<SettingRow<'_>> =
            points.iter().zip(&recommendation.front).map(row).collect();
        let [fast, balanced, small] =
            recommendation.named().map(|(_, i, why)| Advice { row: settings[i].clone(), why });
        SweepReport {
            input: SweepInput {
                measured_bytes: sample.measured.len(),
                wanted_bytes: points[0].wanted,
            },
            recommended: RecommendedRows { fast, balanced, small },
            settings,
        }
    }

    /// Formats the report for people: the front in the order of load times, and the recommendation.
    pub(super) fn text(&self, input: &[String]) -> String {
        let wanted = format!("load µs,\n{} bytes", self.input.wanted_bytes);
        let header = [
            "\ncompressor",
            "\nblock",
            "bytes\n/ KiB",
            "store µs\n/ KiB",
            "load µs\n/ KiB",
            &wanted,
        ];
        let mut rows: Vec<&SettingRow<'_>> = self.settings.iter().filter(|row| row.front).collect();
        rows.sort_by(|a, b| a.load_ns.total_cmp(&b.load_ns));
        let mut table = table(1, &header);
        for row in rows {
            table.add_row([
                row.compressor.to_owned(),
                format_bytes(row.block_size as u64),
                format!("{:.0}", row.bytes_per_kib),
                in_us(row.store_ns_per_kib),
                in_us(row.load_ns_per_kib),
                in_us(row.load_ns),
            ]);
        }
        let advice = [
            ("fast", &self.recommended.fast),
            ("balanced", &self.recommended.balanced),
            ("small", &self.recommended.small),
        ];
        let advice: Vec<String> = advice
            .iter()
            .map(|(name, advice)| {
                let Advice { row, why } = advice;
                format!(
                    "{name:<9} zsmalloc+{}, blocks of {}\n          {}",
                    row.compressor,
                    format_bytes(row.block_size as u64),
                    why.replace("; ", ";\n          ")
                )
            })
            .collect();
        format!(
            "{}\n\n{} of {} settings, those that no other beats at once in bytes, time to\n\
             store, time to load per KiB, and time to load what is wanted:\n\n{}\n\n{}\n\n{LEGEND}",
            input.join("\n"),
            self.settings.iter().filter(|row| row.front).count(),
            self.settings.len(),
            table.trim_fmt(),
            advice.join("\n")
        )
    }
}

const LEGEND: &str = "\
bytes / KiB: bytes of pool and index per KiB of input, with same-filled blocks
  and without contexts.
load: a load decompresses a whole block, even if a part is wanted: a page of
  4096 bytes at a random place, or with --block-size a block.
DICT: a dictionary that `zlab train` makes at that level and block size, if it
  pays in this run.
";
