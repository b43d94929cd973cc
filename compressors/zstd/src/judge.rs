//! Decides whether a dictionary pays, by blocks that it was not trained on.
//!
//! ```text
//!   blocks   | run 0 | run 1 | run 2 | run 3 | ...  runs, because neighbours resemble each other
//!                │       │       │       │
//!            training  held    training  held          without those equal to a training block
//!                │       out     │       out
//!                └────► train ◄──┘        │
//!                          └─ dictionary ─┴──► bytes and time, with and without it ──► Verdict
//! ```

use core::fmt;
use std::collections::HashSet;
use std::time::{Duration, Instant};

use zpool_core::compress::{
    CodecError, Compressed, CompressionContext, Compressor, DecompressionContext,
};
use zpool_core::might_block;

use crate::ZstdCompressor;
use crate::train::{MIN_SAMPLES, TrainError, train};

/// Neighbouring blocks that go to the same side, if there are enough.
const RUN_BLOCKS: usize = 64;
/// More bytes make training slower and no better dictionary.
const MAX_TRAINING_BYTES: usize = 32 << 20;
/// Enough for a judgement.
const MAX_JUDGED_BYTES: usize = 32 << 20;
/// Blocks that are timed together, so that reading the clock costs little in comparison.
const BATCH_BLOCKS: usize = 32;
/// Repetitions of each batch. The shortest time counts, since interruptions only make it longer.
const ROUNDS: usize = 5;

/// A dictionary that pays.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Trained {
    /// Its bytes, for a file for `dict=`, or for [`ZstdCompressor::with_dictionary`].
    pub dictionary: Vec<u8>,
    /// Its effect on blocks that it was not trained on.
    pub verdict: Verdict,
}

/// The effect of a dictionary on blocks that it was not trained on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verdict {
    /// The level it was judged at.
    pub level: i32,
    /// Bytes of the dictionary.
    pub dictionary_bytes: usize,
    /// Blocks that it was trained on; 0 from [`judge`], which does not know them.
    pub trained_blocks: usize,
    /// Other blocks, on which it was judged.
    pub judged_blocks: usize,
    /// Bytes of the judged blocks.
    pub judged_bytes: usize,
    /// Their cost without the dictionary.
    pub without: Cost,
    /// Their cost with the dictionary.
    pub with: Cost,
}

/// The cost of compressing and decompressing all judged blocks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Cost {
    /// Bytes of the compressed forms.
    pub bytes: usize,
    /// Time to compress.
    pub compression: Duration,
    /// Time to decompress.
    pub decompression: Duration,
}

impl Verdict {
    /// Returns the compressed bytes with the dictionary over those without: under 1 is better.
    pub fn bytes_ratio(&self) -> f64 {
        self.with.bytes as f64 / self.without.bytes.max(1) as f64
    }

    /// Returns the time to compress with the dictionary over that without: under 1 is better.
    pub fn compression_ratio(&self) -> f64 {
        ratio(self.with.compression, self.without.compression)
    }

    /// Returns the time to decompress with the dictionary over that without. Does not decide: a
    /// dictionary that makes blocks shorter also makes this faster.
    pub fn decompression_ratio(&self) -> f64 {
        ratio(self.with.decompression, self.without.decompression)
    }

    /// Returns whether the dictionary pays. It does if one of these holds:
    ///
    /// - The compressed bytes are at most 0.97 of those without it, and the time to compress at
    ///   most 1.02.
    /// - The time to compress is at most 1 / 1.1 of that without it, and there are no more bytes.
    ///
    /// Smaller savings are refused. The time to decompress does not decide.
    pub fn pays(&self) -> bool {
        let (bytes, time) = (self.bytes_ratio(), self.compression_ratio());
        (bytes <= 0.97 && time <= 1.02) || (time <= 1.0 / 1.1 && bytes <= 1.0)
    }
}

/// The fewest blocks of which one half suffices for training.
const MIN_BLOCKS: usize = 2 * MIN_SAMPLES - 1;

/// Trains a dictionary of at most `max_len` bytes on one half of `blocks`, judges it at `level` on
/// the other half, and returns it if it [pays](Verdict::pays).
///
/// Equal blocks lead to equal halves and an equal dictionary, but the times are measured.
/// Same-filled blocks are left out, since a store does not compress them. So are blocks of the
/// second half that equal one of the first. May take seconds.
///
/// # Errors
///
/// - [`TrainError::Refused`], with the verdict, if it does not pay.
/// - [`TrainError::TooFewSamples`] for fewer than 13 blocks that are not same-filled.
/// - [`TrainError::TooSimilar`] if no block is left to judge on.
/// - Otherwise as for [`train`].
pub fn train_and_judge<S: AsRef<[u8]>>(
    blocks: &[S],
    level: i32,
    max_len: usize,
) -> Result<Trained, TrainError> {
    might_block("training a dictionary");
    let usable: Vec<&[u8]> =
        blocks.iter().map(AsRef::as_ref).filter(|block| !is_same_filled(block)).collect();
    if usable.len() < MIN_BLOCKS {
        return Err(TrainError::TooFewSamples { samples: usable.len(), needed: MIN_BLOCKS });
    }
    let (training, held_out) = split(&usable);
    if held_out.is_empty() {
        let different = usable.iter().collect::<HashSet<_>>().len();
        return Err(TrainError::TooSimilar { samples: usable.len(), different });
    }
    let dictionary = train(&training, max_len)?;
    let mut verdict = judge(&dictionary, &held_out, level)?;
    verdict.trained_blocks = training.len();
    if verdict.pays() {
        Ok(Trained { dictionary, verdict })
    } else {
        Err(TrainError::Refused(verdict))
    }
}

