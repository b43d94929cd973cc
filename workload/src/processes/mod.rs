//! Samples real memory: blocks of the resident anonymous pages of processes.
//!
//! We read what a kernel would compress, which is private and shared anonymous memory in RAM.
//!
//! - The process runs on meanwhile. A block may be torn between two of its writes, and a page that
//!   disappears after we have found it is left out.
//! - We fault no page in. A sample neither grows the process nor brings its swapped pages back.
//! - If `pagemap` cannot be read, as in some sandboxes, we read private memory to find out whether
//!   it is there, and leave out what reads as zero.
//! - Memory that was read but never written counts as present. It shows as same-filled blocks.
//!
//! Reading needs the right to trace the process. Most systems grant it for one's own processes, and
//! only for one's own children if `kernel.yama.ptrace_scope` is 1. Root may read all.

mod maps;
mod pagemap;
mod process_memory;

use std::fs;
use std::num::NonZeroUsize;

use serde::{Deserialize, Serialize};

use crate::pages::Pages;
use process_memory::ProcessMemory;

pub use process_memory::ProcessError;

/// The size of a sample by default: 64 MiB.
pub const DEFAULT_SAMPLE_BYTES: u64 = 64 << 20;

/// The most processes in a sample, so that each of them adds enough to be typical of it.
pub const MAX_SAMPLED_PROCESSES: usize = 32;

/// Blocks of processes, and the list of these processes.
#[derive(Debug)]
pub struct ProcessSample {
    /// The blocks, in the order of `sources` and then of addresses.
    pub pages: Pages,
    /// The processes, largest first. A process without blocks is not listed.
    pub sources: Vec<SampledProcess>,
    /// The number of processes that may not be read.
    pub refused: usize,
}

/// One process of a sample.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SampledProcess {
    /// Its process id.
    pub pid: u32,
    /// Its short name (`comm`); control characters are replaced.
    pub name: String,
    /// The bytes that it adds to the sample.
    pub bytes: u64,
}

/// Samples at most `max_bytes` of one process. If it holds more, [`crate::sample_runs`] chooses.
///
/// A block larger than a page is taken if all of its pages are present. Smaller blocks are parts of
/// a page.
///
/// # Errors
///
/// If the process does not exist, may not be read, or has no block.
pub fn sample_process(
    pid: u32,
    block_size: NonZeroUsize,
    max_bytes: u64,
) -> Result<ProcessSample, ProcessError> {
    let target = ProcessMemory::open(pid, block_size)?;
    let sample = gather(vec![target], block_size, max_bytes, 0);
    if sample.pages.is_empty() { Err(ProcessError::Nothing { pid }) } else { Ok(sample) }
}

/// Samples the processes of the caller's effective user: [`sample_processes`] of
/// [`own_uid_processes`].
///
/// # Errors
///
/// If the list of processes cannot be read. It is not an error if no process may be read: the
/// sample is then empty and has the number of refusals.
pub fn sample_own_uid(
    block_size: NonZeroUsize,
    max_bytes: u64,
) -> Result<ProcessSample, ProcessError> {
    Ok(sample_processes(&own_uid_processes()?, block_size, max_bytes))
}

/// Samples the first [`MAX_SAMPLED_PROCESSES`] of `pids` that may be read and have a block,
/// `max_bytes` in all.
///
/// Each process gets the same share. What a small one leaves is divided among the others.
pub fn sample_processes(pids: &[u32], block_size: NonZeroUsize, max_bytes: u64) -> ProcessSample {
    let mut targets = Vec::new();
    let mut refused = 0;
    for &pid in pids {
        if targets.len() == MAX_SAMPLED_PROCESSES {
            break;
        }
        match ProcessMemory::open(pid, block_size) {
            Ok(target) => targets.push(target),
            Err(ProcessError::Refused { .. }) => refused += 1,
            // It has ended or holds nothing, as if it had never been listed.
            Err(_) => (),
        }
    }
    gather(targets, block_size, max_bytes, refused)
}

/// Lists the processes of the caller's effective user, except for the caller, in the order of
/// resident anonymous memory, most first. Only their status is read. Kernel threads and ended
/// processes have no memory and are left out.
///
/// # Errors
///
/// If `/proc` cannot be listed.
pub fn own_uid_processes() -> Result<Vec<u32>, ProcessError> {
    let (uid, own) = (rustix::process::geteuid().as_raw(), std::process::id());
    let mut found: Vec<(u64, u32)> = fs::read_dir("/proc")
        .map_err(ProcessError::NoProcesses)?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .filter(|&pid| pid != own)
        .filter_map(|pid| {
            let status = parse_status(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?)?;
            (status.euid == uid && status.anonymous_bytes > 0)
                .then_some((status.anonymous_bytes, pid))
        })
        .collect();
    found.sort_unstable_by_key(|&(bytes, pid)| (std::cmp::Reverse(bytes), pid));
    Ok(found.into_iter().map(|(_, pid)| pid).collect())
}

/// The part of `/proc/PID/status` that we use.
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
    Some(Status {
        euid,
        anonymous_bytes: kib("RssAnon:").or_else(|| kib("VmRSS:"))?.saturating_mul(1024),
    })
}

/// Reads the share of every process.
fn gather(
    targets: Vec<ProcessMemory>,
    block_size: NonZeroUsize,
    max_bytes: u64,
    refused: usize,
) -> ProcessSample {
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
    ProcessSample {
        pages: Pages::from_sample(block_size, bytes, available as u64, 0),
        sources,
        refused,
    }
}

/// Divides `limit` fairly. No share exceeds what its process holds, and a process that could use
/// more gets no less than any other.
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Shares are fair, and none exceeds what its process holds.
    #[test]
    fn shares_are_fair() {
        assert_eq!(fair_shares(&[100, 100], 50), [25, 25]);
        assert_eq!(fair_shares(&[1000, 10, 1000], 110), [50, 10, 50]);
        assert_eq!(fair_shares(&[3, 2, 1], 100), [3, 2, 1]);
        assert_eq!(fair_shares(&[5, 5, 5], 10), [3, 3, 4]);
        assert_eq!(fair_shares(&[7, 0], 5), [5, 0]);
        assert_eq!(fair_shares(&[], 5), [0; 0]);
    }

    /// The status of a process is parsed.
    #[test]
    fn status_is_parsed() {
        let text = "Name:\tcat\nUid:\t1000\t1001\t1002\t1003\n\
                    VmRSS:\t    1700 kB\nRssAnon:\t     112 kB\n";
        assert_eq!(parse_status(text), Some(Status { euid: 1001, anonymous_bytes: 112 << 10 }));
        let old = "Uid:\t0\t0\t0\t0\nVmRSS:\t       8 kB\n";
        assert_eq!(parse_status(old), Some(Status { euid: 0, anonymous_bytes: 8 << 10 }));
        assert_eq!(parse_status("Name:\tkthreadd\nUid:\t0\t0\t0\t0\n"), None);
    }
}
