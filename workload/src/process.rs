//! Real memory: blocks of the resident anonymous pages of processes.
//!
//! What is read is what a kernel would compress: private and shared anonymous memory that is in RAM. Pages are not faulted
//! in for it, so a sample neither grows the process nor brings its swapped pages back. The process runs on meanwhile: a block
//! may be torn between two of its writes, and a page that goes away between looking and reading is left out.
//!
//! Reading needs the right to trace the process: one's own processes on most systems, one's own children where
//! `kernel.yama.ptrace_scope` is 1, root's everywhere.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::num::NonZeroUsize;
use std::os::unix::fs::FileExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::presence::Present;
use crate::regions::parse_maps;
use crate::{Pages, spread_runs};

/// Bytes that are sampled where nobody asks for another amount: 64 MiB.
pub const DEFAULT_SAMPLE_BYTES: u64 = 64 << 20;

/// Processes a sample is taken from at most, so that each gives enough to be typical of it.
pub const MAX_SAMPLED_PROCESSES: usize = 32;

/// Without `pagemap`, this many times the blocks wanted are looked at, because most may never have been touched.
const LOOKS_PER_BLOCK: usize = 4;

/// Blocks of processes, and whose they are.
#[derive(Debug)]
pub struct Sample {
    /// The blocks, process by process in the order of `sources`, each in the order of addresses.
    pub pages: Pages,
    /// Who gave them, largest process first. Those that gave nothing are not listed.
    pub sources: Vec<SampledProcess>,
    /// Processes that may not be read.
    pub refused: usize,
}

/// One process of a sample.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SampledProcess {
    /// Its number.
    pub pid: u32,
    /// Its short name (`comm`); control characters are replaced.
    pub name: String,
    /// Bytes of it in the sample.
    pub bytes: u64,
}

/// Why a process gave nothing. Each message is one line.
#[derive(Debug)]
#[non_exhaustive]
pub enum ProcessError {
    /// There is no such process.
    NotFound {
        /// The number asked for.
        pid: u32,
    },
    /// The caller may not read it.
    Refused {
        /// The process.
        pid: u32,
        /// What the OS said.
        error: io::Error,
    },
    /// It has no resident anonymous memory of at least a block: a kernel thread, or a process that has ended.
    Nothing {
        /// The process.
        pid: u32,
    },
    /// The list of processes cannot be read.
    NoProcesses(io::Error),
}

impl fmt::Display for ProcessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound { pid } => write!(f, "there is no process {pid}"),
            Self::Refused { pid, error } => write!(f, "process {pid} may not be read: {error}"),
            Self::Nothing { pid } => {
                write!(f, "process {pid} holds no anonymous memory that could be sampled")
            }
            Self::NoProcesses(error) => write!(f, "cannot list processes: {error}"),
        }
    }
}

impl std::error::Error for ProcessError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Refused { error, .. } | Self::NoProcesses(error) => Some(error),
            Self::NotFound { .. } | Self::Nothing { .. } => None,
        }
    }
}

/// Blocks of one process, at most `max_bytes` of them, by [`spread_runs`] when it holds more.
///
/// Blocks larger than a page are taken where all of their pages are present; smaller ones cut pages up.
///
/// # Errors
///
/// When it does not exist, may not be read, or gives no block.
pub fn sample_process(pid: u32, block_size: NonZeroUsize, max_bytes: u64) -> Result<Sample, ProcessError> {
    let target = Target::open(pid, block_size)?;
    let sample = gather(vec![target], block_size, max_bytes, 0);
    if sample.pages.is_empty() { Err(ProcessError::Nothing { pid }) } else { Ok(sample) }
}

/// Blocks of the processes of the caller's own effective user, as [`sample_processes`] of [`own_uid_processes`].
///
/// # Errors
///
/// When the list of processes cannot be read. That nobody could be read is no error: the sample is empty and says how many
/// refused.
pub fn sample_own_uid(block_size: NonZeroUsize, max_bytes: u64) -> Result<Sample, ProcessError> {
    Ok(sample_processes(&own_uid_processes()?, block_size, max_bytes))
}

/// Blocks of the first [`MAX_SAMPLED_PROCESSES`] of `pids` that may be read and hold something; `max_bytes` in all.
///
/// Each process has the same share. What a small one does not need is divided among the others.
pub fn sample_processes(pids: &[u32], block_size: NonZeroUsize, max_bytes: u64) -> Sample {
    let mut targets = Vec::new();
    let mut refused = 0;
    for &pid in pids {
        if targets.len() == MAX_SAMPLED_PROCESSES {
            break;
        }
        match Target::open(pid, block_size) {
            Ok(target) => targets.push(target),
            Err(ProcessError::Refused { .. }) => refused += 1,
            // Gone, or nothing there: as if it had never been listed.
            Err(_) => (),
        }
    }
    gather(targets, block_size, max_bytes, refused)
}

