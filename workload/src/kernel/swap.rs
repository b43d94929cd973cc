//! The kernel's swap to a zram device of our own, for processes in a memory cgroup of our own: the
//! yardstick for memory that is larger than its limit.
//!
//! ```text
//!   zram device ─► mkswap, swapon ─► memory cgroup ◄─ a child enters, limits itself
//!   undone in the opposite order: processes leave, rmdir ─► swapoff ─► reset, hot_remove
//! ```

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use super::zram::KernelZram;
use super::zswap::Skipped;
use crate::undo::{Undo, Undoable};

/// Folders in which a memory cgroup can be made: cgroup v1, and v2.
const PARENTS: [&str; 2] = ["/sys/fs/cgroup/memory", "/sys/fs/cgroup"];

/// Swap to a zram device, and a memory cgroup for processes that use it. Needs root.
///
/// All of it is removed when this is dropped, after a panic, and when a signal ends the process.
#[derive(Debug)]
pub struct KernelSwap {
    // In the order in which they are undone.
    group: Undoable<MadeGroup>,
    _active: Undoable<ActiveSwap>,
    zram: KernelZram,
}

/// A memory cgroup: what its processes use is limited together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryCgroup {
    folder: PathBuf,
}

impl KernelSwap {
    /// Adds a device of `bytes`, a multiple of a page, that compresses with `algorithm`, swaps to
    /// it, and makes a memory cgroup.
    ///
    /// # Errors
    ///
    /// [`Skipped`] if there is no zram, no `mkswap` or no memory cgroup, or if this is not allowed.
    pub fn add(algorithm: &str, bytes: usize) -> Result<Self, Skipped> {
        let zram = KernelZram::add_unopened(algorithm, bytes)?;
        let node = format!("/dev/zram{}", zram.number());
        run("mkswap", &node).map_err(Skipped::at("mkswap"))?;
        let active = Undoable::new(ActiveSwap { node: None }).map_err(Skipped::at("swapon"))?;
        {
            // Under the lock, so that a signal finds either no swap or one that is known.
            let mut active = active.lock();
            run("swapon", &node).map_err(Skipped::at("swapon"))?;
            active.node = Some(node);
        }
        let group =
            Undoable::new(MadeGroup { group: None }).map_err(Skipped::at("memory cgroup"))?;
        let made = group.lock().make();
        made.map_err(Skipped::at("memory cgroup"))?;
        Ok(KernelSwap { group, _active: active, zram })
    }

    /// Returns the memory cgroup.
    ///
    /// # Panics
    ///
    /// If it was undone by a signal, which ends the process anyway.
    pub fn group(&self) -> MemoryCgroup {
        self.group.lock().group.clone().expect("the group is made with the swap")
    }

    /// Returns the compressed bytes of the device's data, and the bytes that it holds for them.
    ///
    /// # Errors
    ///
    /// If its statistics cannot be read.
    pub fn sizes(&self) -> io::Result<(u64, u64)> {
        self.zram.sizes()
    }
}

impl MemoryCgroup {
    /// Returns the group of `folder`.
    pub fn at(folder: impl Into<PathBuf>) -> MemoryCgroup {
        MemoryCgroup { folder: folder.into() }
    }

    /// Returns the folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Moves this process into the group. What it uses from now on counts there.
    ///
    /// # Errors
    ///
    /// If that is not allowed.
    pub fn enter(&self) -> io::Result<()> {
        fs::write(self.folder.join("cgroup.procs"), std::process::id().to_string())
    }

    /// Returns the resident anonymous bytes of the group.
    ///
    /// # Errors
    ///
    /// If its statistics cannot be read.
    pub fn anonymous_bytes(&self) -> io::Result<u64> {
        let text = fs::read_to_string(self.folder.join("memory.stat"))?;
        let value =
            |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.parse().ok());
        // Version 1 calls it rss.
        value("rss ").or_else(|| value("anon ")).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// Limits what the processes of the group use together. Makes the kernel reclaim at once.
    ///
    /// # Errors
    ///
    /// If the kernel cannot reclaim as much.
    pub fn set_limit(&self, bytes: u64) -> io::Result<()> {
        let file = ["memory.max", "memory.limit_in_bytes"].map(|name| self.folder.join(name));
        let [v2, v1] = &file;
        fs::write(if v2.exists() { v2 } else { v1 }, bytes.to_string())
    }
}

/// A swap device that is in use, or none yet.
#[derive(Debug)]
struct ActiveSwap {
    node: Option<String>,
}

impl Undo for ActiveSwap {
    fn undo(&mut self) {
        if let Some(node) = self.node.take()
            && let Err(error) = run("swapoff", &node)
        {
            eprintln!("cannot stop swapping to {node}: {error}; run swapoff {node}");
        }
    }
}

/// A memory cgroup that was made, or none yet.
#[derive(Debug)]
struct MadeGroup {
    group: Option<MemoryCgroup>,
}

impl MadeGroup {
    fn make(&mut self) -> io::Result<()> {
        let mut last = io::ErrorKind::NotFound.into();
        for parent in PARENTS.map(Path::new) {
            let folder = parent.join(format!("workload-{}", std::process::id()));
            match fs::create_dir(&folder) {
                // A group without the memory controller cannot be limited.
                Ok(()) if folder.join("memory.stat").exists() => {
                    self.group = Some(MemoryCgroup { folder });
                    return Ok(());
                }
                Ok(()) => drop(fs::remove_dir(&folder)),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

impl Undo for MadeGroup {
    fn undo(&mut self) {
        let Some(MemoryCgroup { folder }) = self.group.take() else { return };
        let parent = folder.parent().unwrap_or(Path::new("/sys/fs/cgroup"));
        // A process that is still in the group moves to its parent.
        for _ in 0..50 {
            let processes = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
            for process in processes.lines() {
                let _ = fs::write(parent.join("cgroup.procs"), process);
            }
            if fs::remove_dir(&folder).is_ok() {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
        eprintln!("cannot remove {0}: run rmdir {0}", folder.display());
    }
}

/// Runs a command of the system on a device.
fn run(command: &str, node: &str) -> io::Result<()> {
    let output =
        Command::new(command).arg(node).stdin(Stdio::null()).stdout(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Statistics of both versions are understood.
    #[test]
    fn group_statistics_of_both_versions() {
        let folder = tempfile::tempdir().unwrap();
        let group = MemoryCgroup::at(folder.path());
        assert!(group.anonymous_bytes().is_err());
        for text in ["cache 7\nrss 4096\n", "anon 4096\nfile 7\n"] {
            fs::write(folder.path().join("memory.stat"), text).unwrap();
            assert_eq!(group.anonymous_bytes().unwrap(), 4096);
        }
        group.set_limit(77).unwrap();
        assert_eq!(fs::read_to_string(folder.path().join("memory.limit_in_bytes")).unwrap(), "77");
    }

    /// Everything is removed again. Without zram and root, this only reports that it was skipped.
    #[test]
    fn swap_is_removed_again() {
        let swap = match KernelSwap::add("lzo-rle", 1 << 20) {
            Ok(swap) => swap,
            Err(skipped) => return eprintln!("{skipped}"),
        };
        let folder = swap.group().folder().to_owned();
        assert!(folder.exists());
        let swaps = || fs::read_to_string("/proc/swaps").unwrap();
        let node = format!("/dev/zram{} ", swap.zram.number());
        assert!(swaps().contains(&node));
        drop(swap);
        assert!(!folder.exists());
        assert!(!swaps().contains(&node));
    }
}
