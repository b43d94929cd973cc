//! The result of `density`, as JSON and as a table.

use serde::Serialize;
use workload::{DensityRow, format_bytes};

use crate::output::table;

/// The JSON object that `density --json` prints. Ratios are over the live payload of that moment.
#[derive(Debug, Default, Serialize)]
pub(super) struct DensityReport {
    pub(super) results: Vec<DensityRow>,
}

impl DensityReport {
    /// Formats the report for people: a row per allocator and file.
    pub(super) fn text(&self) -> String {
        let header = [
            "file",
            "allocator",
            "payload",
            "fill",
            "churn",
            "half freed",
            "compacted",
            "compact ms",
        ];
        let mut table = table(2, &header);
        for DensityRow { file, allocator, density } in &self.results {
            table.add_row([
                file.clone(),
                allocator.clone(),
                format_bytes(density.payload_bytes),
                format!("{:.4}", density.fill),
                format!("{:.4}", density.churn),
                format!("{:.4}", density.half_freed),
                format!("{:.4}", density.compacted),
                format!("{:.2}", density.compact_ms),
            ]);
        }
        format!("{}\n\n{LEGEND}", table.trim_fmt())
    }
}

const LEGEND: &str = "\
Resident bytes that the OS reports / bytes of live objects: lz4, blocks of 4096 bytes, without
same-filled ones. The callers' tokens are not counted.
fill: every slot once. churn: after 4 random replacements per slot. half freed: a random half.
compacted: after compact and trim, which do nothing for boxes and zbud.
";