/// Processes of the caller's own effective user but the caller itself, most resident anonymous memory first. Looks at their
/// status only; kernel threads and ended processes, which have no memory, are left out.
///
/// # Errors
///
/// When `/proc` cannot be listed.
pub fn own_uid_processes() -> Result<Vec<u32>, ProcessError> {
    let (uid, own) = (rustix::process::geteuid().as_raw(), std::process::id());
    let mut found: Vec<(u64, u32)> = fs::read_dir("/proc")
        .map_err(ProcessError::NoProcesses)?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .filter(|&pid| pid != own)
        .filter_map(|pid| {
            let status = parse_status(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?)?;
            (status.euid == uid && status.anonymous_bytes > 0).then_some((status.anonymous_bytes, pid))
        })
        .collect();
    found.sort_unstable_by_key(|&(bytes, pid)| (std::cmp::Reverse(bytes), pid));
    Ok(found.into_iter().map(|(_, pid)| pid).collect())
}

/// What is asked of `/proc/PID/status`.
#[derive(Debug, PartialEq, Eq)]
struct Status {
    euid: u32,
    anonymous_bytes: u64,
}

fn parse_status(text: &str) -> Option<Status> {
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    // Real, effective, saved and file-system user.
    let euid = field("Uid:")?.split_ascii_whitespace().nth(1)?.parse().ok()?;
    let kib = |name| field(name)?.strip_suffix(" kB")?.trim().parse::<u64>().ok();
    Some(Status { euid, anonymous_bytes: kib("RssAnon:").or_else(|| kib("VmRSS:"))?.saturating_mul(1024) })
}

/// A process that can be read, and which of its blocks are there.
struct Target {
    pid: u32,
    name: String,
    mem: File,
    present: Present,
}

impl Target {
    fn open(pid: u32, block_size: NonZeroUsize) -> Result<Self, ProcessError> {
        let folder = Path::new("/proc").join(pid.to_string());
        let judge = |error| judge(pid, error, folder.exists());
        let maps = fs::read(folder.join("maps")).map_err(judge)?;
        let mem = File::open(folder.join("mem")).map_err(judge)?;
        let regions = parse_maps(&String::from_utf8_lossy(&maps));
        let size = block_size.get() as u64;
        let present = File::open(folder.join("pagemap"))
            .and_then(|pagemap| Present::from_pagemap(&pagemap, &regions, size))
            .unwrap_or_else(|_| Present::assumed(&regions, size));
        if present.blocks() == 0 {
            return Err(ProcessError::Nothing { pid });
        }
        let name = fs::read(folder.join("comm")).unwrap_or_default();
        let name = String::from_utf8_lossy(name.trim_ascii_end()).replace(char::is_control, "?");
        Ok(Self { pid, name, mem, present })
    }

    /// Appends at most `limit` blocks to `bytes`, and returns how many.
    fn read(&self, limit: usize, block_size: usize, bytes: &mut Vec<u8>) -> usize {
        let looks = if self.present.known { limit } else { limit.saturating_mul(LOOKS_PER_BLOCK) };
        let start = bytes.len();
        for (address, blocks) in self.present.locate(&spread_runs(self.present.blocks(), looks)) {
            let piece = bytes.len();
            read_blocks(&self.mem, address, blocks, block_size, bytes);
            if !self.present.known {
                drop_zeros(bytes, piece, block_size);
            }
        }
        let found = (bytes.len() - start) / block_size;
        if found <= limit {
            return found;
        }
        // More was there than the guess allowed for: the same choice again, among what was read.
        let mut kept = start;
        for run in spread_runs(found, limit) {
            bytes.copy_within(start + run.start * block_size..start + run.end * block_size, kept);
            kept += run.len() * block_size;
        }
        bytes.truncate(kept);
        (kept - start) / block_size
    }
}

/// Reads every target's share.
fn gather(targets: Vec<Target>, block_size: NonZeroUsize, max_bytes: u64, refused: usize) -> Sample {
    let size = block_size.get();
    let limit = usize::try_from(max_bytes / size as u64).unwrap_or(usize::MAX);
    let held: Vec<usize> = targets.iter().map(|target| target.present.blocks()).collect();
    let shares = fair_shares(&held, limit);
    let mut bytes = Vec::with_capacity(shares.iter().sum::<usize>() * size);
    let mut sources = Vec::new();
    let mut available = 0;
    for (target, share) in targets.iter().zip(shares) {
        let found = target.read(share, size, &mut bytes);
        available += if target.present.known { target.present.blocks() } else { found };
        if found > 0 {
            let (pid, name) = (target.pid, target.name.clone());
            sources.push(SampledProcess { pid, name, bytes: (found * size) as u64 });
        }
    }
    Sample { pages: Pages::from_sample(block_size, bytes, available as u64, 0), sources, refused }
}

