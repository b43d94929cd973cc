//! Numbers of the command line, each with the range that it may have.

use std::fmt::Display;
use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use zswap::MAX_BLOCK_SIZE;

/// Parses the bytes of a block.
pub(crate) fn block_size(text: &str) -> Result<NonZeroUsize, String> {
    let size: usize = within(text, 1..=MAX_BLOCK_SIZE, "bytes")?;
    NonZeroUsize::new(size).ok_or_else(|| "a block has at least 1 byte".to_owned())
}

/// Parses a number of threads.
pub(super) fn threads(text: &str) -> Result<NonZeroUsize, String> {
    let threads: usize = within(text, 1..=1024, "threads")?;
    NonZeroUsize::new(threads).ok_or_else(|| "at least 1 thread".to_owned())
}

/// Parses the MiB of a region.
pub(super) fn region_mib(text: &str) -> Result<NonZeroUsize, String> {
    let mib: usize = within(text, 16..=1 << 20, "MiB")?;
    NonZeroUsize::new(mib).ok_or_else(|| "at least 16 MiB".to_owned())
}

/// Parses a count, up to 2^32.
pub(crate) fn count(text: &str) -> Result<NonZeroUsize, String> {
    let count: usize = within(text, 1..=1 << 32, "a count")?;
    NonZeroUsize::new(count).ok_or_else(|| "at least 1".to_owned())
}

/// Parses MiB, up to 1 TiB.
pub(crate) fn max_mib(text: &str) -> Result<u64, String> {
    within(text, 1..=1 << 20, "MiB")
}

/// Parses seconds, up to a week.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    within(text, 0.001..=604_800.0, "seconds").map(Duration::from_secs_f64)
}

/// Parses a number within `range`; the error names the range in `unit`.
pub(crate) fn within<T>(text: &str, range: RangeInclusive<T>, unit: &str) -> Result<T, String>
where
    T: FromStr + PartialOrd + Display,
{
    let number = text.parse().ok().filter(|number| range.contains(number));
    number.ok_or_else(|| {
        format!("a number from {} to {} ({unit}) is needed", range.start(), range.end())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The error of a number out of range names the range.
    #[test]
    fn wrong_number_names_the_range() {
        for text in ["0", "262145", "-1", "4k", ""] {
            assert_eq!(
                block_size(text).unwrap_err(),
                "a number from 1 to 262144 (bytes) is needed"
            );
        }
        assert_eq!(block_size("262144").unwrap().get(), 262_144);
        assert!(seconds("inf").is_err() && seconds("0").is_err() && seconds("-1").is_err());
        assert_eq!(seconds("0.5").unwrap(), Duration::from_millis(500));
    }
}
