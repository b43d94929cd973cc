//! Counts the bytes of this process that are in memory, as the OS reports them.
//!
//! Linux has three sources for this, and they differ:
//!
//! * `/proc/self/statm` and `VmRSS` of `/proc/self/status` read counters that newer kernels keep
//!   per CPU or thread and add up lazily. They are off by what has not been added up yet.
//! * `/proc/self/smaps_rollup` walks the page tables while it is read. It is exact at that moment,
//!   and slower the more is resident. We read this one, and `statm` if it is missing (kernels
//!   before 4.14, some sandboxes).
//!
//! The kernel counts whole pages. If `transparent_hugepage/enabled` is `always`, it may back a
//! touched page by 2 MiB at once, so figures are larger than what the program asked for unless it
//! [refuses](refuse_huge_pages).

use std::fmt;
use std::fs::File;
use std::io::{self, Read};

use serde::{Deserialize, Serialize};

/// The bytes resident at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResidentBytes {
    /// All of them: anonymous memory, files, shared memory.
    pub total_bytes: u64,
    /// Anonymous memory: heaps, stacks, private mappings without a file, and written pages of
    /// private file mappings.
    pub anonymous_bytes: u64,
    /// Whether page tables were walked. Otherwise these are the lazy counters.
    pub exact: bool,
}

/// The OS did not report resident bytes. The message is one line.
#[derive(Debug)]
pub struct ResidentError {
    error: io::Error,
}

/// A moment from which the growth of resident anonymous memory is counted.
#[derive(Clone, Copy, Debug)]
pub struct Growth {
    start: u64,
}

impl ResidentBytes {
    /// Asks the OS without touching the heap, so that the question does not change the answer.
    ///
    /// # Errors
    ///
    /// If `/proc` is not mounted or not that of Linux.
    pub fn now() -> Result<Self, ResidentError> {
        let mut buffer = [0; 4096];
        if let Ok(text) = read_into("/proc/self/smaps_rollup", &mut buffer)
            && let Some(resident) = parse_rollup(text)
        {
            return Ok(resident);
        }
        let text =
            read_into("/proc/self/statm", &mut buffer).map_err(|error| ResidentError { error })?;
        parse_statm(text, rustix::param::page_size() as u64).ok_or_else(|| ResidentError {
            error: io::Error::other("unknown form of /proc/self/statm"),
        })
    }
}

/// Returns [`ResidentBytes::total_bytes`] of this moment.
///
/// # Errors
///
/// Those of [`ResidentBytes::now`].
pub fn resident_bytes() -> Result<u64, ResidentError> {
    Ok(ResidentBytes::now()?.total_bytes)
}

/// Returns [`ResidentBytes::anonymous_bytes`] of this moment.
///
/// # Errors
///
/// Those of [`ResidentBytes::now`].
pub fn anonymous_bytes() -> Result<u64, ResidentError> {
    Ok(ResidentBytes::now()?.anonymous_bytes)
}

/// Asks the kernel not to back this process by huge pages, whatever the system's setting. Then
/// exactly the touched pages are resident. Huge pages that exist already stay. Returns whether the
/// kernel agreed. For processes that measure.
pub fn refuse_huge_pages() -> bool {
    rustix::thread::disable_transparent_huge_pages(true).is_ok()
}

impl Growth {
    /// Starts to count now.
    ///
    /// # Errors
    ///
    /// Those of [`ResidentBytes::now`].
    pub fn start() -> Result<Self, ResidentError> {
        Ok(Self { start: anonymous_bytes()? })
    }

    /// Returns the bytes of anonymous memory that became resident since the start. Negative if the
    /// process shrank.
    ///
    /// The whole process is counted, including the allocations of other threads. Memory that was
    /// free in the heap at the start is reused without growing. If that matters, measure in a
    /// process of its own ([`crate::Isolated`]).
    ///
    /// # Errors
    ///
    /// Those of [`ResidentBytes::now`].
    pub fn bytes(&self) -> Result<i64, ResidentError> {
        Ok(anonymous_bytes()?.wrapping_sub(self.start).cast_signed())
    }

