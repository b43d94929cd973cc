//! The grid of settings that a sweep tries, and the bytes that it tries them on.

use std::collections::HashSet;
use std::num::NonZeroUsize;

use workload::Pages;
use zpool_core::spec::{Component, PoolSpec};
use zpool_zstd::{TrainError, judge, remember, train};

use super::UNIT_BYTES;
use crate::error::Failure;
use crate::train::DICTIONARY_BYTES;

/// This many neighbouring units go to the same side, because neighbours resemble each other.
const RUN_UNITS: usize = 4;
/// Enough for times and ratios to settle. Every setting keeps it, so it is in memory many times.
const MEASURED_BYTES: usize = 8 << 20;
/// More bytes make no better dictionary.
const TRAINING_BYTES: usize = 16 << 20;
/// Enough to decide whether a dictionary pays.
const JUDGED_BYTES: usize = 2 << 20;

const BLOCK_SIZES: [usize; 7] = [1 << 10, 2 << 10, 4 << 10, 8 << 10, 16 << 10, 32 << 10, 64 << 10];

/// zstd's levels, without and with a dictionary. Neighbouring levels differ by less than the data
/// does from day to day, so we skip some.
const LEVELS: [i32; 9] = [-7, -4, -1, 1, 3, 6, 9, 13, 19];
const DICTIONARY_LEVELS: [i32; 5] = [-4, -1, 1, 3, 6];
/// Block sizes for dictionaries. Longer blocks contain enough to refer to.
const DICTIONARY_BLOCK_SIZES: [usize; 4] = [1 << 10, 2 << 10, 4 << 10, 8 << 10];

/// The two halves of the input.
pub(super) struct SplitSample {
    /// Whole units.
    pub(super) measured: Vec<u8>,
    training: Vec<u8>,
}

/// One setting for the data.
#[derive(Debug, Clone)]
pub(super) struct SweepSetting {
    pub(super) spec: PoolSpec,
    pub(super) block_size: NonZeroUsize,
    /// The name of the compressor for people and programs: the spec without the dictionary's file
    /// name.
    pub(super) compressor: String,
    pub(super) family: Family,
}

/// A group of settings that are drawn alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    Lz4,
    Lzo,
    Pagelz,
    Zstd,
    ZstdDictionary,
}

impl SplitSample {
    /// Deals runs of units to measuring and training in alternation, so that both are spread over
    /// the whole input.
    pub(super) fn of(units: &Pages) -> Result<SplitSample, Failure> {
        if units.len() < 2 * RUN_UNITS {
            let least = 2 * RUN_UNITS * UNIT_BYTES / 1024;
            return Err(Failure::new(format!("a sweep needs {least} KiB of input or more")));
        }
        let runs: Vec<&[u8]> = units.bytes().chunks(RUN_UNITS * UNIT_BYTES).collect();
        let side = |odd: usize, max: usize| {
            let runs: Vec<&[u8]> = runs.iter().copied().skip(odd).step_by(2).collect();
            let step = (runs.len() * RUN_UNITS * UNIT_BYTES).div_ceil(max).max(1);
            runs.into_iter().step_by(step).flatten().copied().collect::<Vec<u8>>()
        };
        Ok(SplitSample { measured: side(0, MEASURED_BYTES), training: side(1, TRAINING_BYTES) })
    }