/// Judges any dictionary at `level`, on blocks that it was not made from.
///
/// # Errors
///
/// [`TrainError::NothingToJudge`] if there is no byte to judge on. [`TrainError::Failed`] if the
/// level or the dictionary is invalid, or zstd fails.
pub fn judge<S: AsRef<[u8]>>(
    dictionary: &[u8],
    blocks: &[S],
    level: i32,
) -> Result<Verdict, TrainError> {
    might_block("judging a dictionary");
    let failed = |error: &dyn fmt::Display| TrainError::Failed(error.to_string());
    let plain = ZstdCompressor::new(level).map_err(|error| failed(&error))?;
    let with =
        ZstdCompressor::with_dictionary(level, dictionary).map_err(|error| failed(&error))?;
    let longest = blocks.iter().map(|block| block.as_ref().len()).max().unwrap_or(0);
    if longest == 0 {
        return Err(TrainError::NothingToJudge);
    }
    let mut sides = [&plain, &with].map(|compressor| MeasuredSide::new(compressor, longest));
    for batch in blocks.chunks(BATCH_BLOCKS) {
        let batch: Vec<&[u8]> =
            batch.iter().map(AsRef::as_ref).filter(|block| !block.is_empty()).collect();
        let mut shortest = [Cost::MAX; 2];
        for round in 0..ROUNDS {
            for i in [round % 2, (round + 1) % 2] {
                let side = sides[i].as_mut().map_err(|error| failed(error))?;
                shortest[i] = shortest[i].min(side.cost(&batch).map_err(|error| failed(&error))?);
            }
        }
        for (side, shortest) in sides.iter_mut().flatten().zip(shortest) {
            side.total = side.total.plus(shortest);
        }
    }
    let totals = sides.map(|side| side.map_or_else(|_| Cost::default(), |side| side.total));
    Ok(Verdict {
        level,
        dictionary_bytes: dictionary.len(),
        trained_blocks: 0,
        judged_blocks: blocks.len(),
        judged_bytes: blocks.iter().map(|block| block.as_ref().len()).sum(),
        without: totals[0],
        with: totals[1],
    })
}

/// Splits blocks into training and held-out ones, with no block on both sides.
fn split<'a>(blocks: &[&'a [u8]]) -> (Vec<&'a [u8]>, Vec<&'a [u8]>) {
    // At least 16 runs, if there are enough blocks.
    let run = (blocks.len() / 16).clamp(1, RUN_BLOCKS);
    let side = |odd| blocks.chunks(run).skip(odd).step_by(2).flatten().copied();
    let training = thinned(side(0).collect(), MAX_TRAINING_BYTES);
    let known: HashSet<&[u8]> = training.iter().copied().collect();
    let held_out = side(1).filter(|block| !known.contains(block)).collect();
    (training, thinned(held_out, MAX_JUDGED_BYTES))
}

/// Returns every n-th block, so that they have about `max_bytes`.
fn thinned(blocks: Vec<&[u8]>, max_bytes: usize) -> Vec<&[u8]> {
    let bytes: usize = blocks.iter().map(|block| block.len()).sum();
    blocks.into_iter().step_by(bytes.div_ceil(max_bytes).max(1)).collect()
}

/// Returns whether the block repeats 8 bytes: a store keeps it without compressing it.
fn is_same_filled(block: &[u8]) -> bool {
    block.len() <= 8 || block[8..] == block[..block.len() - 8]
}

/// zstd with or without the dictionary, with the buffers and the sum of a measurement.
struct MeasuredSide {
    compression: Box<dyn CompressionContext>,
    decompression: Box<dyn DecompressionContext>,
    /// The compressed forms of a batch, each with room for the bound.
    objects: Vec<Vec<u8>>,
    lens: Vec<usize>,
    back: Vec<u8>,
    total: Cost,
}

impl MeasuredSide {
    fn new(compressor: &ZstdCompressor, longest: usize) -> Result<MeasuredSide, CodecError> {
        Ok(MeasuredSide {
            compression: compressor.compression_context(longest)?,
            decompression: compressor.decompression_context()?,
            objects: vec![vec![0; compressor.compress_bound(longest)]; BATCH_BLOCKS],
            lens: Vec::with_capacity(BATCH_BLOCKS),
            back: vec![0; longest],
            total: Cost::default(),
        })
    }