/// Divides `limit` so that nobody gets more than it holds, and nobody who wants more gets less than another.
fn fair_shares(held: &[usize], limit: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..held.len()).collect();
    order.sort_unstable_by_key(|&i| held[i]);
    let mut shares = vec![0; held.len()];
    let mut left = limit;
    for (served, &i) in order.iter().enumerate() {
        shares[i] = held[i].min(left / (held.len() - served));
        left -= shares[i];
    }
    shares
}

/// Appends `blocks` neighbouring blocks at `address`, but those that cannot be read any more.
fn read_blocks(mem: &File, address: u64, blocks: usize, block_size: usize, bytes: &mut Vec<u8>) {
    let mut done = 0;
    while done < blocks {
        let filled = bytes.len();
        bytes.resize(filled + (blocks - done) * block_size, 0);
        let whole = match mem.read_at(&mut bytes[filled..], address + (done * block_size) as u64) {
            Ok(read) => read / block_size,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                bytes.truncate(filled);
                continue;
            }
            // EIO: unmapped meanwhile. (A process that has ended reads as empty.)
            Err(_) => 0,
        };
        bytes.truncate(filled + whole * block_size);
        // What stopped the read is the block behind those that came whole.
        done += whole + 1;
    }
}

/// Removes the all-zero blocks from `start` on: without `pagemap`, most of these were never touched.
fn drop_zeros(bytes: &mut Vec<u8>, start: usize, block_size: usize) {
    let mut kept = start;
    for at in (start..bytes.len()).step_by(block_size) {
        if bytes[at..at + block_size].iter().any(|&byte| byte != 0) {
            bytes.copy_within(at..at + block_size, kept);
            kept += block_size;
        }
    }
    bytes.truncate(kept);
}

