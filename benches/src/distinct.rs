//! The pages that codecs are measured on: distinct, and none that a store would keep as a word.

use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::path::Path;

use workload::{FilesError, Pages, read_files};

/// The most bytes taken of a file; larger files are sampled. So a run ends in minutes.
const MAX_BYTES: u64 = 64 << 20;

/// Fewer pages than this train the branch predictor within a round.
const ENOUGH: usize = 12_000;

/// Returns the distinct blocks of a file that are not same-filled, in their order.
///
/// # Errors
///
/// If the file cannot be read.
pub fn distinct_pages(file: &Path, block_size: NonZeroUsize) -> Result<Pages, FilesError> {
    let all = read_files(&[file], block_size, Some(MAX_BYTES))?.without_same_filled();
    let mut seen = HashSet::new();
    let distinct: Vec<u8> =
        all.iter().filter(|page| seen.insert(*page)).flatten().copied().collect();
    let pages = Pages::from_bytes(block_size, distinct);
    // Longer blocks have more branches each, so fewer are enough.
    if pages.len() < ENOUGH * 4096 / block_size.get().max(4096) {
        eprintln!(
            "{}: {} distinct pages, fewer than {ENOUGH}: branch predictors learn such a number, \
             and decoding looks faster than it is; use a larger file",
            file.display(),
            pages.len()
        );
    }
    Ok(pages)
}
