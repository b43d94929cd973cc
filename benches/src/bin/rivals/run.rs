//! One cache and one trace, in a process of its own.

use std::collections::HashSet;
use std::time::Duration;

use benches::{Failure, child};
use serde::{Deserialize, Serialize};
use workload::{Growth, Pages, clocked_process, print_result, refuse_huge_pages};
use zpool_core::spec::PoolSpec;

use crate::PAGE;
use crate::caches::{self, PageCache};
use crate::trace::{Pattern, Trace};

/// Look-ups that are timed together. Their pages are compared after the clock has stopped.
const BATCH: usize = 256;

/// The number of times at which resident bytes are counted, after the cache is warm.
const SAMPLES: usize = 8;

/// The size of caches and traces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RunSize {
    Full,
    Quick,
}

/// A cache and a trace, for one process.
#[derive(Debug, Clone)]
pub(crate) struct CacheRun<'a> {
    /// The name of the cache.
    pub(crate) cache: &'a str,
    pub(crate) spec: &'a PoolSpec,
    pub(crate) pattern: Pattern,
    pub(crate) size: RunSize,
    /// Bytes, in the cache's own count.
    pub(crate) capacity: u64,
    /// The expected bytes of an entry.
    pub(crate) entry_bytes: u64,
}

/// The figures of one process.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct RunResult {
    /// The mean over the run, once the cache was warm.
    pub(crate) resident_bytes: f64,
    /// At the end.
    pub(crate) entries: f64,
    pub(crate) hit_ratio: f64,
    pub(crate) ns_per_hit: f64,
    pub(crate) ns_per_store: f64,
}

impl RunSize {
    /// Returns the limit of our store in bytes.
    pub(crate) fn limit(self) -> u64 {
        self.scaled(32 << 20) as u64
    }

    /// Returns the number of runs of each cache whose ratios are reported.
    pub(crate) fn rounds(self) -> usize {
        match self {
            RunSize::Full => 3,
            RunSize::Quick => 1,
        }
    }

    /// Returns the number of page numbers that are not scanned: several times what a cache keeps.
    fn numbers(self) -> usize {
        self.scaled(120_000)
    }

    /// Returns how many look-ups warm the cache, and how many count.
    fn lookups(self) -> (usize, usize) {
        (self.scaled(200_000), self.scaled(300_000))
    }

    fn scaled(self, full: usize) -> usize {
        match self {
            RunSize::Full => full,
            RunSize::Quick => full / 8,
        }
    }
}

impl CacheRun<'_> {
    /// Runs the trace in a child process.
    pub(crate) fn start(&self, pages: &Pages) -> Result<RunResult, Failure> {
        let quick = (self.size == RunSize::Quick).to_string();
        let (capacity, entry) = (self.capacity.to_string(), self.entry_bytes.to_string());
        let spec = self.spec.to_string();
        let task = [self.cache, &spec, self.pattern.name(), &quick, &capacity, &entry];
        Ok(child(task).run(pages)?)
    }
}

/// Runs the trace that `task` describes, with the pages of the standard input.
pub(crate) fn run_here(task: &[String]) -> Result<(), Failure> {
    refuse_huge_pages();
    let [cache, spec, pattern, quick, capacity, entry_bytes] = task else {
        return Err("a child gets the six words of a run".into());
    };
    let run = CacheRun {
        cache,
        spec: &spec.parse()?,
        pattern: Pattern::named(pattern).ok_or("there is no such trace")?,
        size: if quick.parse()? { RunSize::Quick } else { RunSize::Full },
        capacity: capacity.parse()?,
        entry_bytes: entry_bytes.parse()?,
    };
    let pages = Pages::read_from(std::io::stdin().lock())?;
    Ok(print_result(&measure(&run, &pages)?)?)
}

fn measure(run: &CacheRun<'_>, pages: &Pages) -> Result<RunResult, Failure> {
    let mut trace = Trace::new(run.pattern, run.size.numbers());
    let mut replay = Replay::new(pages);
    let before = Growth::start()?;
    let mut cache = caches::create(run.cache, run.spec, run.capacity, run.entry_bytes)?;
    let (warm, counted) = run.size.lookups();
    replay.go(cache.as_mut(), trace.by_ref().take(warm));
    replay.reset();
    let mut resident = 0;
    for _ in 0..SAMPLES {
        replay.go(cache.as_mut(), trace.by_ref().take(counted / SAMPLES));
        resident += before.bytes()?;
    }
    let per = |time: Duration, count: u64| time.as_nanos() as f64 / count.max(1) as f64;
    Ok(RunResult {
        resident_bytes: resident as f64 / SAMPLES as f64,
        entries: replay.count_entries(cache.as_mut(), trace.end()) as f64,
        hit_ratio: replay.hits as f64 / (replay.hits + replay.misses) as f64,
        ns_per_hit: per(replay.looking_up, replay.hits),
        ns_per_store: per(replay.storing, replay.stores),
    })
}

