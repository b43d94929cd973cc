//! Reads the pages measured. They are distinct, and a store would keep none of them as a word.

use std::collections::HashSet;
use std::path::Path;

use workload::{FilesError, Pages, read_files};

use crate::PAGE;

/// Take at most this many bytes of a file, so that a run ends in minutes. Larger files are sampled.
const MAX_BYTES: u64 = 64 << 20;

/// Fewer pages than this train the branch predictor within a round.
const ENOUGH: usize = 12_000;

/// Reads the distinct pages of a file that are not same-filled, in their order.
pub(crate) fn read(file: &Path) -> Result<Pages, FilesError> {
    let all = read_files(&[file], PAGE, Some(MAX_BYTES))?.without_same_filled();
    let mut seen = HashSet::new();
    let distinct: Vec<u8> =
        all.iter().filter(|page| seen.insert(*page)).flatten().copied().collect();
    let pages = Pages::from_bytes(PAGE, distinct);
    if pages.len() < ENOUGH {
        eprintln!(
            "{}: {} distinct pages, fewer than {ENOUGH}: branch predictors learn them, \
             and decoding looks faster than it is",
            file.display(),
            pages.len()
        );
    }
    Ok(pages)
}