/// What an error of opening a file of `/proc/PID` means.
fn judge(pid: u32, error: io::Error, exists: bool) -> ProcessError {
    match error.kind() {
        _ if !exists => ProcessError::NotFound { pid },
        // A process that has ended but was not waited for, or a kernel thread: it is there, but has no memory.
        _ if error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => {
            ProcessError::Nothing { pid }
        }
        _ => ProcessError::Refused { pid, error },
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};

    use super::*;
    use crate::regions::Region;

    const PAGE: NonZeroUsize = NonZeroUsize::new(4096).unwrap();

    /// Memory of this process: 16 MiB, of which some pages within the first 4 MiB were written.
    struct Buffer {
        bytes: Vec<u8>,
        region: Region,
        touched: usize,
    }

    impl Buffer {
        fn new() -> Self {
            // Zeroed memory of this size comes straight from the OS and is not touched.
            let mut bytes = vec![0_u8; 16 << 20];
            let first = bytes.as_ptr().addr() as u64;
            let start = first.next_multiple_of(rustix::param::page_size() as u64);
            let mut touched = 0;
            for at in ((start - first) as usize..4 << 20).step_by(3 * PAGE.get()) {
                bytes[at..at + PAGE.get()].fill(0xA5);
                touched += 1;
            }
            let end = (first + (15 << 20)) & !(rustix::param::page_size() as u64 - 1);
            Self { bytes, region: Region { span: start..end, shared: false }, touched }
        }

        fn target(&self, present: Present) -> Target {
            let mem = File::open("/proc/self/mem").unwrap();
            Target { pid: std::process::id(), name: "self".into(), mem, present }
        }

        fn present(&self) -> Present {
            let pagemap = File::open("/proc/self/pagemap").unwrap();
            Present::from_pagemap(&pagemap, std::slice::from_ref(&self.region), PAGE.get() as u64).unwrap()
        }
    }

    fn patterned(pages: &Pages) -> usize {
        pages.iter().filter(|page| page.iter().all(|&byte| byte == 0xA5)).count()
    }

    fn sleeper() -> Child {
        Command::new("sleep").arg("600").stdout(Stdio::null()).spawn().unwrap()
    }

    #[test]
    fn present_pages_are_read_and_absent_ones_are_not_faulted_in() {
        let buffer = Buffer::new();
        let before = buffer.present();
        // Huge pages may have made neighbours present, but nothing in the 12 MiB that nobody wrote to.
        assert!((buffer.touched..2048).contains(&before.blocks()), "{}", before.blocks());
        let sample = gather(vec![buffer.target(before.clone())], PAGE, 64 << 20, 0);
        assert_eq!(sample.pages.len(), before.blocks());
        assert_eq!(patterned(&sample.pages), buffer.touched);
        assert_eq!(buffer.present(), before);
        assert_eq!(buffer.bytes.len(), 16 << 20);
    }

    #[test]
    fn without_a_pagemap_untouched_pages_are_left_out() {
        let buffer = Buffer::new();
        let present = Present::assumed(std::slice::from_ref(&buffer.region), PAGE.get() as u64);
        let sample = gather(vec![buffer.target(present.clone())], PAGE, 64 << 20, 0);
        assert_eq!((sample.pages.len(), patterned(&sample.pages)), (buffer.touched, buffer.touched));
        assert_eq!(sample.pages.available_blocks(), buffer.touched as u64);
        // A limit below what is there holds all the same.
        let sample = gather(vec![buffer.target(present)], PAGE, 100 * 4096, 0);
        let found = sample.pages.len();
        assert!((1..=100).contains(&found) && patterned(&sample.pages) == found, "{found}");
        assert_eq!(sample.sources[0].bytes, found as u64 * 4096);
    }

    #[test]
    fn pages_unmapped_meanwhile_are_left_out() {
        let buffer = Buffer::new();
        let target = buffer.target(buffer.present());
        let touched = buffer.touched;
        // The allocator gives memory of this size back to the OS; another thread's may be there now, but not all of it.
        drop(buffer);
        let sample = gather(vec![target], PAGE, 64 << 20, 0);
        assert!(patterned(&sample.pages) < touched);
    }

    #[test]
    fn a_process_that_ends_between_looking_and_reading_gives_nothing() {
        let mut child = sleeper();
        // Until exec is done, the child is a copy of this process.
        let target = loop {
            let target = Target::open(child.id(), PAGE).unwrap();
            if target.name == "sleep" {
                break target;
            }
        };
        assert!(target.present.known && target.present.blocks() > 0);
        child.kill().unwrap();
        child.wait().unwrap();
        let sample = gather(vec![target], PAGE, 64 << 20, 3);
        assert!(sample.pages.is_empty() && sample.sources.is_empty());
        assert_eq!(sample.refused, 3);
    }

    #[test]
    fn a_share_is_fair_and_never_more_than_there_is() {
        assert_eq!(fair_shares(&[100, 100], 50), [25, 25]);
        assert_eq!(fair_shares(&[1000, 10, 1000], 110), [50, 10, 50]);
        assert_eq!(fair_shares(&[3, 2, 1], 100), [3, 2, 1]);
        assert_eq!(fair_shares(&[5, 5, 5], 10), [3, 3, 4]);
        assert_eq!(fair_shares(&[7, 0], 5), [5, 0]);
        assert_eq!(fair_shares(&[], 5), [0; 0]);
    }

    #[test]
    fn the_status_of_a_process_is_parsed() {
        let text = "Name:\tcat\nUid:\t1000\t1001\t1002\t1003\nVmRSS:\t    1700 kB\nRssAnon:\t     112 kB\n";
        assert_eq!(parse_status(text), Some(Status { euid: 1001, anonymous_bytes: 112 << 10 }));
        let old = "Uid:\t0\t0\t0\t0\nVmRSS:\t       8 kB\n";
        assert_eq!(parse_status(old), Some(Status { euid: 0, anonymous_bytes: 8 << 10 }));
        assert_eq!(parse_status("Name:\tkthreadd\nUid:\t0\t0\t0\t0\n"), None);
    }

    #[test]
    fn errors_are_told_apart_and_are_one_line() {
        let error = |code: rustix::io::Errno| io::Error::from_raw_os_error(code.raw_os_error());
        use rustix::io::Errno;
        let refused = judge(7, error(Errno::ACCESS), true);
        assert!(matches!(refused, ProcessError::Refused { .. }));
        assert!(refused.to_string().starts_with("process 7 may not be read: Permission denied"));
        assert!(matches!(judge(7, error(Errno::PERM), true), ProcessError::Refused { .. }));
        assert!(matches!(judge(7, error(Errno::SRCH), true), ProcessError::Nothing { pid: 7 }));
        assert!(matches!(judge(7, error(Errno::SRCH), false), ProcessError::NotFound { pid: 7 }));
        assert!(matches!(judge(7, error(Errno::NOENT), false), ProcessError::NotFound { pid: 7 }));
        assert_eq!(ProcessError::NotFound { pid: 7 }.to_string(), "there is no process 7");
    }
}
