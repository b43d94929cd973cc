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
        let mut text = String::new();
        for rows in self.results.chunk_by(|a, b| a.file == b.file) {
            text += &format!("{}\n\n{}\n\n", rows[0].file, file_table(rows));
        }
        text + LEGEND
    }
}

/// Formats the rows of one file.
fn file_table(rows: &[DensityRow]) -> String {
    let header = [
        "\nallocator",
        "\npayload",
        "\nfill",
        "\nchurn",
        "half\nfreed",
        "\ncompacted",
        "compact\nms",
    ];
    let mut table = table(1, &header);
    for DensityRow { allocator, density, .. } in rows {
        table.add_row([
            allocator.clone(),
            format_bytes(density.payload_bytes),
            format!("{:.4}", density.fill),
            format!("{:.4}", density.churn),
            format!("{:.4}", density.half_freed),
            format!("{:.4}", density.compacted),
            format!("{:.2}", density.compact_ms),
        ]);
    }
    table.trim_fmt()
}

const LEGEND: &str = "\
Resident bytes that the OS reports / bytes of live objects: lz4, blocks of 4096
bytes, without same-filled ones. The callers' tokens are not counted.
payload: bytes of the objects. fill: every slot once. churn: after 4 random
replacements per slot. half freed: a random half. compacted: after compact and
trim, which do nothing for boxes and zbud.
";
