//! `zlab train`: trains a zstd dictionary on the blocks of files, and writes it if it pays on other
//! blocks. For a model of pagelz, see `train_model`.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;
use workload::{OutputFile, read_files};
use zpool_core::spec::Component;
use zpool_zstd::{TrainError, Verdict, ZstdCompressor, train_and_judge};

use crate::cli::{block_size, within};
use crate::error::Failure;
use crate::output::{Progress, print_report_beside};
use crate::train_model;

/// Sample larger inputs, because more bytes make no better dictionary.
pub(crate) const MAX_BYTES: u64 = 128 << 20;

#[derive(Debug, Args)]
pub(crate) struct TrainArgs {
    /// Files of blocks like those that you will store, or pipes; `-` is the standard input
    #[arg(value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// Write the dictionary or model here, for use as `zstd(dict=DICT)` or `pagelz(model=DICT)`; it
    /// contains bytes of the blocks. `-` is the standard output, and the report then goes to the
    /// standard error
    #[arg(short, long, value_name = "DICT")]
    pub(crate) output: PathBuf,
    /// Replace DICT if it exists; an input is never replaced
    #[arg(long)]
    pub(crate) force: bool,
    /// Train a dictionary for zstd, or a model for pagelz
    #[arg(long, value_name = "CODEC", default_value = "zstd", value_parser = ["zstd", "pagelz"])]
    codec: String,
    /// Judge it at this level: -7 to 19 for zstd [default: 1], 1 to 3 for pagelz [default: 3]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = level)]
    level: Option<i32>,
    /// Bytes per block of the store, 1 to 262144
    #[arg(long, value_name = "N", default_value = "4096", value_parser = block_size)]
    pub(crate) block_size: NonZeroUsize,
    /// The most bytes of a dictionary, 256 to 1048576; ignored with `--codec pagelz`
    #[arg(
        long,
        value_name = "N",
        default_value_t = DICTIONARY_BYTES,
        value_parser = dictionary_bytes
    )]
    max_bytes: usize,
    /// Print one JSON object instead of a sentence
    #[arg(long)]
    pub(crate) json: bool,
}

/// For blocks of a page, longer dictionaries were no better, because there is more to search.
pub(crate) const DICTIONARY_BYTES: usize = 4096;

/// The JSON object that `train --json` prints. Ratios are with the dictionary over without it.
#[derive(Debug, Serialize)]
struct TrainReport {
    output: String,
    spec: String,
    written: bool,
    dictionary_bytes: usize,
    trained_blocks: usize,
    judged_blocks: usize,
    bytes_over_plain: f64,
    compress_speedup: f64,
    decompress_speedup: f64,
}

/// Trains and judges a dictionary, and writes it if it pays. Otherwise fails and writes nothing.
pub(crate) fn run(args: &TrainArgs) -> Result<ExitCode, Failure> {
    // Check name and output before the work, which takes a while.
    let name = args.spec_name().filter(|name| {
        let spec = format!("zstd(dict={name})").parse::<Component>();
        spec.is_ok_and(|spec| spec.params.get("dict") == Some(*name))
    });
    let Some(name) = name else {
        return Err(Failure::new(format!(
            "{:?} cannot be used in a pool spec: choose a UTF-8 name without `,`, `(` or `)`",
            args.output
        )));
    };
    if args.codec == "pagelz" {
        let level = train_model::level(args.level)?;
        return train_model::run(args, level, &format!("pagelz(level={level},model={name})"));
    }
    let level = args.zstd_level();
    let output = OutputFile::claim(&args.output, &args.files, args.force)?;
    let progress = Progress::spinner("reading, training and judging");
    let pages = read_files(&args.files, args.block_size, Some(MAX_BYTES))?;
    let blocks: Vec<&[u8]> = pages.iter().collect();
    let (dictionary, verdict) = match train_and_judge(&blocks, level, args.max_bytes) {
        Ok(trained) => (Some(trained.dictionary), trained.verdict),
        Err(TrainError::Refused(verdict)) => (None, verdict),
        Err(error) => return Err(error.into()),
    };
    drop(progress);
    let beside = output.is_stdout();
    let written = dictionary.as_ref().map(|dictionary| output.write(dictionary));
    let report = TrainReport::new(args, &verdict, matches!(written, Some(Ok(()))));
    // Print what was measured, even if it could not be written.
    let printed = match written {
        Some(_) => print_report_beside(beside, args.json, &report, || report.text(&verdict)),
        None if args.json => print_report_beside(beside, true, &report, String::new),
        None => Ok(ExitCode::SUCCESS),
    };
    match written {
        Some(Ok(())) => printed,
        Some(Err(error)) => Err(error.into()),
        None => Err(Failure::broken(format!(
            "a dictionary does not pay here: {verdict}; to pay, it must save 3.0 % of the bytes \
             and compress at 0.98x the speed, or compress at 1.10x and add no byte"
        ))),
    }
}

impl TrainArgs {
    /// Returns what stands for the output in a spec, if it is UTF-8.
    fn spec_name(&self) -> Option<&str> {
        match self.output.to_str() {
            Some("-") => Some("DICT"),
            name => name,
        }
    }

    fn zstd_level(&self) -> i32 {
        self.level.unwrap_or(ZstdCompressor::DEFAULT_LEVEL)
    }
}

impl TrainReport {
    fn new(args: &TrainArgs, verdict: &Verdict, written: bool) -> TrainReport {
        let level = match args.zstd_level() {
            ZstdCompressor::DEFAULT_LEVEL => String::new(),
            level => format!("level={level},"),
        };
        TrainReport {
            spec: format!("zstd({level}dict={})", args.spec_name().unwrap_or("DICT")),
            output: args.output.display().to_string(),
            written,
            dictionary_bytes: verdict.dictionary_bytes,
            trained_blocks: verdict.trained_blocks,
            judged_blocks: verdict.judged_blocks,
            bytes_over_plain: verdict.bytes_ratio(),
            compress_speedup: 1.0 / verdict.compression_ratio(),
            decompress_speedup: 1.0 / verdict.decompression_ratio(),
        }
    }

    fn text(&self, verdict: &Verdict) -> String {
        let use_it =
            if self.written { format!("\nuse it as {}", self.spec) } else { String::new() };
        format!(
            "{}: {} bytes, trained on {} blocks\n{verdict}{use_it}",
            self.output, self.dictionary_bytes, self.trained_blocks
        )
    }
}

fn level(text: &str) -> Result<i32, String> {
    within(text, ZstdCompressor::LEVELS, "a level")
}

fn dictionary_bytes(text: &str) -> Result<usize, String> {
    within(text, 256..=1 << 20, "bytes")
}
