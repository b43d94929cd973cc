//! The files whose pages a program stores.

use std::num::NonZeroUsize;
use std::path::Path;

use workload::{Pages, read_files};
use zswap::Store;

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

/// Stores every page under its number.
///
/// # Errors
///
/// Those of `Store::store`.
pub fn store_all(store: &Store<u64>, pages: &Pages) -> Result<(), Failure> {
    for (key, page) in (0..).zip(pages) {
        store.store(key, page)?;
    }
    Ok(())
}

/// Whether a page may be missing from a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// A missing page is an error.
    Wrong,
    /// The store may have dropped pages.
    Allowed,
}

/// Checks that every page under its number is what [`store_all`] stored.
///
/// # Errors
///
/// Names the first page that is not, or that is missing where none may be; those of `Store::peek`.
pub fn check_all(store: &Store<u64>, pages: &Pages, missing: Missing) -> Result<(), Failure> {
    let mut buffer = Vec::new();
    for (key, page) in (0u64..).zip(pages) {
        buffer.resize(page.len(), 0);
        let right = match store.peek(&key, &mut buffer)? {
            Some(len) => buffer[..len] == *page,
            None => missing == Missing::Allowed,
        };
        if !right {
            return Err(format!("page {key} is not what was stored").into());
        }
    }
    Ok(())
}
