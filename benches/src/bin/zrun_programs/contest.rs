//! Runs a program in each of the ways, and compares time, memory and output.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use benches::Failure;
use serde::Deserialize;
use workload::KernelSwap;
use zrun::Launch;

use crate::programs::Workload;

/// Bytes of the kernel's swap device.
const SWAP: usize = 1 << 30;

/// Time between two samples of a program's memory.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(5);

/// Enters the memory cgroup of its first argument, and becomes the program that the others name.
const ENTER: &str = "echo $$ > \"$0/cgroup.procs\" && exec \"$@\"";

/// The folder and the swap device that all runs share.
#[derive(Debug)]
pub(crate) struct Contest {
    folder: PathBuf,
    swap: Option<KernelSwap>,
}

/// The figures of all rounds of a program. A contestant that cannot run has none.
#[derive(Debug, Default)]
pub(crate) struct Rounds {
    pub(crate) time_over_plain: Vec<f64>,
    pub(crate) time_over_zram: Vec<f64>,
    pub(crate) use_over_limit: Vec<f64>,
    pub(crate) peak_over_limit: Vec<f64>,
    pub(crate) same_output: Vec<f64>,
    pub(crate) time_over_memopro: Vec<f64>,
    pub(crate) memopro_peak_over_limit: Vec<f64>,
}

/// One run of a program.
#[derive(Debug)]
struct Run {
    seconds: f64,
    output: Vec<u8>,
    /// The most bytes in RAM, by the last look before the end.
    peak: usize,
}

/// The parts of zrun's report that this program needs.
#[derive(Debug, Deserialize)]
struct ZrunReport {
    peak_resident_bytes: usize,
    store_peak_bytes: usize,
    pages_put_away: u64,
}

impl Contest {
    /// Makes the folder and, as root, the swap device. Both are removed when this is dropped.
    pub(crate) fn prepare() -> Result<Contest, Failure> {
        let folder = std::env::temp_dir().join(format!("zrun-bench-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        let swap = KernelSwap::add("lz4", SWAP);
        let swap = swap.inspect_err(|skipped| eprintln!("{skipped}")).ok();
        Ok(Contest { folder, swap })
    }

    /// Returns the folder for files.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Runs each contestant once.
    pub(crate) fn measure(&self, workload: &Workload, rounds: &mut Rounds) -> Result<(), Failure> {
        let plain = self.run(Command::new(&workload.program).args(&workload.arguments))?;
        let report = self.folder.join("report.json");
        let launch = Launch::new(workload.limit).report(&report).checked()?;
        let zrun = self.run(&mut launch.command(&workload.program, &workload.arguments)?)?;
        let figures: ZrunReport = serde_json::from_str(
            fs::read_to_string(&report)?.lines().next().ok_or("zrun reported nothing")?,
        )?;
        fs::remove_file(&report)?;
        let over_limit = |bytes: usize| bytes as f64 / workload.limit as f64;
        rounds.time_over_plain.push(zrun.seconds / plain.seconds);
        rounds.use_over_limit.push(over_limit(plain.peak));
        rounds.peak_over_limit.push(over_limit(figures.peak_resident_bytes));
        let mut same = zrun.output == plain.output && figures.pages_put_away > 0;
        let resident = figures.peak_resident_bytes.saturating_sub(figures.store_peak_bytes);
        // A limit of a memory cgroup is hard: if the kernel cannot reclaim fast enough, it kills.
        // Then it gets the whole limit, with its compressed pages on top.
        let zram = self.swap.as_ref().and_then(|swap| {
            [resident, workload.limit].into_iter().find_map(|bytes| {
                let run = self.run_in_swap(swap, workload, bytes);
                run.inspect_err(|error| eprintln!("  zram swap at {bytes} bytes: {error}")).ok()
            })
        });
        if let Some(zram) = &zram {
            rounds.time_over_zram.push(zrun.seconds / zram.seconds);
            same &= zram.output == plain.output;
        }
        rounds.same_output.push(f64::from(u8::from(same)));
        eprintln!(
            "  plain {:.2} s at {} MiB, zrun {:.2} s, zram {:.2} s at {} MiB; {figures:?}",
            plain.seconds,
            plain.peak >> 20,
            zrun.seconds,
            zram.map_or(f64::NAN, |run| run.seconds),
            resident >> 20,
        );
        self.measure_memopro(workload, &zrun, rounds);
        Ok(())
    }

    /// Runs a script by memopro's own command, if Python can import it.
    fn measure_memopro(&self, workload: &Workload, zrun: &Run, rounds: &mut Rounds) {
        let Some(script) = &workload.script else { return };
        let mut command = Command::new(&workload.program);
        command.args(["-m", "memopro", "run", "--budget"]);
        match self.run(command.arg(workload.limit.to_string()).arg(script)) {
            Ok(memopro) => {
                rounds.time_over_memopro.push(zrun.seconds / memopro.seconds);
                let over = memopro.peak as f64 / workload.limit as f64;
                rounds.memopro_peak_over_limit.push(over);
                eprintln!("  memopro {:.2} s", memopro.seconds);
            }
            Err(error) => eprintln!("  skipped: memopro, which pip can install: {error}"),
        }
    }

    fn run_in_swap(
        &self,
        swap: &KernelSwap,
        workload: &Workload,
        resident: usize,
    ) -> Result<Run, Failure> {
        let group = swap.group();
        group.set_limit(resident as u64)?;
        let mut command = Command::new("sh");
        command.args(["-c", ENTER]).arg(group.folder());
        self.run(command.arg(&workload.program).args(&workload.arguments))
    }

    fn run(&self, command: &mut Command) -> Result<Run, Failure> {
        let path = self.folder.join("output");
        command.env("LC_ALL", "C").stdin(Stdio::null()).stdout(File::create(&path)?);
        let start = Instant::now();
        let mut child = command.spawn()?;
        let mut peak = 0;
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            peak = peak_resident_bytes(child.id()).max(peak);
            thread::sleep(SAMPLE_INTERVAL);
        };
        let seconds = start.elapsed().as_secs_f64();
        if !status.success() {
            return Err(format!("{:?} ended with {status}", command.get_program()).into());
        }
        Ok(Run { seconds, output: fs::read(&path)?, peak })
    }
}

impl Drop for Contest {
    fn drop(&mut self) {
        // Temporary files: if they stay, nothing breaks.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Returns the most bytes of a running process that were in RAM, or 0 if it has ended.
fn peak_resident_bytes(process: u32) -> usize {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<usize>().ok());
    number.map_or(0, |kib| kib << 10)
}
