//! Judges whether a trained model pays, on blocks that it was not trained on.
//!
//! ```text
//!   blocks   | run 0 | run 1 | run 2 | ...     runs of neighbours, because neighbours are alike
//!             train    judge   train
//!               └─► model ─┴─► bytes and time with it, and with the generic one ─► Verdict
//! ```

use core::fmt;
use std::collections::HashSet;
use std::time::{Duration, Instant};

use zpool_core::compress::{CodecError, Compressed, Compressor};
use zpool_core::{CreateError, might_block};

use crate::PagelzCompressor;
use crate::train::{MIN_SAMPLES, train};

/// Neighbouring blocks that go to the same side.
const RUN_BLOCKS: usize = 64;
/// More blocks do not make the judgement better.
const MAX_JUDGED_BLOCKS: usize = 8192;
/// Each batch is timed this often, and the shortest time counts, since interruptions only make a
/// time longer.
const ROUNDS: usize = 5;
/// Blocks that are timed together.
const BATCH: usize = 32;

/// A model that pays.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Trained {
    /// The bytes of the model, for a file for `model=` or for [`PagelzCompressor::with_model`].
    pub model: Vec<u8>,
    /// Its effect on blocks that it was not trained on.
    pub verdict: Verdict,
}

/// The effect of a model on blocks that it was not trained on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verdict {
    /// The level it was judged at.
    pub level: u8,
    /// Blocks that it was trained on; 0 from [`judge`], which does not know them.
    pub trained_blocks: usize,
    /// Other blocks, on which it was judged.
    pub judged_blocks: usize,
    /// The cost of the judged blocks with the generic model.
    pub generic: Cost,
    /// Their cost with this model.
    pub own: Cost,
}

/// The cost of keeping all judged blocks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Cost {
    /// Bytes of the compressed forms. A block that does not shrink counts in full.
    pub bytes: usize,
    /// Time to decompress them.
    pub decompression: Duration,
}

impl Verdict {
    /// Returns the bytes with this model over those with the generic one.
    pub fn bytes_ratio(&self) -> f64 {
        self.own.bytes as f64 / self.generic.bytes.max(1) as f64
    }

    /// Returns the time to decompress with this model over that with the generic one.
    pub fn decompression_ratio(&self) -> f64 {
        let seconds = |cost: &Cost| cost.decompression.as_secs_f64().max(1e-9);
        seconds(&self.own) / seconds(&self.generic)
    }

    /// Returns whether the model pays: at most 0.98 of the bytes, at no more than 1.1 of the time
    /// to decompress.
    pub fn pays(&self) -> bool {
        self.bytes_ratio() <= 0.98 && self.decompression_ratio() <= 1.1
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:.3} of the bytes and {:.2} of the time to decompress with the generic model, on {} \
             other blocks",
            self.bytes_ratio(),
            self.decompression_ratio(),
            self.judged_blocks
        )
    }
}

/// The reason why there is no model.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TrainError {
    /// There are too few blocks to train on.
    TooFewSamples {
        /// The number of blocks that can be used.
        samples: usize,
        /// The number of blocks that is needed.
        needed: usize,
    },
    /// No block is left to judge on: the list is empty, or every block of the second half equals
    /// one of the first.
    NothingToJudge,
    /// There is no memory.
    OutOfMemory,
    /// The model does not pay; this is its verdict.
    Refused(Verdict),
    /// The level or the model is invalid.
    Bad(CreateError),
    /// The compressor failed.
    Codec(CodecError),
}

