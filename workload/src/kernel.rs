//! The kernel's own zswap, as the yardstick for switching: its compressor is a parameter in sysfs, and writing it makes a pool and retires one.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::Latencies;

const PARAMETERS: &str = "/sys/module/zswap/parameters";

/// zswap's parameters, changed for a measurement and restored when this is dropped. Needs root.
#[derive(Debug)]
pub struct KernelZswap {
    folder: PathBuf,
    compressor: String,
    enabled: String,
    compressors: [&'static str; 2],
}

/// Why the kernel is not measured: a sentence for a message, not a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped(String);

impl Skipped {
    pub(crate) fn because(why: String) -> Skipped {
        Skipped(why)
    }
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the kernel is left out: {}", self.0)
    }
}

impl std::error::Error for Skipped {}

/// What the kernel did.
#[derive(Debug)]
pub struct KernelSwitches {
    /// Changes of the compressor.
    pub switches: u64,
    /// The time they took together.
    pub elapsed: Duration,
    /// Of each.
    pub latencies: Latencies,
}

impl KernelZswap {
    /// Takes over zswap's parameters.
    ///
    /// # Errors
    ///
    /// [`Skipped`] where there is no zswap, its parameters may not be written, or it lacks two compressors to switch between.
    pub fn take() -> Result<Self, Skipped> {
        KernelZswap::take_from(Path::new(PARAMETERS))
    }

    fn take_from(folder: &Path) -> Result<Self, Skipped> {
        let skip = |error: io::Error| Skipped(format!("{}: {error}", folder.display()));
        let read = |name: &str| fs::read_to_string(folder.join(name)).map(|text| text.trim().to_owned());
        let (compressor, enabled) = (read("compressor").map_err(skip)?, read("enabled").map_err(skip)?);
        let mut taken =
            KernelZswap { folder: folder.to_owned(), compressor, enabled, compressors: ["lzo", "lzo-rle"] };
        taken.set("enabled", "1").map_err(skip)?;
        for pair in [["lzo", "lzo-rle"], ["lzo", "lz4"], ["lz4", "zstd"]] {
            if pair.iter().all(|name| taken.set("compressor", name).is_ok()) {
                taken.compressors = pair;
                return Ok(taken);
            }
        }
        Err(Skipped("zswap has no two compressors to switch between".to_owned()))
    }

    /// The compressors that it switches between.
    pub fn compressors(&self) -> [&'static str; 2] {
        self.compressors
    }

    /// Switches back and forth with no delay for `time`, with nothing stored.
    ///
    /// # Errors
    ///
    /// When the kernel refuses a value that it took before.
    pub fn switch_for(&self, time: Duration) -> io::Result<KernelSwitches> {
        let (mut latencies, mut switches, begun) = (Latencies::default(), 0, Instant::now());
        while begun.elapsed() < time {
            for name in self.compressors {
                let start = Instant::now();
                self.set("compressor", name)?;
                latencies.record(start.elapsed().as_nanos() as u64);
                switches += 1;
            }
        }
        Ok(KernelSwitches { switches, elapsed: begun.elapsed(), latencies })
    }

    fn set(&self, name: &str, value: &str) -> io::Result<()> {
        fs::write(self.folder.join(name), value)
    }
}

impl Drop for KernelZswap {
    fn drop(&mut self) {
        // A value that came from there goes back there; if that fails there is nobody to tell.
        let _ = self.set("compressor", &self.compressor);
        let _ = self.set("enabled", &self.enabled);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_restored_after_switching() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name);
        fs::write(file("compressor"), "zstd\n").unwrap();
        fs::write(file("enabled"), "N\n").unwrap();
        let zswap = KernelZswap::take_from(folder.path()).unwrap();
        let done = zswap.switch_for(Duration::from_millis(1)).unwrap();
        assert!(done.switches >= 2 && done.elapsed >= Duration::from_millis(1));
        assert_eq!(fs::read_to_string(file("compressor")).unwrap(), zswap.compressors()[1]);
        drop(zswap);
        let now = [file("compressor"), file("enabled")].map(|path| fs::read_to_string(path).unwrap());
        assert_eq!(now, ["zstd", "N"]);
    }

    #[test]
    fn a_machine_without_zswap_is_skipped_with_a_message() {
        let skipped = KernelZswap::take_from(Path::new("/nonexistent/zswap")).unwrap_err();
        assert!(skipped.to_string().starts_with("the kernel is left out: /nonexistent/zswap:"), "{skipped}");
    }
}
