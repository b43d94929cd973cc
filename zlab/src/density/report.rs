//! The result, as JSON and as a table.

use serde::Serialize;
use workload::{DensityRow, format_bytes};

use crate::output::table;

/// The one object that `density --json` prints. Ratios are over the payload that lives at that moment.
#[derive(Debug, Default, Serialize)]
pub(super) struct DensityReport {
    pub(super) results: Vec<DensityRow>,
}

impl DensityReport {
    /// For people: a row an allocator and file.
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
Resident bytes that the OS reports, over bytes of the objects that live then; lz4, blocks of 4096 bytes, same-filled ones left out.
fill: every slot once. churn: after 4 times as many random replacements. half freed: a random half. compacted: after compact and trim,
which boxes and zbud have no use for. The callers' tokens are not counted.
";
