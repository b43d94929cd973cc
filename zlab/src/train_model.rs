//! `zlab train --codec pagelz`: trains a model on the blocks of files, and keeps it if it pays on
//! other blocks.

use std::process::ExitCode;

use serde::Serialize;
use workload::{OutputFile, read_files};
use zpool_pagelz::{PagelzCompressor, TrainError, Verdict, train_and_judge};

use crate::error::Failure;
use crate::output::{Progress, print_report_beside};
use crate::train::{MAX_BYTES, TrainArgs};

/// The output of `train --codec pagelz --json`. Ratios are over the generic model.
#[derive(Debug, Serialize)]
struct ModelReport {
    output: String,
    spec: String,
    trained_blocks: usize,
    judged_blocks: usize,
    bytes_over_generic: f64,
    decompress_over_generic: f64,
}

/// Trains and judges a model, and writes it if it pays. Otherwise fails and writes nothing. `spec`
/// is the spec in which the model is used.
pub(crate) fn run(args: &TrainArgs, level: u8, spec: &str) -> Result<ExitCode, Failure> {
    let output = OutputFile::claim(&args.output, &args.files, args.force)?;
    let progress = Progress::spinner("reading, training and judging");
    let pages = read_files(&args.files, args.block_size, Some(MAX_BYTES))?;
    let blocks: Vec<&[u8]> = pages.iter().collect();
    let trained = match train_and_judge(&blocks, level) {
        Ok(trained) => trained,
        Err(TrainError::Refused(verdict)) => {
            return Err(Failure::broken(format!(
                "a model of its own does not pay here: {verdict}; to pay, it must need at most \
                 0.98 of the bytes and 1.10 of the time"
            )));
        }
        Err(error) => return Err(Failure::new(error.to_string())),
    };
    drop(progress);
    let beside = output.is_stdout();
    output.write(&trained.model)?;
    let report = ModelReport::new(args, spec, &trained.verdict);
    print_report_beside(beside, args.json, &report, || report.text(&trained.verdict))
}

/// Returns the level to judge at.
pub(crate) fn level(asked: Option<i32>) -> Result<u8, Failure> {
    let levels = PagelzCompressor::LEVELS;
    let level = asked.unwrap_or(i32::from(*levels.end()));
    let known = u8::try_from(level).ok().filter(|level| levels.contains(level));
    known.ok_or_else(|| {
        let (first, last) = levels.into_inner();
        Failure::new(format!("pagelz has no level {level}: give one from {first} to {last}"))
    })
}

impl ModelReport {
    fn new(args: &TrainArgs, spec: &str, verdict: &Verdict) -> ModelReport {
        ModelReport {
            output: args.output.display().to_string(),
            spec: spec.to_owned(),
            trained_blocks: verdict.trained_blocks,
            judged_blocks: verdict.judged_blocks,
            bytes_over_generic: verdict.bytes_ratio(),
            decompress_over_generic: verdict.decompression_ratio(),
        }
    }

    fn text(&self, verdict: &Verdict) -> String {
        format!(
            "{}: a model trained on {} blocks\n{verdict}\nuse it as {}",
            self.output, self.trained_blocks, self.spec
        )
    }
}
