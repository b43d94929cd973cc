//! Reads the memory of one process that is sampled.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::num::NonZeroUsize;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::maps::parse_maps;
use super::pagemap::ResidentBlocks;
use crate::random::sample_runs;

/// Without `pagemap`, read this many times the blocks wanted, because most of them may never have
/// been touched.
const READS_PER_WANTED_BLOCK: usize = 4;

/// The reason why a process gave no blocks. Each message is one line.
#[derive(Debug)]
#[non_exhaustive]
pub enum ProcessError {
    /// There is no such process.
    NotFound {
        /// The number that was asked for.
        pid: u32,
    },
    /// The caller may not read it.
    Refused {
        /// The process.
        pid: u32,
        /// The error of the OS.
        error: io::Error,
    },
    /// It has less than a block of resident anonymous memory: a kernel thread, or a process that
    /// has ended.
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

/// The message already contains the cause, so there is no `source` (`docs/decisions/0039`).
impl std::error::Error for ProcessError {}

/// A process that can be read, with its resident blocks.
pub(crate) struct ProcessMemory {
    pub(crate) pid: u32,
    pub(crate) name: String,
    pub(crate) present: ResidentBlocks,
    mem: File,
}

impl ProcessMemory {
    /// Opens the files that must be open before blocks are chosen.
    ///
    /// # Errors
    ///
    /// If the process does not exist, may not be read, or has no block.
    pub(crate) fn open(pid: u32, block_size: NonZeroUsize) -> Result<Self, ProcessError> {
        let folder = Path::new("/proc").join(pid.to_string());
        let classify = |error| classify_open_error(pid, error, folder.exists());
        let maps = fs::read(folder.join("maps")).map_err(classify)?;
        let mem = File::open(folder.join("mem")).map_err(classify)?;
        let regions = parse_maps(&String::from_utf8_lossy(&maps));
        let size = block_size.get() as u64;
        let present = File::open(folder.join("pagemap"))
            .and_then(|pagemap| ResidentBlocks::from_pagemap(&pagemap, &regions, size))
            .unwrap_or_else(|_| ResidentBlocks::assumed(&regions, size));
        if present.blocks() == 0 {
            return Err(ProcessError::Nothing { pid });
        }
        let name = fs::read(folder.join("comm")).unwrap_or_default();
        let name = String::from_utf8_lossy(name.trim_ascii_end()).replace(char::is_control, "?");
        Ok(Self { pid, name, mem, present })
    }

    /// Appends at most `limit` blocks to `bytes` and returns their number.
    pub(crate) fn read(&self, limit: usize, block_size: usize, bytes: &mut Vec<u8>) -> usize {
        let reads =
            if self.present.known { limit } else { limit.saturating_mul(READS_PER_WANTED_BLOCK) };
        let start = bytes.len();
        for (address, blocks) in self.present.locate(&sample_runs(self.present.blocks(), reads)) {
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
        // We found more than the guess allowed for, so we sample what we have read.
        let mut kept = start;
        for run in sample_runs(found, limit) {
            bytes.copy_within(start + run.start * block_size..start + run.end * block_size, kept);
            kept += run.len() * block_size;
        }
        bytes.truncate(kept);
        (kept - start) / block_size
    }
}

/// Appends `blocks` neighbouring blocks at `address`. Blocks that can no longer be read are left
/// out.
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
            // EIO: the memory was unmapped meanwhile. A process that has ended reads as empty.
            Err(_) => 0,
        };
        bytes.truncate(filled + whole * block_size);
        // The block after the last whole one has stopped the read, so skip it.
        done += whole + 1;
    }
}

/// Removes the blocks from `start` on that are all zero. Without `pagemap`, most of them were never
/// touched.
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

