//! Training a dictionary.

use core::fmt;

use zstd::zstd_safe::zstd_sys::ZSTD_ErrorCode;
use zstd::zstd_safe::{get_error_name, is_error_kind, train_from_buffer};

use crate::judge::Verdict;

/// Makes a dictionary of at most `max_len` bytes from samples of blocks like those it is to help with.
///
/// zstd's advice: samples of about a hundred times `max_len` in all, each a block of its own; 16 KiB of dictionary go far for blocks of a page. Judge the
/// result on blocks that were not in the sample: [`train_and_judge`](crate::train_and_judge) does both. The same samples in the same order give the same dictionary. Takes seconds for some MiB.
///
/// # Errors
///
/// [`TrainError`].
pub fn train<S: AsRef<[u8]>>(samples: &[S], max_len: usize) -> Result<Vec<u8>, TrainError> {
    let lens: Vec<usize> = samples.iter().map(|sample| sample.as_ref().len()).collect();
    let mut joined = Vec::with_capacity(lens.iter().sum());
    samples.iter().for_each(|sample| joined.extend_from_slice(sample.as_ref()));
    let mut dictionary = vec![0; max_len];
    let len = train_from_buffer(&mut dictionary[..], &joined, &lens).map_err(reason)?;
    dictionary.truncate(len);
    Ok(dictionary)
}

/// Why there is no dictionary.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TrainError {
    /// The samples are too few, or too short, to find anything that they share.
    TooFewSamples,
    /// `max_len` is too short to be of use: under 256 bytes.
    TooShort,
    /// No memory.
    OutOfMemory,
    /// The dictionary does not pay, with what it does.
    Refused(Verdict),
    /// zstd failed for another reason.
    Failed(String),
}

fn reason(code: usize) -> TrainError {
    if is_error_kind(code, ZSTD_ErrorCode::ZSTD_error_srcSize_wrong) {
        TrainError::TooFewSamples
    } else if is_error_kind(code, ZSTD_ErrorCode::ZSTD_error_dstSize_tooSmall) {
        TrainError::TooShort
    } else if is_error_kind(code, ZSTD_ErrorCode::ZSTD_error_memory_allocation) {
        TrainError::OutOfMemory
    } else {
        TrainError::Failed(get_error_name(code).to_owned())
    }
}

impl fmt::Display for TrainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TrainError::TooFewSamples => f.write_str("too few samples to train a dictionary"),
            TrainError::TooShort => f.write_str("a dictionary needs at least 256 bytes"),
            TrainError::OutOfMemory => f.write_str("no memory to train a dictionary"),
            TrainError::Refused(verdict) => write!(f, "the dictionary does not pay {verdict}"),
            TrainError::Failed(why) => write!(f, "training failed: {why}"),
        }
    }
}

impl core::error::Error for TrainError {}
