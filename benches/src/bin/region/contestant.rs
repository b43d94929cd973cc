//! One contestant with one kind of work, in a process of its own.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::hint::black_box;
use std::io;
use std::time::Instant;

use benches::Failure;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde::{Deserialize, Serialize};
use workload::{MemoryCgroup, Pages, Rng, Zipf, clocked_process, print_result, refuse_huge_pages};
use zpool_region::{Region, RegionControl};

use crate::PAGE;

/// Accesses that are measured, with either kind of work.
const ACCESSES: usize = 80_000;

/// Accesses between two samples of a region's figures, in the part that is not measured.
const SAMPLE_INTERVAL: usize = 256;

/// Bytes that the kernel's group may hold beyond the memory and what was there before.
const SLACK: u64 = 1 << 20;

/// The bytes of a page that are written: at its end, where pages of files have data.
const COUNTER: usize = 4088;

/// A measurement for a child process.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Task {
    /// `signal`, `thread` or `zram`.
    pub(crate) contestant: String,
    /// `zipf` or `scan`.
    pub(crate) work: String,
    pub(crate) spec: String,
    /// Whether the process uses one processor.
    pub(crate) bound: bool,
    /// Bytes that should be resident.
    pub(crate) resident: usize,
    /// The folder of the kernel's memory cgroup.
    pub(crate) group: Option<String>,
}

/// The measurements of a child.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Measured {
    pub(crate) faults: u64,
    pub(crate) p50_ns: f64,
    pub(crate) p99_ns: f64,
    pub(crate) cpu_ns: f64,
    /// Bytes that were resident at the end.
    pub(crate) resident: usize,
    pub(crate) over_limit_bytes: usize,
    pub(crate) bytes_per_unit: f64,
    pub(crate) wrong_pages: usize,
}

/// An access: the page, and whether it is written.
type Access = (u32, bool);

/// Measures in this process and answers.
pub(crate) fn measure_here(task: &[String]) -> Result<(), Failure> {
    let task: Task = serde_json::from_str(task.first().ok_or("a child has a task")?)?;
    if task.bound {
        use_one_processor()?;
    }
    let measured = match &task.group {
        Some(folder) => measure_swap(&task, &MemoryCgroup::at(folder))?,
        None => measure_region(&task)?,
    };
    Ok(print_result(&measured)?)
}

/// Binds this thread, and those that it starts, to the last of its processors. The first one tends
/// to serve the system's interrupts.
fn use_one_processor() -> io::Result<()> {
    let allowed = sched_getaffinity(None)?;
    let last = (0..CpuSet::MAX_CPU).rev().find(|&number| allowed.is_set(number));
    let mut only = CpuSet::new();
    only.set(last.ok_or_else(|| io::Error::other("no processor is allowed"))?);
    Ok(sched_setaffinity(None, &only)?)
}

fn measure_region(task: &Task) -> Result<Measured, Failure> {
    let pages = Pages::read_from(io::stdin().lock())?;
    let units = pages.len();
    // While it is filled, no more is resident than should be later, so that the tables of slots are
    // not larger.
    let builder = Region::builder()
        .len(units * PAGE.get())
        .limit_bytes(task.resident)
        .spec(task.spec.parse()?);
    let mut region = with_mode(builder, &task.contestant).build()?;
    let control = region.control();
    let mut run = Run::new(&mut region, pages, &task.work);
    // The limit is of resident pages and the store together, and what the store holds depends on
    // what is put away. A few steps find the limit at which enough is resident.
    let find_limit = || {
        for _ in 0..8 {
            let Some(stats) = control.stats() else { return };
            control.set_limit(task.resident + stats.store_bytes);
        }
    };
    find_limit();
    let mut over = 0;
    for accesses in run.warm_up.clone().chunks(SAMPLE_INTERVAL) {
        accesses.iter().for_each(|&access| run.access(access));
        over = over.max(over_limit(&control));
    }
    find_limit();
    let faults = || control.stats().map_or(0, |stats| stats.faults);
    let before = faults();
    let (cpu_ns, latencies) = run.measure();
    let faults = faults() - before;
    let stats = control.stats().ok_or("the region is there")?;
    Ok(Measured {
        faults,
        p50_ns: of_slowest(&latencies, faults, 0.50),
        p99_ns: of_slowest(&latencies, faults, 0.99),
        cpu_ns,
        resident: stats.resident_bytes,
        over_limit_bytes: over,
        bytes_per_unit: stats.table_bytes as f64 / units as f64,
        wrong_pages: run.wrong_pages(),
    })
}

/// Chooses signal mode for the contestant `signal`.
#[expect(unsafe_code, reason = "signal mode is unsafe to choose")]
fn with_mode(builder: zpool_region::RegionBuilder, mode: &str) -> zpool_region::RegionBuilder {
    if mode != "signal" {
        return builder;
    }
    // SAFETY: (1) no signal is blocked, and no other handler is installed; (2) this is the main
    // thread, with 8 MiB of stack; (3) the heap is std's, and there is no other signal handler; (4)
    // there are no plug-ins of our own.
    unsafe { builder.fault_in_signal_handler() }
}

fn over_limit(control: &RegionControl) -> usize {
    control.stats().map_or(0, |stats| stats.over_limit_bytes)
}

