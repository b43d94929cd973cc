//! The kernel's own zswap, as the yardstick for switching. Its compressor is a parameter in sysfs;
//! writing it makes a pool and retires one.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::timing::LatencyHistogram;
use crate::undo::{Undo, Undoable};

const PARAMETERS: &str = "/sys/module/zswap/parameters";

/// zswap's parameters, changed for a measurement. Needs root.
///
/// They are restored when this is dropped, after a panic, and when a signal such as SIGINT,
/// SIGTERM, SIGHUP or SIGQUIT ends the process. While SIGTSTP (Ctrl-Z) stops the process, they are
/// restored as well.
#[derive(Debug)]
pub struct KernelZswap {
    taken: Undoable<TakenParameters>,
    compressors: [&'static str; 2],
}

/// The folder of parameters, and their values before.
#[derive(Debug)]
struct TakenParameters {
    folder: PathBuf,
    before: Parameters,
    /// The values to set again when a stopped process continues. `None` while the process runs.
    paused: Option<Parameters>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Parameters {
    compressor: String,
    enabled: String,
}

/// The reason why the kernel is not measured. It is not a failure, but a sentence for a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped(String);

impl Skipped {
    /// Returns what makes an error of `place` a reason.
    pub(super) fn at(place: &str) -> impl FnOnce(io::Error) -> Skipped + use<'_> {
        move |error| Skipped(format!("{place}: {error}"))
    }
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the kernel is left out: {}", self.0)
    }
}

impl std::error::Error for Skipped {}

/// The result of a run.
#[derive(Debug)]
pub struct KernelSwitches {
    /// Changes of the compressor.
    pub switches: u64,
    /// The time of all of them together.
    pub elapsed: Duration,
    /// The time of each.
    pub latencies: LatencyHistogram,
}

impl KernelZswap {
    /// Takes over zswap's parameters.
    ///
    /// # Errors
    ///
    /// [`Skipped`] if there is no zswap, if its parameters may not be written, or if it lacks two
    /// compressors to switch between.
    pub fn take() -> Result<Self, Skipped> {
        KernelZswap::take_from(Path::new(PARAMETERS))
    }

    /// Takes over parameters in `folder`, for tests, which have a folder of files.
    ///
    /// # Errors
    ///
    /// See [`take`](Self::take).
    pub fn take_from(folder: &Path) -> Result<Self, Skipped> {
        let skip = |error: io::Error| Skipped(format!("{}: {error}", folder.display()));
        let before = Parameters::read(folder).map_err(skip)?;
        let taken = TakenParameters { folder: folder.to_owned(), before, paused: None };
        // Registered before the first change.
        let mut zswap = KernelZswap {
            taken: Undoable::new(taken).map_err(skip)?,
            compressors: ["lzo", "lzo-rle"],
        };
        zswap.set("enabled", "1").map_err(skip)?;
        for pair in [["lzo", "lzo-rle"], ["lzo", "lz4"], ["lz4", "zstd"]] {
            if pair.iter().all(|name| zswap.set("compressor", name).is_ok()) {
                zswap.compressors = pair;
                return Ok(zswap);
            }
        }
        Err(Skipped("zswap has no two compressors to switch between".to_owned()))
    }

    /// Returns the compressors that it switches between.
    pub fn compressors(&self) -> [&'static str; 2] {
        self.compressors
    }

    /// Switches back and forth for `time` with no delay and nothing stored.
    ///
    /// # Errors
    ///
    /// If the kernel refuses a value that it took before.
    pub fn switch_for(&self, time: Duration) -> io::Result<KernelSwitches> {
        let (mut latencies, mut switches, begun) = (LatencyHistogram::default(), 0, Instant::now());
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
        // Under the lock. Once a signal has restored the parameters, this waits for the process to
        // end.
        fs::write(self.taken.lock().folder.join(name), value)
    }
}

impl Parameters {
    fn read(folder: &Path) -> io::Result<Self> {
        let read =
            |name: &str| fs::read_to_string(folder.join(name)).map(|text| text.trim().to_owned());
        Ok(Parameters { compressor: read("compressor")?, enabled: read("enabled")? })
    }

    /// Writes both, even if the first fails. Reports what could not be written on the standard
    /// error.
    fn write(&self, folder: &Path) {
        for (name, value) in [("compressor", &self.compressor), ("enabled", &self.enabled)] {
            let path = folder.join(name);
            if let Err(error) = fs::write(&path, value) {
                eprintln!("cannot restore {}: {error}; write {value:?} to it", path.display());
            }
        }
    }
}

impl Undo for TakenParameters {
    fn undo(&mut self) {
        self.before.write(&self.folder);
    }

    fn pause(&mut self) {
        self.paused = Parameters::read(&self.folder).ok();
        self.undo();
    }

    fn redo(&mut self) {
        if let Some(paused) = self.paused.take() {
            paused.write(&self.folder);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Settings are restored after switching.
    #[test]
    fn switching_restores_settings() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name);
        fs::write(file("compressor"), "zstd\n").unwrap();
        fs::write(file("enabled"), "N\n").unwrap();
        let zswap = KernelZswap::take_from(folder.path()).unwrap();
        let done = zswap.switch_for(Duration::from_millis(1)).unwrap();
        assert!(done.switches >= 2 && done.elapsed >= Duration::from_millis(1));
        assert_eq!(fs::read_to_string(file("compressor")).unwrap(), zswap.compressors()[1]);
        drop(zswap);
        let now =
            [file("compressor"), file("enabled")].map(|path| fs::read_to_string(path).unwrap());
        assert_eq!(now, ["zstd", "N"]);
    }

    /// A machine without zswap is skipped with a message.
    #[test]
    fn missing_zswap_is_skipped() {
        let skipped = KernelZswap::take_from(Path::new("/nonexistent/zswap")).unwrap_err();
        assert!(
            skipped.to_string().starts_with("the kernel is left out: /nonexistent/zswap:"),
            "{skipped}"
        );
    }
}
