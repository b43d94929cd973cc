//! Runs a program in each of the ways, and compares time, memory and output.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use benches::Failure;
use serde::Deserialize;
use workload::KernelSwap;
use zrun::Launch;

use crate::programs::Workload;

/// Bytes of the kernel's swap device.
const SWAP: usize = 1 << 30;

/// Enters the memory group of its first argument, and becomes the program that the others name.
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
}

/// The parts of zrun's report that this program needs.
#[derive(Debug, Deserialize)]
struct ZrunReport {
    peak_mapped_bytes: usize,
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

    /// The folder for files.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Runs each contestant once.
    pub(crate) fn measure(&self, workload: &Workload, rounds: &mut Rounds) -> Result<(), Failure> {
        let plain = run(Command::new(&workload.program).args(&workload.arguments))?;
        let report = self.folder.join("report.json");
        let launch = Launch::new(workload.limit).report(&report).checked()?;
        let zrun = run(&mut launch.command(&workload.program, &workload.arguments)?)?;
        let figures: ZrunReport = serde_json::from_str(
            fs::read_to_string(&report)?.lines().next().ok_or("zrun reported nothing")?,
        )?;
        fs::remove_file(&report)?;
        let over_limit = |bytes: usize| bytes as f64 / workload.limit as f64;
        rounds.time_over_plain.push(zrun.seconds / plain.seconds);
        rounds.use_over_limit.push(over_limit(figures.peak_mapped_bytes));
        rounds.peak_over_limit.push(over_limit(figures.peak_resident_bytes));
        let mut same = zrun.output == plain.output && figures.pages_put_away > 0;
        let resident = figures.peak_resident_bytes.saturating_sub(figures.store_peak_bytes);
        let zram = self.swap.as_ref().map(|swap| run_in_swap(swap, workload, resident));
        // A limit of a memory group is hard: if the kernel cannot reclaim fast enough, it kills.
        let zram = zram.and_then(|run| {
            run.inspect_err(|error| eprintln!("  the kernel's side of this round: {error}")).ok()
        });
        if let Some(zram) = &zram {
            rounds.time_over_zram.push(zrun.seconds / zram.seconds);
            same &= zram.output == plain.output;
        }
        rounds.same_output.push(f64::from(u8::from(same)));
        eprintln!(
            "  plain {:.2} s, zrun {:.2} s, zram {:.2} s at {} MiB; {figures:?}",
            plain.seconds,
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
        let report = self.folder.join("memopro.txt");
        // The report goes to the standard error; the peak is that of the child, by the shell.
        let mut command = Command::new(&workload.program);
        command.args(["-m", "memopro", "run", "--budget"]);
        command.arg(format!("{}", workload.limit)).arg("--report-json").arg(&report).arg(script);
        match run(&mut command) {
            Ok(memopro) => {
                rounds.time_over_memopro.push(zrun.seconds / memopro.seconds);
                let text = fs::read_to_string(&report).unwrap_or_default();
                if let Some(peak) = memopro_peak_mib(&text) {
                    let limit = workload.limit as f64 / f64::from(1 << 20);
                    rounds.memopro_peak_over_limit.push(peak / limit);
                }
                eprintln!("  memopro {:.2} s", memopro.seconds);
            }
            Err(error) => eprintln!("  skipped: memopro, which pip can install: {error}"),
        }
    }
}

impl Drop for Contest {
    fn drop(&mut self) {
        // Files of this program in the system's folder for such.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The peak in MiB that memopro reports: `peak 227.98 MiB against 91.55 MiB`.
fn memopro_peak_mib(report: &str) -> Option<f64> {
    let (_, behind) = report.split_once("peak ")?;
    let (number, _) = behind.split_once(" MiB")?;
    number.parse().ok()
}

fn run_in_swap(swap: &KernelSwap, workload: &Workload, resident: usize) -> Result<Run, Failure> {
    let group = swap.group();
    group.set_limit(resident as u64)?;
    let mut command = Command::new("sh");
    command.args(["-c", ENTER]).arg(group.folder());
    run(command.arg(&workload.program).args(&workload.arguments))
}

fn run(command: &mut Command) -> Result<Run, Failure> {
    let start = Instant::now();
    let output =
        command.env("LC_ALL", "C").stderr(Stdio::inherit()).stdin(Stdio::null()).output()?;
    let seconds = start.elapsed().as_secs_f64();
    if !output.status.success() {
        return Err(format!("{:?} ended with {}", command.get_program(), output.status).into());
    }
    Ok(Run { seconds, output: output.stdout })
}