impl fmt::Display for TrainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TrainError::TooFewSamples { samples, needed } => {
                write!(f, "{samples} blocks are too few to train on: give {needed} or more")
            }
            TrainError::NothingToJudge => {
                f.write_str("no block is left to judge by: give blocks that were not trained on")
            }
            TrainError::OutOfMemory => f.write_str("no memory to train a model: give fewer blocks"),
            TrainError::Refused(verdict) => write!(f, "the model does not pay: {verdict}"),
            TrainError::Bad(error) => error.fmt(f),
            TrainError::Codec(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for TrainError {}

impl From<CodecError> for TrainError {
    fn from(error: CodecError) -> TrainError {
        match error {
            CodecError::OutOfMemory => TrainError::OutOfMemory,
            error => TrainError::Codec(error),
        }
    }
}

impl From<CreateError> for TrainError {
    fn from(error: CreateError) -> TrainError {
        match error {
            CreateError::OutOfMemory => TrainError::OutOfMemory,
            error => TrainError::Bad(error),
        }
    }
}

/// Trains a model on one half of `blocks`, judges it at `level` on the other, and returns it if it
/// [pays](Verdict::pays).
///
/// Equal blocks lead to equal halves and an equal model, but the times are measured. Same-filled
/// blocks are left out, since a store does not compress them, and so are blocks of the second half
/// that equal one of the first. Takes seconds.
///
/// # Errors
///
/// [`TrainError`], with the verdict if the model does not pay.
pub fn train_and_judge<S: AsRef<[u8]>>(blocks: &[S], level: u8) -> Result<Trained, TrainError> {
    might_block("training a model");
    let usable: Vec<&[u8]> =
        blocks.iter().map(AsRef::as_ref).filter(|block| !is_same_filled(block)).collect();
    let needed = 2 * MIN_SAMPLES;
    if usable.len() < needed {
        return Err(TrainError::TooFewSamples { samples: usable.len(), needed });
    }
    let run = RUN_BLOCKS.min(usable.len() / 2);
    let side = |odd: usize| usable.chunks(run).skip(odd).step_by(2).flatten().copied();
    let training: Vec<&[u8]> = side(0).collect();
    let seen: HashSet<&[u8]> = training.iter().copied().collect();
    let held_out: Vec<&[u8]> = side(1).filter(|block| !seen.contains(block)).collect();
    let model = train(&training)?;
    let mut verdict = judge(&model, &held_out, level)?;
    verdict.trained_blocks = training.len();
    match verdict.pays() {
        true => Ok(Trained { model, verdict }),
        false => Err(TrainError::Refused(verdict)),
    }
}

/// Compares a model with the generic one, on blocks that it was not trained on.
///
/// # Errors
///
/// [`TrainError::NothingToJudge`] if there is no block. [`TrainError::Bad`] if the level or the
/// model is invalid.
pub fn judge(model: &[u8], blocks: &[&[u8]], level: u8) -> Result<Verdict, TrainError> {
    let step = blocks.len().div_ceil(MAX_JUDGED_BLOCKS).max(1);
    let blocks: Vec<&[u8]> = blocks.iter().copied().step_by(step).collect();
    if blocks.is_empty() {
        return Err(TrainError::NothingToJudge);
    }
    let generic = CompressedBlocks::new(PagelzCompressor::new(level)?, &blocks)?;
    let own = CompressedBlocks::new(PagelzCompressor::with_model(level, model)?, &blocks)?;
    let times = best_times([&generic, &own], &blocks)?;
    let cost = |kept: &CompressedBlocks, decompression| Cost { bytes: kept.bytes, decompression };
    Ok(Verdict {
        level,
        trained_blocks: 0,
        judged_blocks: blocks.len(),
        generic: cost(&generic, times[0]),
        own: cost(&own, times[1]),
    })
}

/// Compressed blocks, with the compressor that reads them.
struct CompressedBlocks {
    codec: PagelzCompressor,
    /// `None` where a block does not shrink.
    objects: Vec<Option<Vec<u8>>>,
    bytes: usize,
}

impl CompressedBlocks {
    fn new(codec: PagelzCompressor, blocks: &[&[u8]]) -> Result<CompressedBlocks, TrainError> {
        let longest = blocks.iter().map(|block| block.len()).max().unwrap_or(1);
        let mut context = codec.compression_context(longest)?;
        let mut out = vec![0; longest];
        let (mut objects, mut bytes) = (Vec::with_capacity(blocks.len()), 0);
        for block in blocks {
            let object = match context.compress(block, &mut out)? {
                Compressed::Len(len) if len < block.len() => Some(out[..len].to_vec()),
                _ => None,
            };
            bytes += object.as_ref().map_or(block.len(), Vec::len);
            objects.push(object);
        }
        Ok(CompressedBlocks { codec, objects, bytes })
    }
}

/// Returns the times to decompress all blocks with one compressor and with the other. Each batch of
/// blocks is timed several times, with the codecs in alternation.
fn best_times(kept: [&CompressedBlocks; 2], blocks: &[&[u8]]) -> Result<[Duration; 2], TrainError> {
    let mut contexts = Vec::new();
    for kept in kept {
        contexts.push(match kept.codec.level() {
            1 => None,
            _ => Some(kept.codec.decompression_context()?),
        });
    }
    let mut out = vec![0; blocks.iter().map(|block| block.len()).max().unwrap_or(1)];
    let mut sums = [Duration::ZERO; 2];
    for (first, batch) in (0..).step_by(BATCH).zip(blocks.chunks(BATCH)) {
        let mut shortest = [Duration::MAX; 2];
        for _ in 0..ROUNDS {
            for (side, kept) in kept.iter().enumerate() {
                let start = Instant::now();
                for (block, object) in batch.iter().zip(&kept.objects[first..]) {
                    let (Some(object), place) = (object, &mut out[..block.len()]) else { continue };
                    match &mut contexts[side] {
                        Some(context) => context.decompress(object, place)?,
                        None => kept.codec.decompress(object, place)?,
                    }
                }
                shortest[side] = shortest[side].min(start.elapsed());
            }
        }
        sums.iter_mut().zip(shortest).for_each(|(sum, shortest)| *sum += shortest);
    }
    Ok(sums)
}

/// Returns whether the block repeats 8 bytes: a store keeps it without compressing it.
fn is_same_filled(block: &[u8]) -> bool {
    block.len() <= 8 || block[8..] == block[..block.len() - 8]
}
