//! `zlab density` for boxes on the allocator that a program was built with.

use std::error::Error;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use serde::Serialize;
use workload::{
    BoxKeeper, Density, DensityRow, Isolated, Objects, Pages, answer, density, read_files,
    refuse_huge_pages,
};
use zpool_core::compress::Codec;
use zpool_lz4::Lz4Compressor;

const BLOCK: NonZeroUsize = NonZeroUsize::new(4096).expect("a block has bytes");

/// The first argument of the child that measures.
const CHILD: &str = "measure";

#[derive(Debug, Default)]
struct Options {
    files: Vec<PathBuf>,
    repeat: Option<usize>,
    max_blocks: Option<usize>,
    json: bool,
}

#[derive(Debug, Serialize)]
struct Report {
    results: Vec<DensityRow>,
}

/// The whole program: measures each file in a process of its own and prints what `zlab density` prints.
pub fn density_of_boxes(allocator: &str) -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let done = match args.as_slice() {
        [first, slots] if first == CHILD => child(slots),
        _ => parent(allocator, args.into_iter()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("density_{allocator}: {error}");
            ExitCode::from(2)
        }
    }
}

fn parent(allocator: &str, args: impl Iterator<Item = String>) -> Result<(), Box<dyn Error>> {
    let options = Options::parse(args)?;
    let mut report = Report { results: Vec::new() };
    for file in &options.files {
        let mut pages = read_files(std::slice::from_ref(file), BLOCK, None)?.without_same_filled();
        let max = options.max_blocks.unwrap_or(usize::MAX);
        pages.truncate(max);
        let slots = pages.len().saturating_mul(options.repeat.unwrap_or(1)).min(max);
        let child = Isolated::new().arg(CHILD).arg(slots.to_string());
        let density: Result<Density, String> = child.run(&pages)?;
        let file = file.display().to_string();
        report.results.push(DensityRow {
            file,
            allocator: allocator.to_owned(),
            density: density?,
        });
    }
    if options.json {
        println!("{}", serde_json::to_string(&report)?);
        return Ok(());
    }
    for DensityRow { file, density, .. } in &report.results {
        let Density { payload_bytes, fill, churn, half_freed, .. } = density;
        println!(
            "{file}: {payload_bytes} bytes of payload; fill {fill:.4}, churn {churn:.4}, half freed {half_freed:.4}"
        );
    }
    Ok(())
}

fn child(slots: &str) -> Result<(), Box<dyn Error>> {
    refuse_huge_pages();
    let slots = slots.parse()?;
    let pages = Pages::read_from(std::io::stdin().lock())?;
    let codec = Codec::new(Arc::new(Lz4Compressor::new()), pages.block_size());
    let objects = Objects::compressed(&pages, &codec)?;
    answer(&density(&objects, slots, || Ok(BoxKeeper)).map_err(|error| error.to_string()))?;
    Ok(())
}

impl Options {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Options, String> {
        let mut options = Options::default();
        while let Some(arg) = args.next() {
            let mut number = || {
                let number = args.next().and_then(|n| n.parse().ok()).filter(|&n: &usize| n > 0);
                number.ok_or_else(|| format!("{arg} needs a number above 0")).map(Some)
            };
            match arg.as_str() {
                "--repeat" => options.repeat = number()?,
                "--max-blocks" => options.max_blocks = number()?,
                "--json" => options.json = true,
                _ if arg.starts_with('-') => return Err(format!("unknown option {arg}")),
                _ => options.files.push(arg.into()),
            }
        }
        if options.files.is_empty() { Err("no file was named".to_owned()) } else { Ok(options) }
    }
}
