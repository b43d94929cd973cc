//! Real memory: blocks of the resident anonymous pages of processes.
//!
//! What is read is what a kernel would compress: private and shared anonymous memory that is in RAM. The process runs on
//! meanwhile: a block may be torn between two of its writes, and a page that goes away between looking and reading is left
//! out. Pages are not faulted in for it, so a sample neither grows the process nor brings its swapped pages back; only where
//! `pagemap` cannot be read (some sandboxes) is private memory read to see whether it is there, and what reads as zero left
//! out. Memory that was read but never written counts as present: it shows as same-filled blocks.
//!
//! Reading needs the right to trace the process: one's own processes on most systems, one's own children where
//! `kernel.yama.ptrace_scope` is 1, root's everywhere.

mod maps;
mod pagemap;
mod process_memory;

use std::fs;
use std::num::NonZeroUsize;

use serde::{Deserialize, Serialize};

use crate::pages::Pages;
use process_memory::ProcessMemory;

pub use process_memory::ProcessError;

/// Bytes that are sampled where nobody asks for another amount: 64 MiB.
pub const DEFAULT_SAMPLE_BYTES: u64 = 64 << 20;

/// Processes a sample is taken from at most, so that each gives enough to be typical of it.
pub const MAX_SAMPLED_PROCESSES: usize = 32;

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

/// Blocks of one process, at most `max_bytes` of them, by [`crate::sample_runs`] when it holds more.
///
/// Blocks larger than a page are taken where all of their pages are present; smaller ones cut pages up.
///
/// # Errors
///
/// When it does not exist, may not be read, or gives no block.
pub fn sample_process(
    pid: u32,
    block_size: NonZeroUsize,
    max_bytes: u64,
) -> Result<Sample, ProcessError> {
    let target = ProcessMemory::open(pid, block_size)?;
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
        match ProcessMemory::open(pid, block_size) {
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
            (status.euid == uid && status.anonymous_bytes > 0)
                .then_some((status.anonymous_bytes, pid))
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
    Some(Status {
        euid,
        anonymous_bytes: kib("RssAnon:").or_else(|| kib("VmRSS:"))?.saturating_mul(1024),
    })
}

/// Reads every target's share.
fn gather(
    targets: Vec<ProcessMemory>,
    block_size: NonZeroUsize,
    max_bytes: u64,
    refused: usize,
) -> Sample {
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
