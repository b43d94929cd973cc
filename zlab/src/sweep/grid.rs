//! What is tried, and on which bytes.

use std::collections::HashSet;
use std::num::NonZeroUsize;

use workload::Pages;
use zpool_core::spec::{Component, PoolSpec};
use zpool_zstd::{TrainError, judge, remember, train};

use super::UNIT_BYTES;
use crate::failure::Failure;
use crate::train::DICTIONARY_BYTES;

/// Neighbouring units that go to the same side: neighbours resemble each other.
const RUN_UNITS: usize = 4;
/// Enough for times and ratios to settle; all settings keep it, so it is many times in memory.
const MEASURED_BYTES: usize = 8 << 20;
/// A dictionary gets no better by more.
const TRAINING_BYTES: usize = 16 << 20;
/// Enough to tell whether it pays.
const JUDGED_BYTES: usize = 2 << 20;

const BLOCK_SIZES: [usize; 7] = [1 << 10, 2 << 10, 4 << 10, 8 << 10, 16 << 10, 32 << 10, 64 << 10];

/// zstd's levels, without and with a dictionary. Not all of them: neighbours differ by less than the data does from day to day.
const LEVELS: [i32; 9] = [-7, -4, -1, 1, 3, 6, 9, 13, 19];
const DICTIONARY_LEVELS: [i32; 5] = [-4, -1, 1, 3, 6];
/// A dictionary is for blocks that are too short to have one in them.
const DICTIONARY_BLOCK_SIZES: [usize; 4] = [1 << 10, 2 << 10, 4 << 10, 8 << 10];

/// The input's two sides.
pub(super) struct Sample {
    /// Whole units.
    pub(super) measured: Vec<u8>,
    training: Vec<u8>,
}

/// One way to keep the data.
#[derive(Debug, Clone)]
pub(super) struct Setting {
    pub(super) spec: PoolSpec,
    pub(super) block_size: NonZeroUsize,
    /// What people and other programs call the compressor: the spec, but for the dictionary's name.
    pub(super) compressor: String,
    pub(super) family: Family,
}

/// Settings that are drawn alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    Lz4,
    Lzo,
    Pagelz,
    Zstd,
    ZstdDictionary,
}

impl Sample {
    /// Runs of units, in turns for measuring and for training, both spread over the whole input.
    pub(super) fn of(units: &Pages) -> Result<Sample, Failure> {
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
        Ok(Sample { measured: side(0, MEASURED_BYTES), training: side(1, TRAINING_BYTES) })
    }

    /// The levels at which a dictionary from blocks of this size pays, each with the dictionary's name; none of the blocks is measured, and it is judged on those that
    /// are, by the rule of `zlab train`. It never reaches a disk: bytes of somebody's memory may be in it.
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
        // By units, so that no place in them is favoured.
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

/// The block sizes that are tried: all, or the one that is asked for.
pub(super) fn block_sizes(asked: Option<NonZeroUsize>) -> Result<Vec<usize>, Failure> {
    match asked.map(NonZeroUsize::get) {
        None => Ok(BLOCK_SIZES.to_vec()),
        Some(size) if UNIT_BYTES.is_multiple_of(size) && size >= BLOCK_SIZES[0] => Ok(vec![size]),
        Some(size) => Err(Failure::new(format!(
            "a sweep tries blocks of 1024 to 65536 bytes, by powers of two, not of {size}"
        ))),
    }
}

/// Everything that is tried.
pub(super) fn settings(sample: &Sample, block_sizes: &[usize]) -> Result<Vec<Setting>, Failure> {
    let mut settings = Vec::new();
    for &block_size in block_sizes {
        let mut add = |spec: &str, label: &str, family| {
            let compressor: Component = spec.parse()?;
            settings.push(Setting {
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

    #[test]
    fn no_unit_is_on_both_sides_and_both_have_some() {
        for n in [8, 9, 12, 100, 250] {
            let sample = Sample::of(&units(n)).unwrap();
            let measured: HashSet<u8> = sample.measured.iter().copied().collect();
            assert!(sample.training.iter().all(|unit| !measured.contains(unit)), "{n}");
            assert!(!measured.is_empty() && !sample.training.is_empty(), "{n}");
            assert_eq!(sample.measured.len() % UNIT_BYTES, 0);
        }
        assert!(Sample::of(&units(7)).is_err());
    }

    /// Of records that share their words a dictionary pays for short blocks: by a third of the bytes and of the time, so a busy machine does not change that.
    #[test]
    fn dictionaries_are_tried_where_they_pay() {
        let mut rng = workload::Rng::new(3);
        let words: Vec<String> = (0..300).map(|_| format!("{:x}", rng.next_u64())).collect();
        let word = |_| words[rng.below(300)].bytes().collect::<Vec<_>>();
        let records = (0..).flat_map(word).take(UNIT_BYTES * 16).collect();
        let pages = Pages::from_bytes(NonZeroUsize::new(UNIT_BYTES).unwrap(), records);
        let tried = Sample::of(&pages).unwrap().dictionaries(1024).unwrap();
        assert!(
            !tried.is_empty() && tried.iter().all(|(level, _)| DICTIONARY_LEVELS.contains(level)),
            "{tried:?}"
        );
    }
}
