//! `zlab classes`: the size classes of zsmalloc, and what their geometry wastes.

use std::process::ExitCode;

use serde::Serialize;
use zpool_core::PoolConfig;
use zpool_core::page::default_source;
use zpool_zsmalloc::{SizeClass, ZsmallocDriver};

use crate::cli::ClassesArgs;
use crate::error::Failure;
use crate::output::{print_report, table};

/// The JSON object that `classes --json` prints. All sizes are in bytes unless the name says
/// otherwise.
#[derive(Debug, Serialize)]
struct ClassesReport {
    allocator: String,
    frame_bytes: usize,
    max_object_len: usize,
    /// Rounding and tail as a share of the object, averaged over all lengths.
    mean_waste: f64,
    /// The highest share over lengths of at least 1/8 frame. For a few bytes, any rounding is a
    /// multiple.
    worst_waste: f64,
    worst_waste_len: u32,
    results: Vec<ClassRow>,
}

#[derive(Debug, Serialize)]
struct ClassRow {
    slot_bytes: u32,
    /// The length of the shortest object in this class.
    shortest: u32,
    frames: u16,
    objects: u16,
    tail_bytes: u32,
    /// The tail as a share of the zspage.
    tail_share: f64,
}

/// Prints the table.
pub(crate) fn run(args: &ClassesArgs) -> Result<ExitCode, Failure> {
    if args.allocator.name != "zsmalloc" {
        return Err(Failure::new(format!(
            "`{}` has no size classes; zsmalloc has",
            args.allocator.name
        )));
    }
    let source = default_source();
    let frame_bytes = source.frame_size();
    let config =
        PoolConfig::new(source, args.block_size.get()).with_params(args.allocator.params.clone());
    let classes = ZsmallocDriver.classes(&config)?;
    let report = ClassesReport::new(args, frame_bytes, &classes);
    print_report(args.json, &report, || report.text())
}

const LEGEND: &str = "\
slot: bytes of a slot. from: bytes of the shortest object that takes one.
frames: pages of the system in a zspage. objects: slots in a zspage.
tail: bytes at the end of a zspage that belong to no slot.
";

impl ClassesReport {
    fn new(args: &ClassesArgs, frame_bytes: usize, classes: &[SizeClass]) -> ClassesReport {
        let wastes = classes.iter().flat_map(|class| {
            let tail = f64::from(class.tail_bytes) / f64::from(class.slots);
            let longest = class.slot_bytes.min(args.block_size.get() as u32);
            (class.shortest..=longest)
                .map(move |len| (len, (f64::from(class.slot_bytes) + tail) / f64::from(len) - 1.0))
        });
        let wastes: Vec<(u32, f64)> = wastes.collect();
        let long = wastes.iter().filter(|&&(len, _)| len as usize >= frame_bytes / 8);
        let worst = long.max_by(|a, b| a.1.total_cmp(&b.1)).copied().unwrap_or_default();
        let results = classes.iter().map(|class| ClassRow {
            slot_bytes: class.slot_bytes,
            shortest: class.shortest,
            frames: class.frames,
            objects: class.slots,
            tail_bytes: class.tail_bytes,
            tail_share: f64::from(class.tail_bytes)
                / (f64::from(class.frames) * frame_bytes as f64),
        });
        ClassesReport {
            allocator: args.allocator.to_string(),
            frame_bytes,
            max_object_len: args.block_size.get(),
            mean_waste: wastes.iter().map(|(_, waste)| waste).sum::<f64>()
                / wastes.len().max(1) as f64,
            worst_waste: worst.1,
            worst_waste_len: worst.0,
            results: results.collect(),
        }
    }

    /// Formats the report for people: a row per class, and the totals.
    fn text(&self) -> String {
        let mut table = table(0, &["slot", "from", "frames", "objects", "tail", "tail %"]);
        for row in &self.results {
            table.add_row([
                row.slot_bytes.to_string(),
                row.shortest.to_string(),
                row.frames.to_string(),
                row.objects.to_string(),
                row.tail_bytes.to_string(),
                format!("{:.2}", row.tail_share * 100.0),
            ]);
        }
        format!(
            "{}\n\n{} classes of {} over frames of {} bytes,\n\
             for objects of up to {} bytes\n\
             rounding and tail together: {:.2} % of the object in the mean over all lengths,\n\
             at most {:.2} % from {} bytes up (at {})\n\n{LEGEND}",
            table.trim_fmt(),
            self.results.len(),
            self.allocator,
            self.frame_bytes,
            self.max_object_len,
            self.mean_waste * 100.0,
            self.worst_waste * 100.0,
            self.frame_bytes / 8,
            self.worst_waste_len,
        )
    }
}
