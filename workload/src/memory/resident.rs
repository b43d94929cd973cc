//! Bytes of this process that are really in memory, as the OS counts them.
//!
//! Three places of Linux say it, and they differ:
//!
//! * `/proc/self/statm` and `VmRSS` of `/proc/self/status` read counters that newer kernels keep a CPU or a thread and add
//!   up lazily: they are off by what has not been added up yet.
//! * `/proc/self/smaps_rollup` walks the page tables while it is read: exact at that moment, and slower the more is
//!   resident. That is what is read here; `statm` stands in where it is missing (kernels before 4.14, some sandboxes).
//!
//! What is counted are whole pages, and under `transparent_hugepage/enabled` = `always` the kernel may back a touched page
//! by 2 MiB at once; figures taken there are larger than what the program asked for, unless it [refuses](refuse_huge_pages).

use std::fmt;
use std::fs::File;
use std::io::{self, Read};

use serde::{Deserialize, Serialize};

/// Bytes resident at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resident {
    /// All of it: anonymous memory, files, shared memory.
    pub total_bytes: u64,
    /// Anonymous memory alone: heaps, stacks, private mappings without a file, and written pages of private file mappings.
    pub anonymous_bytes: u64,
    /// Whether page tables were walked; else these are the lazy counters.
    pub exact: bool,
}

/// Why the OS did not say. The message is one line.
#[derive(Debug)]
pub struct ResidentError {
    error: io::Error,
}

/// A moment from which the growth of resident anonymous memory is counted.
#[derive(Clone, Copy, Debug)]
pub struct Growth {
    start: u64,
}

impl Resident {
    /// Asks the OS, without touching the heap: the answer is not disturbed by the question.
    ///
    /// # Errors
    ///
    /// When `/proc` is not mounted or not Linux'.
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

/// [`Resident::total_bytes`] of now.
///
/// # Errors
///
/// Those of [`Resident::now`].
pub fn resident_bytes() -> Result<u64, ResidentError> {
    Ok(Resident::now()?.total_bytes)
}

/// [`Resident::anonymous_bytes`] of now.
///
/// # Errors
///
/// Those of [`Resident::now`].
pub fn anonymous_bytes() -> Result<u64, ResidentError> {
    Ok(Resident::now()?.anonymous_bytes)
}

/// Asks the kernel to back this process by huge pages no more, whatever the system's setting: what is touched is then what is
/// resident, to the page. Huge pages that are there stay. For processes that measure; true when the kernel agreed.
pub fn refuse_huge_pages() -> bool {
    rustix::thread::disable_transparent_huge_pages(true).is_ok()
}

impl Growth {
    /// Counts from now.
    ///
    /// # Errors
    ///
    /// Those of [`Resident::now`].
    pub fn start() -> Result<Self, ResidentError> {
        Ok(Self { start: anonymous_bytes()? })
    }

    /// Bytes of anonymous memory that became resident since; negative when more went than came.
    ///
    /// The whole process is counted: other threads' allocations too, and memory that was free in the heap at the start is
    /// reused without growing. Measure in a process of its own ([`crate::Isolated`]) where that matters.
    ///
    /// # Errors
    ///
    /// Those of [`Resident::now`].
    pub fn bytes(&self) -> Result<i64, ResidentError> {
        Ok(anonymous_bytes()?.wrapping_sub(self.start).cast_signed())
    }

    /// The growth around `work`, and its result, which is still alive when the OS is asked.
    ///
    /// # Errors
    ///
    /// Those of [`Resident::now`].
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

impl std::error::Error for ResidentError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

/// Reads the whole of a small file into `buffer`, on the stack.
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

/// `Rss:     1700 kB` and `Anonymous:      112 kB` among other lines.
fn parse_rollup(text: &str) -> Option<Resident> {
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
    };
    Some(Resident {
        total_bytes: field("Rss:")?,
        anonymous_bytes: field("Anonymous:")?,
        exact: true,
    })
}

/// `size resident shared …`, in pages; what is resident and not shared is anonymous.
fn parse_statm(text: &str, page_size: u64) -> Option<Resident> {
    let mut words = text.split_ascii_whitespace().skip(1).map(str::parse::<u64>);
    let (resident, shared) = (words.next()?.ok()?, words.next()?.ok()?);
    Some(Resident {
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
        let text = "55ebcf676000-7ffeb88bf000 ---p 00000000 00:00 0                          [rollup]\n\
                    Rss:                1700 kB\nPss_Anon:            900 kB\nAnonymous:            112 kB\n\
                    AnonHugePages:         0 kB\n";
        let expected =
            Resident { total_bytes: 1700 << 10, anonymous_bytes: 112 << 10, exact: true };
        assert_eq!(parse_rollup(text), Some(expected));
        assert_eq!(parse_rollup("Rss: 1700 kB\n"), None);
        assert_eq!(parse_rollup("Rss: many kB\nAnonymous: 1 kB\n"), None);
    }

    #[test]
    fn statm_is_parsed_in_pages_of_the_system() {
        let expected = Resident { total_bytes: 50 << 14, anonymous_bytes: 20 << 14, exact: false };
        assert_eq!(parse_statm("900 50 30 1 0 99 0\n", 16 << 10), Some(expected));
        assert_eq!(parse_statm("900 50", 4096), None);
        assert_eq!(parse_statm("", 4096), None);
    }

    #[test]
    fn touched_memory_is_counted_and_reserved_memory_is_not() {
        const MIB: i64 = 1 << 20;
        // Other tests of this process run meanwhile, so the bounds are wide; the exact case has a process of its own in
        // tests/isolated.rs.
        let (touched, kept) = Growth::around(|| vec![1_u8; 256 << 20]).unwrap();
        assert!((128 * MIB..512 * MIB).contains(&touched), "{touched}");
        drop(kept);
        let (reserved, kept) = Growth::around(|| Vec::<u8>::with_capacity(1 << 30)).unwrap();
        assert!(reserved < 512 * MIB, "{reserved}");
        drop(kept);
    }

    #[test]
    fn anonymous_memory_is_a_part_of_the_total() {
        let now = Resident::now().unwrap();
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
