//! Finds the blocks to analyze, and describes them.

use std::num::NonZeroUsize;

use workload::{
    DEFAULT_SAMPLE_BYTES, Isolated, Pages, ProcessSample, SampledProcess, format_bytes, read_files,
    sample_own_uid, sample_process,
};

use crate::cli::AnalyzeArgs;
use crate::error::Failure;

/// If the processes hold less than this, they say too little, and a child with data is analyzed
/// instead.
const ENOUGH_BYTES: u64 = 16 << 20;

/// Take this much of files by default, because all of it is kept in memory several times.
const DEFAULT_FILE_BYTES: u64 = 1 << 30;

/// List this many processes one by one.
const NAMED_PROCESSES: usize = 8;

/// The blocks, with their origin.
#[derive(Debug)]
pub(super) struct AnalyzedBlocks {
    pub(super) pages: Pages,
    pub(super) source: BlockOrigin,
}

#[derive(Debug)]
pub(super) enum BlockOrigin {
    Files(usize),
    Process(SampledProcess),
    /// Processes of the caller's user, and the number of those that may not be read.
    Processes(Vec<SampledProcess>, usize),
    /// A child started for this, with the reason.
    Child(String),
}

impl AnalyzedBlocks {
    /// Reads the blocks that the command line asks for, cut to this size.
    pub(super) fn gather(
        args: &AnalyzeArgs,
        block_size: NonZeroUsize,
    ) -> Result<AnalyzedBlocks, Failure> {
        let max_bytes = |default| args.max_mib.map_or(default, |mib| mib << 20);
        let input = if !args.files.is_empty() {
            let pages = read_files(&args.files, block_size, Some(max_bytes(DEFAULT_FILE_BYTES)))?;
            AnalyzedBlocks { pages, source: BlockOrigin::Files(args.files.len()) }
        } else if let Some(pid) = args.pid {
            let sample = sample_process(pid, block_size, max_bytes(DEFAULT_SAMPLE_BYTES))?;
            let process = sample.sources.into_iter().next();
            let process = process.unwrap_or(SampledProcess { pid, name: String::new(), bytes: 0 });
            AnalyzedBlocks { pages: sample.pages, source: BlockOrigin::Process(process) }
        } else {
            AnalyzedBlocks::of_own_processes(block_size, max_bytes(DEFAULT_SAMPLE_BYTES))?
        };
        if input.pages.is_empty() {
            return Err(Failure::new("there is no block to analyze"));
        }
        Ok(input)
    }

    fn of_own_processes(
        block_size: NonZeroUsize,
        max_bytes: u64,
    ) -> Result<AnalyzedBlocks, Failure> {
        let why = match sample_own_uid(block_size, max_bytes) {
            Ok(sample) if readable_bytes(&sample) >= ENOUGH_BYTES.min(max_bytes) => {
                let source = BlockOrigin::Processes(sample.sources, sample.refused);
                return Ok(AnalyzedBlocks { pages: sample.pages, source });
            }
            Ok(sample) => too_little(&sample),
            Err(error) => error.to_string(),
        };
        let child = Isolated::new().arg("hold-files");
        let child = child.arg(block_size.to_string()).arg(max_bytes.to_string());
        Ok(AnalyzedBlocks { pages: child.run_for_pages()?, source: BlockOrigin::Child(why) })
    }

    /// Describes the blocks for people.
    pub(super) fn lines(&self) -> Vec<String> {
        let pages = &self.pages;
        let bytes = format_bytes(pages.bytes().len() as u64);
        let mut first =
            format!("{bytes} in {} blocks of {} bytes, ", pages.len(), pages.block_size());
        let available = pages.available_blocks();
        if available > pages.len() as u64 {
            let all = format_bytes(available.saturating_mul(pages.block_size() as u64));
            first += &format!("chosen evenly among {all} ");
        }
        let mut lines = Vec::new();
        match &self.source {
            BlockOrigin::Files(1) => first += "from a file",
            BlockOrigin::Files(n) => first += &format!("from {n} files"),
            BlockOrigin::Process(process) => {
                first += &format!("from the memory of {}", name(process))
            }
            BlockOrigin::Processes(processes, refused) => {
                first += &format!("from the memory of {} of your processes", processes.len());
                if *refused > 0 {
                    first += &format!(" ({refused} more may not be read)");
                }
                lines = share_lines(processes);
            }
            BlockOrigin::Child(why) => {
                first += "from the memory of a process started for this, \
                          which holds files of this build";
                lines.push(format!("  because {why}"));
            }
        }
        lines.insert(0, first);
        if pages.dropped_bytes() > 0 {
            lines.push(format!(
                "  {} bytes at the ends of files are not a whole block",
                pages.dropped_bytes()
            ));
        }
        lines
    }
}