fn measure_swap(task: &Task, group: &MemoryCgroup) -> Result<Measured, Failure> {
    refuse_huge_pages();
    group.enter()?;
    let pages = Pages::read_from(io::stdin().lock())?;
    let mut memory = vec![0; pages.len() * PAGE.get()];
    let len = memory.len() as u64;
    let mut run = Run::new(&mut memory, pages, &task.work);
    let besides = group.anonymous_bytes()?.saturating_sub(len);
    group.set_limit(besides + task.resident as u64 + SLACK)?;
    run.warm_up.clone().into_iter().for_each(|access| run.access(access));
    let before = kernel_faults()?;
    let (cpu_ns, latencies) = run.measure();
    let faults = kernel_faults()? - before;
    let resident = group.anonymous_bytes()?.saturating_sub(besides) as usize;
    // Verified without a limit, which would only take time.
    group.set_limit(1 << 40)?;
    Ok(Measured {
        faults,
        p50_ns: of_slowest(&latencies, faults, 0.50),
        p99_ns: of_slowest(&latencies, faults, 0.99),
        cpu_ns,
        resident,
        over_limit_bytes: 0,
        bytes_per_unit: 0.0,
        wrong_pages: run.wrong_pages(),
    })
}

/// The memory under test, its accesses, and what its pages should contain.
struct Run<'a> {
    memory: &'a mut [u8],
    warm_up: Vec<Access>,
    measured: Vec<Access>,
    /// Written before the measurement, so that its own pages do not fault in it.
    latencies: Vec<u32>,
    hashes: Vec<u64>,
    counters: Vec<u32>,
}

impl<'a> Run<'a> {
    fn new(memory: &'a mut [u8], pages: Pages, work: &str) -> Run<'a> {
        let mut hashes = Vec::with_capacity(pages.len());
        for (page, from) in memory.chunks_exact_mut(PAGE.get()).zip(&pages) {
            page.copy_from_slice(from);
            page[COUNTER..COUNTER + 4].fill(0);
            hashes.push(hash(page));
        }
        let count = pages.len();
        let mut rng = Rng::new(42);
        let mut order: Vec<u32> = (0..count as u32).collect();
        rng.shuffle(&mut order);
        let zipf = Zipf::new(count);
        let mut next = 0;
        let mut accesses = |accesses: usize| -> Vec<Access> {
            let mut access = || {
                next += 1;
                let page = match work {
                    "zipf" => order[zipf.sample(&mut rng)],
                    _ => (next % count) as u32,
                };
                (page, rng.chance(0.1))
            };
            (0..accesses).map(|_| access()).collect()
        };
        let warm_up = accesses(if work == "zipf" { ACCESSES / 2 } else { count });
        let measured = accesses(ACCESSES);
        let latencies = vec![1; ACCESSES];
        Run { memory, warm_up, measured, latencies, hashes, counters: vec![0; count] }
    }

    #[inline]
    fn access(&mut self, (page, write): Access) {
        let page = page as usize;
        let at = page * PAGE.get() + COUNTER;
        let bytes = &mut self.memory[at..at + 4];
        if write {
            self.counters[page] += 1;
            bytes.copy_from_slice(&self.counters[page].to_ne_bytes());
        } else {
            black_box(bytes[0]);
        }
    }

    /// Makes the accesses. Returns the CPU time of the process and the latencies in nanoseconds.
    fn measure(&mut self) -> (f64, Vec<u32>) {
        let accesses = std::mem::take(&mut self.measured);
        let mut latencies = std::mem::take(&mut self.latencies);
        let (elapsed, ()) = clocked_process(|| {
            for (access, latency) in accesses.iter().zip(&mut latencies) {
                let start = Instant::now();
                self.access(*access);
                *latency = u32::try_from(start.elapsed().as_nanos()).unwrap_or(u32::MAX);
            }
        });
        (elapsed.cpu.as_nanos() as f64, latencies)
    }

    fn wrong_pages(&mut self) -> usize {
        let mut wrong = 0;
        let mut copy = vec![0; PAGE.get()];
        let pages = self.memory.chunks_exact(PAGE.get());
        for ((page, expected), counter) in pages.zip(&self.hashes).zip(&self.counters) {
            copy.copy_from_slice(page);
            let counted = copy[COUNTER..COUNTER + 4] == counter.to_ne_bytes();
            copy[COUNTER..COUNTER + 4].fill(0);
            wrong += usize::from(!counted || hash(&copy) != *expected);
        }
        wrong
    }
}

fn hash(page: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    page.hash(&mut hasher);
    hasher.finish()
}

/// Returns a percentile of the slowest `count` latencies, which are those of the faults.
fn of_slowest(latencies: &[u32], count: u64, percentile: f64) -> f64 {
    let mut sorted = latencies.to_vec();
    sorted.sort_unstable();
    let count = usize::try_from(count).unwrap_or(usize::MAX).clamp(1, sorted.len());
    let slowest = &sorted[sorted.len() - count..];
    f64::from(slowest[((count - 1) as f64 * percentile) as usize])
}

/// Returns the faults of this process so far, major and minor.
fn kernel_faults() -> Result<u64, Failure> {
    let text = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> =
        text.rsplit_once(')').ok_or("a name in brackets")?.1.split_whitespace().collect();
    let field = |at: usize| -> Result<u64, Failure> {
        Ok(fields.get(at).ok_or("a field of stat is missing")?.parse::<u64>()?)
    };
    let (minor, major) = (field(7)?, field(9)?);
    Ok(minor + major)
}