    /// Returns the growth around `work`, and its result, which is still alive when the OS is asked.
    ///
    /// # Errors
    ///
    /// Those of [`ResidentBytes::now`].
    pub fn around<R>(work: impl FnOnce() -> R) -> Result<(i64, R), ResidentError> {
        let growth = Self::start()?;
        let result = work();
        Ok((growth.bytes()?, result))
    }
}

impl fmt::Display for ResidentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot ask the OS for resident bytes: {}", self.error)
    }
}

/// The message already contains the cause, so there is no `source` (`docs/decisions/0039`).
impl std::error::Error for ResidentError {}

/// Reads the whole of a small file into `buffer`, which lies on the stack.
fn read_into<'b>(path: &str, buffer: &'b mut [u8]) -> io::Result<&'b str> {
    let mut file = File::open(path)?;
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
            Err(error) => return Err(error),
        }
    }
    std::str::from_utf8(&buffer[..filled]).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// Parses `Rss:     1700 kB` and `Anonymous:      112 kB` among other lines.
fn parse_rollup(text: &str) -> Option<ResidentBytes> {
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
    };
    Some(ResidentBytes {
        total_bytes: field("Rss:")?,
        anonymous_bytes: field("Anonymous:")?,
        exact: true,
    })
}

/// Parses `size resident shared …`, in pages. Resident memory that is not shared is anonymous.
fn parse_statm(text: &str, page_size: u64) -> Option<ResidentBytes> {
    let mut words = text.split_ascii_whitespace().skip(1).map(str::parse::<u64>);
    let (resident, shared) = (words.next()?.ok()?, words.next()?.ok()?);
    Some(ResidentBytes {
        total_bytes: resident * page_size,
        anonymous_bytes: resident.saturating_sub(shared) * page_size,
        exact: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rollup_is_parsed() {
        let text = "55ebcf676000-7ffeb88bf000 ---p 00000000 00:00 0                  [rollup]\n\
                    Rss:                1700 kB\nPss_Anon:            900 kB\n\
                    Anonymous:            112 kB\nAnonHugePages:         0 kB\n";
        let expected =
            ResidentBytes { total_bytes: 1700 << 10, anonymous_bytes: 112 << 10, exact: true };
        assert_eq!(parse_rollup(text), Some(expected));
        assert_eq!(parse_rollup("Rss: 1700 kB\n"), None);
        assert_eq!(parse_rollup("Rss: many kB\nAnonymous: 1 kB\n"), None);
    }

    /// The counters of `statm` are in pages of the system.
    #[test]
    fn statm_is_parsed_in_pages() {
        let expected =
            ResidentBytes { total_bytes: 50 << 14, anonymous_bytes: 20 << 14, exact: false };
        assert_eq!(parse_statm("900 50 30 1 0 99 0\n", 16 << 10), Some(expected));
        assert_eq!(parse_statm("900 50", 4096), None);
        assert_eq!(parse_statm("", 4096), None);
    }

    /// Touched memory is counted, and reserved memory is not.
    #[test]
    fn growth_counts_touched_memory() {
        const MIB: i64 = 1 << 20;
        // Other tests of this process run meanwhile, so the bounds are wide. The exact case has a
        // process of its own in tests/isolated.rs.
        let (touched, kept) = Growth::around(|| vec![1_u8; 256 << 20]).unwrap();
        assert!((128 * MIB..512 * MIB).contains(&touched), "{touched}");
        drop(kept);
        let (reserved, kept) = Growth::around(|| Vec::<u8>::with_capacity(1 << 30)).unwrap();
        assert!(reserved < 512 * MIB, "{reserved}");
        drop(kept);
    }

    /// Anonymous memory is a part of the total.
    #[test]
    fn anonymous_is_part_of_total() {
        let now = ResidentBytes::now().unwrap();
        assert!(0 < now.anonymous_bytes && now.anonymous_bytes <= now.total_bytes, "{now:?}");
        assert!(resident_bytes().unwrap() > 0);
    }

    #[test]
    fn the_error_is_one_line() {
        let mut buffer = [0; 16];
        let error =
            ResidentError { error: read_into("/proc/self/no such file", &mut buffer).unwrap_err() };
        assert_eq!(error.to_string().lines().count(), 1);
    }
}