impl BlockOrigin {
    /// Returns a word for JSON.
    pub(super) fn word(&self) -> &'static str {
        match self {
            BlockOrigin::Files(_) => "files",
            BlockOrigin::Process(_) => "process",
            BlockOrigin::Processes(..) => "processes",
            BlockOrigin::Child(_) => "child",
        }
    }

    /// Returns the processes that were sampled.
    pub(super) fn processes(&self) -> &[SampledProcess] {
        match self {
            BlockOrigin::Process(process) => std::slice::from_ref(process),
            BlockOrigin::Processes(processes, _) => processes,
            BlockOrigin::Files(_) | BlockOrigin::Child(_) => &[],
        }
    }
}

fn readable_bytes(sample: &ProcessSample) -> u64 {
    sample.pages.available_blocks().saturating_mul(sample.pages.block_size() as u64)
}

/// Explains why the processes of the user are not analyzed.
fn too_little(sample: &ProcessSample) -> String {
    let bytes = format_bytes(readable_bytes(sample));
    if sample.refused == 0 {
        return format!("the other processes of your user hold only {bytes} together");
    }
    let scope = std::fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").unwrap_or_default();
    let scope = match scope.trim() {
        "" | "0" => String::new(),
        scope => format!("; kernel.yama.ptrace_scope is {scope}"),
    };
    format!(
        "only {bytes} of your user's processes can be read ({} may not be read{scope})",
        sample.refused
    )
}

fn share_lines(processes: &[SampledProcess]) -> Vec<String> {
    let share = |process: &&SampledProcess| {
        format!("  {:>8}  {}", format_bytes(process.bytes), name(process))
    };
    let mut processes: Vec<&SampledProcess> = processes.iter().collect();
    processes.sort_by_key(|process| std::cmp::Reverse(process.bytes));
    let (named, others) = processes.split_at(processes.len().min(NAMED_PROCESSES));
    let mut lines: Vec<String> = named.iter().map(share).collect();
    if !others.is_empty() {
        let bytes = others.iter().map(|process| process.bytes).sum();
        lines.push(format!("  {:>8}  {} smaller ones", format_bytes(bytes), others.len()));
    }
    lines
}

fn name(process: &SampledProcess) -> String {
    format!("{} (process {})", process.name, process.pid)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(blocks: usize, refused: usize) -> ProcessSample {
        let pages = Pages::from_bytes(NonZeroUsize::new(1024).unwrap(), vec![1; blocks * 1024]);
        ProcessSample { pages, sources: Vec::new(), refused }
    }

    /// The reason names what is missing.
    #[test]
    fn reason_names_what_is_missing() {
        assert!(too_little(&sample(3, 0)).ends_with("hold only 3.00 KiB together"));
        assert!(
            too_little(&sample(3, 2))
                .starts_with("only 3.00 KiB of your user's processes can be read (2 may")
        );
    }

    #[test]
    fn many_processes_are_summed_up() {
        let process = |pid| SampledProcess { pid, name: format!("p{pid}"), bytes: 1024 };
        let lines = share_lines(&(1..=11).map(process).collect::<Vec<_>>());
        assert_eq!(lines.len(), NAMED_PROCESSES + 1);
        assert_eq!(lines[0].trim(), "1.00 KiB  p1 (process 1)");
        assert_eq!(lines[8].trim(), "3.00 KiB  3 smaller ones");
    }
}