    /// Returns the levels at which a dictionary for blocks of this size pays, by the rule of
    /// `zlab train`, each with the dictionary's name.
    ///
    /// It is trained on blocks that are not measured, and judged on those that are. It never
    /// reaches a disk, because it may contain bytes of another user's memory.
    fn dictionaries(&self, block_size: usize) -> Result<Vec<(i32, String)>, Failure> {
        let kept = |block: &&[u8]| !workload::is_same_filled(block);
        let measured: HashSet<&[u8]> = self.measured.chunks_exact(block_size).collect();
        let blocks = self.training.chunks_exact(block_size).filter(kept);
        let blocks: Vec<&[u8]> = blocks.filter(|block| !measured.contains(block)).collect();
        let bytes = match train(&blocks, DICTIONARY_BYTES) {
            Ok(bytes) => bytes,
            Err(
                TrainError::TooFewSamples { .. }
                | TrainError::TooSimilar { .. }
                | TrainError::NothingShared { .. },
            ) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        // Take whole units, so that no place in them is favored.
        let step = self.measured.len().div_ceil(JUDGED_BYTES).max(1);
        let units = self.measured.chunks(UNIT_BYTES).step_by(step);
        let judged: Vec<&[u8]> =
            units.flat_map(|unit| unit.chunks_exact(block_size)).filter(kept).collect();
        let name = remember(&bytes)?;
        let mut pays = Vec::new();
        for level in DICTIONARY_LEVELS {
            match judge(&bytes, &judged, level) {
                Ok(verdict) if verdict.pays() => pays.push((level, name.clone())),
                Ok(_) | Err(TrainError::NothingToJudge) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(pays)
    }
}

/// Returns the block sizes to try: all, or the one that is given.
pub(super) fn block_sizes(asked: Option<NonZeroUsize>) -> Result<Vec<usize>, Failure> {
    match asked.map(NonZeroUsize::get) {
        None => Ok(BLOCK_SIZES.to_vec()),
        Some(size) if UNIT_BYTES.is_multiple_of(size) && size >= BLOCK_SIZES[0] => Ok(vec![size]),
        Some(size) => Err(Failure::new(format!(
            "a sweep tries blocks of 1024 to 65536 bytes, by powers of two, not of {size}"
        ))),
    }
}

/// Returns all settings to try.
pub(super) fn settings(
    sample: &SplitSample,
    block_sizes: &[usize],
) -> Result<Vec<SweepSetting>, Failure> {
    let mut settings = Vec::new();
    for &block_size in block_sizes {
        let mut add = |spec: &str, label: &str, family| {
            let compressor: Component = spec.parse()?;
            settings.push(SweepSetting {
                spec: PoolSpec::new(Component::named("zsmalloc"), compressor),
                block_size: NonZeroUsize::new(block_size).expect("none is 0"),
                compressor: label.to_owned(),
                family,
            });
            Ok::<(), Failure>(())
        };
        add("lz4", "lz4", Family::Lz4)?;
        add("lzo", "lzo", Family::Lzo)?;
        for spec in ["pagelz", "pagelz(level=2)", "pagelz(level=3)"] {
            add(spec, spec, Family::Pagelz)?;
        }
        for level in LEVELS {
            let spec = format!("zstd(level={level})");
            add(&spec, &spec, Family::Zstd)?;
        }
        if !DICTIONARY_BLOCK_SIZES.contains(&block_size) {
            continue;
        }
        for (level, dictionary) in sample.dictionaries(block_size)? {
            let spec = format!("zstd(level={level},dict={dictionary})");
            let label = format!("zstd(level={level},dict=DICT)");
            add(&spec, &label, Family::ZstdDictionary)?;
        }
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn units(n: usize) -> Pages {
        let bytes = (0..n * UNIT_BYTES).map(|i| (i / UNIT_BYTES) as u8).collect();
        Pages::from_bytes(NonZeroUsize::new(UNIT_BYTES).unwrap(), bytes)
    }

    /// No unit is in both halves, and neither half is empty.
    #[test]
    fn halves_share_no_unit() {
        for n in [8, 9, 12, 100, 250] {
            let sample = SplitSample::of(&units(n)).unwrap();
            let measured: HashSet<u8> = sample.measured.iter().copied().collect();
            assert!(sample.training.iter().all(|unit| !measured.contains(unit)), "{n}");
            assert!(!measured.is_empty() && !sample.training.is_empty(), "{n}");
            assert_eq!(sample.measured.len() % UNIT_BYTES, 0);
        }
        assert!(SplitSample::of(&units(7)).is_err());
    }

    /// For records that share words, a dictionary for short blocks takes off 1/3 of the bytes and
    /// of the time, so a busy machine does not change the verdict.
    #[test]
    fn dictionaries_that_pay_are_tried() {
        let mut rng = workload::Rng::new(3);
        let words: Vec<String> = (0..300).map(|_| format!("{:x}", rng.next_u64())).collect();
        let word = |_| words[rng.below(300)].bytes().collect::<Vec<_>>();
        let records = (0..).flat_map(word).take(UNIT_BYTES * 16).collect();
        let pages = Pages::from_bytes(NonZeroUsize::new(UNIT_BYTES).unwrap(), records);
        let tried = SplitSample::of(&pages).unwrap().dictionaries(1024).unwrap();
        assert!(
            !tried.is_empty() && tried.iter().all(|(level, _)| DICTIONARY_LEVELS.contains(level)),
            "{tried:?}"
        );
    }
}