/// Classifies an error of opening a file of `/proc/PID`.
fn classify_open_error(pid: u32, error: io::Error, exists: bool) -> ProcessError {
    match error.kind() {
        _ if !exists => ProcessError::NotFound { pid },
        // A kernel thread, or a process that has ended and was not waited for. It exists but has no
        // memory.
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
    use crate::pages::Pages;
    use crate::processes::maps::MappedRange;

    const PAGE: NonZeroUsize = NonZeroUsize::new(4096).unwrap();

    /// 40 MiB of memory of this process. Some pages of the first 4 MiB were written.
    struct Buffer {
        bytes: Vec<u8>,
        region: MappedRange,
        touched: usize,
    }

    impl Buffer {
        fn new() -> Self {
            // glibc takes more than 32 MiB straight from the OS, untouched, and returns it when it
            // is freed.
            let mut bytes = vec![0_u8; 40 << 20];
            let first = bytes.as_ptr().addr() as u64;
            let start = first.next_multiple_of(rustix::param::page_size() as u64);
            let mut touched = 0;
            for at in ((start - first) as usize..4 << 20).step_by(3 * PAGE.get()) {
                bytes[at..at + PAGE.get()].fill(0xA5);
                touched += 1;
            }
            let end = (first + (39 << 20)) & !(rustix::param::page_size() as u64 - 1);
            Self { bytes, region: MappedRange { span: start..end, shared: false }, touched }
        }

        fn target(&self, present: ResidentBlocks) -> ProcessMemory {
            let mem = File::open("/proc/self/mem").unwrap();
            ProcessMemory { pid: std::process::id(), name: "self".into(), mem, present }
        }

        fn present(&self) -> ResidentBlocks {
            let pagemap = File::open("/proc/self/pagemap").unwrap();
            ResidentBlocks::from_pagemap(
                &pagemap,
                std::slice::from_ref(&self.region),
                PAGE.get() as u64,
            )
            .unwrap()
        }
    }

    fn read(target: &ProcessMemory, limit: usize) -> Pages {
        let mut bytes = Vec::new();
        let found = target.read(limit, PAGE.get(), &mut bytes);
        assert_eq!(bytes.len(), found * PAGE.get());
        Pages::from_bytes(PAGE, bytes)
    }

    fn patterned(pages: &Pages) -> usize {
        pages.iter().filter(|page| page.iter().all(|&byte| byte == 0xA5)).count()
    }

    /// A process that does nothing. It ends with the test, even if the test fails.
    struct Sleeper(Child);

    impl Sleeper {
        fn start() -> Self {
            let mut command = Command::new("sleep");
            command.arg("600").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            Self(command.spawn().unwrap())
        }
    }

    impl Drop for Sleeper {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    /// Present pages are read, and absent ones are not faulted in.
    #[test]
    fn reading_faults_no_page_in() {
        let buffer = Buffer::new();
        let before = buffer.present();
        // Huge pages may have made neighbours present, but nothing in the 36 MiB that were never
        // written.
        assert!((buffer.touched..2048).contains(&before.blocks()), "{}", before.blocks());
        let pages = read(&buffer.target(before.clone()), 16 << 10);
        assert_eq!(pages.len(), before.blocks());
        assert_eq!(patterned(&pages), buffer.touched);
        assert_eq!(buffer.present(), before);
        assert_eq!(buffer.bytes.len(), 40 << 20);
    }

    /// Without a pagemap, pages that were never touched are left out.
    #[test]
    fn untouched_pages_are_left_out() {
        let buffer = Buffer::new();
        let present =
            ResidentBlocks::assumed(std::slice::from_ref(&buffer.region), PAGE.get() as u64);
        let pages = read(&buffer.target(present.clone()), 16 << 10);
        assert_eq!((pages.len(), patterned(&pages)), (buffer.touched, buffer.touched));
        // A limit below what is there holds as well.
        let pages = read(&buffer.target(present), 100);
        assert!((1..=100).contains(&pages.len()) && patterned(&pages) == pages.len(), "{pages:?}");
    }

    /// Pages that are unmapped after they were found are left out.
    #[test]
    fn unmapped_pages_are_left_out() {
        let buffer = Buffer::new();
        let target = buffer.target(buffer.present());
        let touched = buffer.touched;
        // The allocator returns memory of this size to the OS. Memory of another thread may have
        // taken its place, but not all of it.
        drop(buffer);
        let pages = read(&target, 16 << 10);
        assert!(patterned(&pages) < touched);
    }

    /// A process that ends between looking and reading gives nothing.
    #[test]
    fn ended_process_gives_nothing() {
        let sleeper = Sleeper::start();
        let pid = sleeper.0.id();
        // Until `exec` is done, the child is a copy of this process. Right after it, the child
        // holds almost nothing.
        let target = loop {
            match ProcessMemory::open(pid, PAGE) {
                Ok(target) if target.name == "sleep" => break target,
                Ok(_) | Err(ProcessError::Nothing { .. }) => std::thread::yield_now(),
                Err(error) => panic!("{error}"),
            }
        };
        assert!(target.present.known && target.present.blocks() > 0);
        drop(sleeper);
        assert!(read(&target, 16 << 10).is_empty());
    }

    /// Errors of opening a process are told apart, and each is one line.
    #[test]
    fn errors_are_told_apart() {
        let error = |code: rustix::io::Errno| io::Error::from_raw_os_error(code.raw_os_error());
        use rustix::io::Errno;
        let refused = classify_open_error(7, error(Errno::ACCESS), true);
        assert!(matches!(refused, ProcessError::Refused { .. }));
        assert!(refused.to_string().starts_with("process 7 may not be read: Permission denied"));
        assert!(matches!(
            classify_open_error(7, error(Errno::PERM), true),
            ProcessError::Refused { .. }
        ));
        assert!(matches!(
            classify_open_error(7, error(Errno::SRCH), true),
            ProcessError::Nothing { pid: 7 }
        ));
        assert!(matches!(
            classify_open_error(7, error(Errno::SRCH), false),
            ProcessError::NotFound { pid: 7 }
        ));
        assert!(matches!(
            classify_open_error(7, error(Errno::NOENT), false),
            ProcessError::NotFound { pid: 7 }
        ));
        assert_eq!(ProcessError::NotFound { pid: 7 }.to_string(), "there is no process 7");
    }
}
