//! `--train`: whether a dictionary of zstd or a model of pagelz that is trained on the cold blocks
//! would pay.

use std::error::Error;

use serde::Serialize;
use workload::Pages;
use zpool_core::spec::{Component, PoolSpec};
use zpool_pagelz::{PagelzCompressor, TrainError as ModelError};
use zpool_zstd::{TrainError, ZstdCompressor};

use super::measure;
use crate::error::{Failure, one_line};
use crate::output::Progress;
use crate::train::DICTIONARY_BYTES;

/// Bytes of cold blocks to train and judge on. More do not change the verdict, and judging at
/// zstd's highest level takes half a minute for as many.
const SAMPLE_BYTES: usize = 16 << 20;

/// The verdict on what was trained. Ratios are over the same codec without it.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Training {
    sampled_blocks: usize,
    pays: bool,
    /// `None` if nothing could be trained.
    bytes_over_plain: Option<f64>,
    /// The spec of a cold pool that uses it, if it pays.
    spec: Option<String>,
    /// The verdict as a sentence, or the reason why there is none.
    verdict: String,
}

impl Training {
    /// Formats the verdict for people, with a line break at the end.
    pub(super) fn text(&self) -> String {
        let spec = self.spec.as_ref().map_or_else(String::new, |spec| format!("; as {spec}"));
        format!("{} cold blocks sampled: {}{spec}\n\n", self.sampled_blocks, self.verdict)
    }
}

/// Codecs that can be trained, with the level to judge at.
enum Trainable {
    Zstd(i32),
    Pagelz(u8),
}

/// The parameter by which the codec uses a dictionary or a model, and its value.
struct Parameter {
    name: &'static str,
    value: String,
}

/// Checks before the blocks are read that the codec of the cold pool can be trained.
pub(super) fn check(cold: &PoolSpec) -> Result<(), Failure> {
    match trainable(&cold.compressor) {
        Some(_) => Ok(()),
        None => Err(Failure::new(format!(
            "{} cannot be trained: with --train, give --cold a pool of zstd without `dict` or of \
             pagelz without `model`",
            cold.compressor
        ))),
    }
}

fn trainable(codec: &Component) -> Option<Trainable> {
    let level = codec.params.get("level");
    match codec.name.as_str() {
        "zstd" if codec.params.get("dict").is_none() => {
            let level = level.and_then(|text| text.parse().ok());
            Some(Trainable::Zstd(level.unwrap_or(ZstdCompressor::DEFAULT_LEVEL)))
        }
        "pagelz" if codec.params.get("model").is_none() => {
            let level = level.and_then(|text| text.parse().ok());
            Some(Trainable::Pagelz(level.unwrap_or(PagelzCompressor::DEFAULT_LEVEL)))
        }
        _ => None,
    }
}

/// Trains on the blocks that are cold with this share of hot ones. Returns the verdict and, if it
/// pays, the specs of pools that use the result.
pub(super) fn train(
    specs: &[PoolSpec; 2],
    pages: &Pages,
    hot_percent: u8,
) -> Result<(Training, Option<[PoolSpec; 2]>), Failure> {
    let _progress = Progress::spinner("training on cold blocks");
    let blocks = SAMPLE_BYTES / pages.block_size();
    let sample = measure::sample_cold(specs, pages, hot_percent, blocks)?;
    let judged = match trainable(&specs[1].compressor) {
        Some(Trainable::Zstd(level)) => dictionary(&sample, level)?,
        Some(Trainable::Pagelz(level)) => model(&sample, level)?,
        None => return Err(Failure::new("checked before: the codec can be trained")),
    };
    let Judged { bytes_over_plain, verdict, parameter } = judged;
    let trained = parameter.map(|parameter| {
        let [hot, mut cold] = specs.clone();
        cold.compressor.params.set(parameter.name, parameter.value);
        [hot, cold]
    });
    let training = Training {
        sampled_blocks: sample.len(),
        pays: trained.is_some(),
        bytes_over_plain,
        spec: trained.as_ref().map(|[_, cold]| cold.to_string()),
        verdict: one_line(&verdict),
    };
    Ok((training, trained))
}

/// The result of training and judging.
struct Judged {
    bytes_over_plain: Option<f64>,
    verdict: String,
    /// `None` if it does not pay.
    parameter: Option<Parameter>,
}

impl Judged {
    /// Returns the result if nothing could be trained.
    fn nothing(why: &dyn Error) -> Judged {
        Judged { bytes_over_plain: None, verdict: why.to_string(), parameter: None }
    }
}

fn dictionary(sample: &[Vec<u8>], level: i32) -> Result<Judged, Failure> {
    let (verdict, value) = match zpool_zstd::train_and_judge(sample, level, DICTIONARY_BYTES) {
        Ok(trained) => (trained.verdict, Some(zpool_zstd::remember(&trained.dictionary)?)),
        Err(TrainError::Refused(verdict)) => (verdict, None),
        Err(error @ (TrainError::Failed(_) | TrainError::OutOfMemory)) => return Err(error.into()),
        Err(error) => return Ok(Judged::nothing(&error)),
    };
    let does = if value.is_some() { "pays" } else { "does not pay" };
    Ok(Judged {
        bytes_over_plain: Some(verdict.bytes_ratio()),
        verdict: format!("a dictionary {does} {verdict}"),
        parameter: value.map(|value| Parameter { name: "dict", value }),
    })
}

fn model(sample: &[Vec<u8>], level: u8) -> Result<Judged, Failure> {
    let (verdict, value) = match zpool_pagelz::train_and_judge(sample, level) {
        Ok(trained) => (trained.verdict, Some(zpool_pagelz::remember(&trained.model)?)),
        Err(ModelError::Refused(verdict)) => (verdict, None),
        Err(error @ (ModelError::TooFewSamples { .. } | ModelError::NothingToJudge)) => {
            return Ok(Judged::nothing(&error));
        }
        Err(error) => return Err(error.into()),
    };
    let does = if value.is_some() { "pays" } else { "does not pay" };
    Ok(Judged {
        bytes_over_plain: Some(verdict.bytes_ratio()),
        verdict: format!("a model {does}: {verdict}"),
        parameter: value.map(|value| Parameter { name: "model", value }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Codecs that can be trained are those with a dictionary or model that is not given yet.
    #[test]
    fn trainable_codecs_have_no_dictionary_yet() {
        let level = |text: &str| match trainable(&text.parse().unwrap()) {
            Some(Trainable::Zstd(level)) => Some(level),
            Some(Trainable::Pagelz(level)) => Some(level.into()),
            None => None,
        };
        assert_eq!(["zstd", "zstd(level=-3)", "zstd(level=9)"].map(level), [1, -3, 9].map(Some));
        assert_eq!(["pagelz", "pagelz(level=3)"].map(level), [1, 3].map(Some));
        assert_eq!(["lz4", "zstd(dict=FILE)", "pagelz(model=FILE)"].map(level), [None; 3]);
    }
}
