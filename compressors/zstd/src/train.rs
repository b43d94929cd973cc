//! Training a dictionary.

use core::fmt;
use std::collections::HashSet;

use zstd::zstd_safe::zstd_sys::ZSTD_ErrorCode;
use zstd::zstd_safe::{get_error_name, is_error_kind, train_from_buffer};

use crate::judge::Verdict;

/// zstd trains on 3/4 of the samples and tests on the others, and needs 5 to train on.
pub(crate) const MIN_SAMPLES: usize = 7;
/// Shorter samples are left out.
const MIN_SAMPLE_BYTES: usize = 8;

/// Trains a dictionary of at most `max_len` bytes on sample blocks.
///
/// zstd recommends samples of about 100 times `max_len` in all, each of them one block. If blocks
/// are pages, a dictionary of 16 KiB suffices. Judge the result on other blocks, as
/// [`train_and_judge`](crate::train_and_judge) does.
///
/// Equal samples in equal order train an equal dictionary. May take seconds. Samples shorter than 8
/// bytes are left out.
///
/// # Errors
///
/// [`TrainError`].
pub fn train<S: AsRef<[u8]>>(samples: &[S], max_len: usize) -> Result<Vec<u8>, TrainError> {
    // zstd searches for sequences of 8 bytes. It reads out of bounds if the training samples
    // together have fewer bytes.
    let usable =
        || samples.iter().map(AsRef::as_ref).filter(|sample| sample.len() >= MIN_SAMPLE_BYTES);
    let lens: Vec<usize> = usable().map(<[u8]>::len).collect();
    if lens.len() < MIN_SAMPLES {
        return Err(TrainError::TooFewSamples { samples: lens.len(), needed: MIN_SAMPLES });
    }
    let mut joined = Vec::with_capacity(lens.iter().sum());
    usable().for_each(|sample| joined.extend_from_slice(sample));
    let mut dictionary = vec![0; max_len];
    let len = train_from_buffer(&mut dictionary[..], &joined, &lens)
        .map_err(|code| reason(code, samples))?;
    dictionary.truncate(len);
    Ok(dictionary)
}

/// The reason why no dictionary was trained. Each message is one line.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TrainError {
    /// There are too few samples.
    TooFewSamples {
        /// Usable samples: they have 8 bytes or more and, for
        /// [`train_and_judge`](crate::train_and_judge), are not same-filled.
        samples: usize,
        /// The number that is needed.
        needed: usize,
    },
    /// The samples equal each other, so that there is nothing to train on, or none is left to judge
    /// on.
    TooSimilar {
        /// The number of samples.
        samples: usize,
        /// The number of different samples.
        different: usize,
    },
    /// The samples share no content for a dictionary: they are too short or too random.
    NothingShared {
        /// The number of samples.
        samples: usize,
        /// The bytes of all samples.
        bytes: usize,
    },
    /// No block has a byte to judge a dictionary on.
    NothingToJudge,
    /// `max_len` is under the minimum of 256 bytes.
    MaxLenTooSmall,
    /// There is no memory.
    OutOfMemory,
    /// The dictionary does not pay, with its verdict.
    Refused(Verdict),
    /// zstd failed for another reason.
    Failed(String),
}

/// Translates zstd's error `code`. For most unusable inputs it is the generic one.
fn reason<S: AsRef<[u8]>>(code: usize, samples: &[S]) -> TrainError {
    let is = |kind| is_error_kind(code, kind);
    if is(ZSTD_ErrorCode::ZSTD_error_dstSize_tooSmall) {
        TrainError::MaxLenTooSmall
    } else if is(ZSTD_ErrorCode::ZSTD_error_memory_allocation) {
        TrainError::OutOfMemory
    } else if is(ZSTD_ErrorCode::ZSTD_error_srcSize_wrong)
        || is(ZSTD_ErrorCode::ZSTD_error_GENERIC)
        || is(ZSTD_ErrorCode::ZSTD_error_dictionaryCreation_failed)
    {
        let different = samples.iter().map(AsRef::as_ref).collect::<HashSet<_>>().len();
        if different < MIN_SAMPLES {
            return TrainError::TooSimilar { samples: samples.len(), different };
        }
        let bytes = samples.iter().map(|sample| sample.as_ref().len()).sum();
        TrainError::NothingShared { samples: samples.len(), bytes }
    } else {
        TrainError::Failed(get_error_name(code).to_owned())
    }
}

impl fmt::Display for TrainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TrainError::TooFewSamples { samples, needed } => write!(
                f,
                "too few samples to train a dictionary: {samples} can be used, {needed} are \
                 needed; same-filled blocks and those shorter than 8 bytes do not count"
            ),
            TrainError::TooSimilar { samples, different } => write!(
                f,
                "samples too similar to train a dictionary: of {samples} only {different} \
                 differ; give blocks that differ from each other"
            ),
            TrainError::NothingShared { samples, bytes } => write!(
                f,
                "nothing to put into a dictionary: {samples} samples of {bytes} bytes together \
                 share no sequence of bytes; give more, longer or more regular blocks"
            ),
            TrainError::NothingToJudge => {
                f.write_str("no block has a byte to judge a dictionary on: give longer blocks")
            }
            TrainError::MaxLenTooSmall => {
                f.write_str("a dictionary needs at least 256 bytes: raise its length")
            }
            TrainError::OutOfMemory => {
                f.write_str("no memory to train a dictionary: give fewer blocks")
            }
            TrainError::Refused(verdict) => write!(f, "the dictionary does not pay {verdict}"),
            TrainError::Failed(why) => write!(f, "training failed: {why}"),
        }
    }
}

impl core::error::Error for TrainError {}

#[cfg(test)]
mod tests {
    use super::*;

    /// zstd's generic error, and those of its size checks, become errors that name the missing
    /// samples.
    #[test]
    fn reason_of_generic_error_says_what_is_missing() {
        for kind in [
            ZSTD_ErrorCode::ZSTD_error_GENERIC,
            ZSTD_ErrorCode::ZSTD_error_srcSize_wrong,
            ZSTD_ErrorCode::ZSTD_error_dictionaryCreation_failed,
        ] {
            let code = 0_usize.wrapping_sub(kind as usize);
            let different: Vec<Vec<u8>> = (0..20).map(|i| vec![i; 9]).collect();
            assert_eq!(
                reason(code, &different),
                TrainError::NothingShared { samples: 20, bytes: 180 }
            );
            let equal = vec![vec![1; 9]; 20];
            assert_eq!(reason(code, &equal), TrainError::TooSimilar { samples: 20, different: 1 });
        }
    }
}
