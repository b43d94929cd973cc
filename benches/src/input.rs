//! The files whose pages a program stores.

use std::num::NonZeroUsize;
use std::path::Path;

use workload::{Pages, read_files};

use crate::Failure;

/// Returns the name of a file in reports.
pub fn name_of(file: &Path) -> String {
    file.file_name().unwrap_or(file.as_os_str()).to_string_lossy().into_owned()
}

/// Samples at most `max_bytes` of a file, without same-filled pages. Our store keeps same-filled
/// pages in its index, and would look better than it is for the others.
///
/// # Errors
///
/// If the file cannot be read, or has fewer than `fewest` such pages.
pub fn pages_of(
    file: &Path,
    page: NonZeroUsize,
    max_bytes: u64,
    fewest: usize,
) -> Result<Pages, Failure> {
    let pages = read_files(&[file], page, Some(max_bytes))?.without_same_filled();
    if pages.len() < fewest {
        let (name, found) = (file.display(), pages.len());
        let needed = format!("name a file with {fewest} or more");
        return Err(format!("{name}: {found} pages that are not same-filled; {needed}").into());
    }
    Ok(pages)
}