/// Looks numbers up, fills the cache on a miss, and counts.
struct Replay<'a> {
    pages: &'a Pages,
    /// One page per look-up of a batch.
    buffer: Vec<u8>,
    hits: u64,
    misses: u64,
    stores: u64,
    looking_up: Duration,
    storing: Duration,
}

impl<'a> Replay<'a> {
    fn new(pages: &'a Pages) -> Replay<'a> {
        Replay {
            pages,
            // Touched now, so that it does not count as growth of the cache.
            buffer: vec![0xA5; BATCH * PAGE.get()],
            hits: 0,
            misses: 0,
            stores: 0,
            looking_up: Duration::ZERO,
            storing: Duration::ZERO,
        }
    }

    /// Resets the counts without a heap call.
    fn reset(&mut self) {
        (self.hits, self.misses, self.stores) = (0, 0, 0);
        (self.looking_up, self.storing) = (Duration::ZERO, Duration::ZERO);
    }

    /// Returns the page of a number.
    fn page(&self, number: u64) -> &'a [u8] {
        self.pages.block((number % self.pages.len() as u64) as usize)
    }

    fn go(&mut self, cache: &mut dyn PageCache, numbers: impl Iterator<Item = u64>) {
        let mut numbers = numbers.peekable();
        while numbers.peek().is_some() {
            let batch: Vec<u64> = numbers.by_ref().take(BATCH).collect();
            self.batch(cache, &batch);
        }
    }

    /// Looks a batch up, compares what was found, and stores what was not, each number once.
    fn batch(&mut self, cache: &mut dyn PageCache, batch: &[u64]) {
        let mut found = [false; BATCH];
        let buffer = &mut self.buffer;
        let (time, ()) = clocked_process(|| {
            for ((number, found), page) in
                batch.iter().zip(&mut found).zip(buffer.chunks_exact_mut(PAGE.get()))
            {
                *found = cache.load(*number, page);
            }
        });
        self.looking_up += time.cpu;
        let mut missing = Vec::new();
        for (at, (&number, found)) in batch.iter().zip(found).enumerate() {
            if found {
                let page = &self.buffer[at * PAGE.get()..(at + 1) * PAGE.get()];
                assert!(page == self.page(number), "page {number} came back changed");
                self.hits += 1;
            } else {
                missing.push(number);
            }
        }
        self.misses += missing.len() as u64;
        let mut seen = HashSet::new();
        missing.retain(|number| seen.insert(*number));
        self.stores += missing.len() as u64;
        let (time, ()) = clocked_process(|| {
            missing.iter().for_each(|&number| cache.store(number, self.page(number)));
        });
        self.storing += time.cpu;
    }

    /// Loads every number, compares the pages, and returns how many there are.
    fn count_entries(&mut self, cache: &mut dyn PageCache, end: u64) -> u64 {
        let page = &mut self.buffer[..PAGE.get()];
        let mut entries = 0;
        for number in 0..end {
            if cache.load(number, page) {
                let expected = self.pages.block((number % self.pages.len() as u64) as usize);
                assert!(page == expected, "page {number} came back changed");
                entries += 1;
            }
        }
        entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A cache that keeps every page for ever, and returns page 7 changed if it is `faulty`.
    struct KeepAll {
        pages: std::collections::HashMap<u64, Vec<u8>>,
        faulty: bool,
    }

    impl PageCache for KeepAll {
        fn load(&mut self, number: u64, page: &mut [u8]) -> bool {
            let Some(kept) = self.pages.get(&number) else { return false };
            page.copy_from_slice(kept);
            page[0] ^= u8::from(self.faulty && number == 7);
            true
        }

        fn store(&mut self, number: u64, page: &[u8]) {
            self.pages.insert(number, page.to_vec());
        }
    }

    fn pages() -> Pages {
        let bytes = (0..8 * PAGE.get()).map(|at| (at / PAGE.get()) as u8).collect();
        Pages::from_bytes(PAGE, bytes)
    }

    /// Misses are stored once per batch, hits are compared, and entries are counted.
    #[test]
    fn replay_counts_hits_and_entries() {
        let pages = pages();
        let mut cache = KeepAll { pages: [].into(), faulty: false };
        let mut replay = Replay::new(&pages);
        replay.go(&mut cache, [1, 1, 9].into_iter());
        assert_eq!((replay.hits, replay.misses, replay.stores), (0, 3, 2));
        replay.reset();
        replay.go(&mut cache, (0..600).map(|n| n % 10));
        // Pages are stored at the end of a batch. Until then all miss but 1 and 9.
        let missed = (0..BATCH as u64).filter(|n| !matches!(n % 10, 1 | 9)).count() as u64;
        assert_eq!((replay.hits, replay.misses, replay.stores), (600 - missed, missed, 8));
        assert_eq!(replay.count_entries(&mut cache, 20), 10);
    }

    #[test]
    #[should_panic(expected = "page 7 came back changed")]
    fn changed_page_panics() {
        let pages = pages();
        let mut cache = KeepAll { pages: [].into(), faulty: true };
        Replay::new(&pages).go(&mut cache, std::iter::repeat_n(7, 2 * BATCH));
    }
}