    /// Measures one pass over a batch, compression and decompression.
    fn cost(&mut self, batch: &[&[u8]]) -> Result<Cost, CodecError> {
        self.lens.clear();
        let start = Instant::now();
        for (block, object) in batch.iter().zip(&mut self.objects) {
            let Compressed::Len(len) = self.compression.compress(block, object)? else {
                return Err(CodecError::Misbehaved("does not fit its own bound".to_owned()));
            };
            self.lens.push(len);
        }
        let compression = start.elapsed();
        let start = Instant::now();
        for ((block, object), &len) in batch.iter().zip(&self.objects).zip(&self.lens) {
            self.decompression.decompress(&object[..len], &mut self.back[..block.len()])?;
        }
        Ok(Cost { bytes: self.lens.iter().sum(), compression, decompression: start.elapsed() })
    }
}

impl Cost {
    const MAX: Cost =
        Cost { bytes: usize::MAX, compression: Duration::MAX, decompression: Duration::MAX };

    /// Returns the lesser of each figure.
    fn min(self, other: Cost) -> Cost {
        Cost {
            bytes: self.bytes.min(other.bytes),
            compression: self.compression.min(other.compression),
            decompression: self.decompression.min(other.decompression),
        }
    }

    fn plus(self, other: Cost) -> Cost {
        Cost {
            bytes: self.bytes + other.bytes,
            compression: self.compression + other.compression,
            decompression: self.decompression + other.decompression,
        }
    }
}

fn ratio(time: Duration, base: Duration) -> f64 {
    time.as_secs_f64() / base.as_secs_f64().max(1e-9)
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "at level {}, on {} blocks not trained on: {:+.1} % bytes, \
             {:.2}x the speed of compression, {:.2}x of decompression",
            self.level,
            self.judged_blocks,
            (self.bytes_ratio() - 1.0) * 100.0,
            1.0 / self.compression_ratio().max(1e-9),
            1.0 / self.decompression_ratio().max(1e-9)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(bytes: usize, micros: u64) -> Verdict {
        let cost = |bytes, micros| Cost {
            bytes,
            compression: Duration::from_micros(micros),
            ..Cost::default()
        };
        Verdict {
            level: 1,
            dictionary_bytes: 4096,
            trained_blocks: 10,
            judged_blocks: 10,
            judged_bytes: 40_960,
            without: cost(10_000, 10_000),
            with: cost(bytes, micros),
        }
    }

    /// A dictionary pays if it saves bytes or time, but not if it trades one for the other.
    #[test]
    fn pays_needs_fewer_bytes_or_less_time() {
        assert!(verdict(9_700, 10_000).pays());
        assert!(verdict(9_700, 10_200).pays(), "within the error of measurement");
        assert!(!verdict(9_701, 10_000).pays());
        assert!(!verdict(9_000, 10_300).pays());
        assert!(verdict(10_000, 9_090).pays());
        assert!(!verdict(10_000, 9_100).pays());
        assert!(!verdict(10_001, 5_000).pays());
    }

    /// The split loses no block and puts none on both sides.
    #[test]
    fn split_puts_each_block_on_one_side() {
        let blocks: Vec<Vec<u8>> = (0..4000u32)
            .map(|i| {
                (i % 3900)
                    .to_le_bytes()
                    .repeat(5)
                    .into_iter()
                    .chain([1, 2, 3, 4, 5, 6, 7, 8, 9])
                    .collect()
            })
            .collect();
        let blocks: Vec<&[u8]> = blocks.iter().map(|block| &block[..]).collect();
        let (training, held_out) = split(&blocks);
        assert_eq!(split(&blocks), (training.clone(), held_out.clone()), "the same each time");
        let known: HashSet<&[u8]> = training.iter().copied().collect();
        assert!(held_out.iter().all(|block| !known.contains(block)));
        let all: HashSet<&[u8]> = training.iter().chain(&held_out).copied().collect();
        assert_eq!(all.len(), 3900);
        assert!(
            training.len().abs_diff(held_out.len()) < 200,
            "{} and {}",
            training.len(),
            held_out.len()
        );
    }

    /// Same-filled blocks are left out of the sample, and the others are thinned evenly.
    #[test]
    fn sample_skips_same_filled_and_thins_evenly() {
        let zeros = vec![vec![0u8; 4096]; 100];
        let too_few = TrainError::TooFewSamples { samples: 0, needed: MIN_BLOCKS };
        assert_eq!(train_and_judge(&zeros, 1, 4096).unwrap_err(), too_few);
        let bytes = [1u8; 100];
        let blocks: Vec<&[u8]> = (0..90).map(|i| &bytes[..10 + i % 2]).collect();
        let thin = thinned(blocks.clone(), 500);
        assert!((300..=500).contains(&thin.iter().map(|block| block.len()).sum::<usize>()));
        assert_eq!(thinned(blocks.clone(), 5000).len(), 90);
        assert!(thinned(vec![], 10).is_empty());
    }
}
