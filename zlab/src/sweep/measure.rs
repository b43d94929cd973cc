//! Measures the cost of each setting.
//!
//! Every setting has a store of its own that keeps the whole sample. In each round, every store
//! overwrites all its blocks and loads them again. The stores alternate, so that a slow moment of
//! the machine slows all settings down. For each stretch of blocks the shortest time of all rounds
//! counts, because an interruption makes it longer and never shorter. Times are those of the
//! thread's clock.

use std::time::{Duration, Instant};

use workload::clocked;
use zswap::Store;

use super::grid::{Family, SweepSetting};
use crate::drivers;
use crate::error::Failure;
use crate::output::Progress;

/// Bytes timed together. A stretch is long compared with the clock's resolution and short compared
/// with the time between interruptions.
const STRETCH_BYTES: usize = 256 << 10;
const MAX_ROUNDS: usize = 9;
/// Stop after the round in which this time has passed.
const BUDGET: Duration = Duration::from_secs(45);
/// A setting whose round takes this long is measured once, because interruptions make little
/// difference to it.
const SLOW: Duration = Duration::from_millis(500);

/// The cost of one setting.
#[derive(Debug, Clone)]
pub(super) struct Point {
    pub(super) compressor: String,
    pub(super) family: Family,
    pub(super) block_size: usize,
    /// Bytes of pool and index per KiB of input.
    pub(super) bytes_per_kib: f64,
    pub(super) store_ns_per_kib: f64,
    pub(super) load_ns_per_kib: f64,
    /// The number of bytes that a reader wants at a time.
    pub(super) wanted: usize,
}

impl Point {
    /// Returns the time to load the wanted bytes. A block is loaded whole, even if a part of it is
    /// wanted.
    pub(super) fn load_ns(&self) -> f64 {
        self.load_ns_per_kib * self.wanted.max(self.block_size) as f64 / 1024.0
    }

    /// Returns the time to store these bytes, as part of a block, and to load them once.
    pub(super) fn ns(&self) -> f64 {
        self.store_ns_per_kib * self.wanted as f64 / 1024.0 + self.load_ns()
    }
}

/// Returns a point for each setting.
pub(super) fn measure(
    settings: Vec<SweepSetting>,
    sample: &[u8],
    wanted: usize,
) -> Result<Vec<Point>, Failure> {
    let progress = Progress::start((MAX_ROUNDS * settings.len()) as u64);
    let mut measured = Vec::new();
    for setting in settings {
        progress.doing(format!("filling {}", setting.compressor));
        measured.push(MeasuredSetting::new(setting, sample)?);
    }
    let (total, begin) = (measured.len(), Instant::now());
    for round in 0..MAX_ROUNDS {
        if round >= 2 && begin.elapsed() > BUDGET {
            break;
        }
        for (i, setting_store) in measured.iter_mut().enumerate() {
            progress.doing(format!(
                "{} in blocks of {}",
                setting_store.setting.compressor, setting_store.setting.block_size
            ));
            progress.done((round * total + i) as u64);
            if round == 0 || setting_store.time() < SLOW {
                setting_store.round(sample)?;
            }
        }
    }
    Ok(measured
        .into_iter()
        .map(|setting_store| setting_store.point(sample.len(), wanted))
        .collect())
}

/// The store of a setting, with its best times so far.
struct MeasuredSetting {
    setting: SweepSetting,
    store: Store<u64>,
    buffer: Vec<u8>,
    /// The best times of each stretch.
    best: Vec<Times>,
    /// The bytes held when the store was first filled. While blocks are replaced, they vary.
    held: usize,
}

#[derive(Debug, Clone, Copy)]
struct Times {
    store: Duration,
    load: Duration,
}

impl MeasuredSetting {
    /// Stores all blocks and verifies them.
    fn new(setting: SweepSetting, sample: &[u8]) -> Result<MeasuredSetting, Failure> {
        let store = drivers::store(&setting.spec, setting.block_size).build()?;
        let worst = Times { store: Duration::MAX, load: Duration::MAX };
        let best = vec![worst; sample.len().div_ceil(STRETCH_BYTES)];
        let buffer = vec![0; setting.block_size.get()];
        let mut new = MeasuredSetting { setting, store, buffer, best, held: 0 };
        for (key, block) in sample.chunks_exact(new.setting.block_size.get()).enumerate() {
            new.store.store(key as u64, block)?;
            let loaded = new.store.load(&(key as u64), &mut new.buffer)?;
            if loaded != Some(block.len()) || new.buffer != block {
                return Err(Failure::broken(format!(
                    "{}: a block did not come back as it was",
                    new.setting.spec
                )));
            }
        }
        new.store.manager().flush()?;
        let stats = new.store.stats();
        new.held = stats.pool_bytes + stats.index_bytes;
        Ok(new)
    }

    /// Stores and loads every block once more.
    fn round(&mut self, sample: &[u8]) -> Result<(), Failure> {
        let size = self.setting.block_size.get();
        for (i, stretch) in sample.chunks(STRETCH_BYTES).enumerate() {
            let first = (i * STRETCH_BYTES / size) as u64;
            let blocks = || (first..).zip(stretch.chunks_exact(size));
            let (elapsed, stored) =
                clocked(|| blocks().try_for_each(|(key, block)| self.store.store(key, block)));
            stored?;
            self.best[i].store = self.best[i].store.min(elapsed.cpu);
        }
        for (i, stretch) in sample.chunks(STRETCH_BYTES).enumerate() {
            let keys = (i * STRETCH_BYTES / size) as u64
                ..((i * STRETCH_BYTES + stretch.len()) / size) as u64;
            let (elapsed, loaded) = clocked(|| {
                keys.into_iter()
                    .try_for_each(|key| self.store.load(&key, &mut self.buffer).map(drop))
            });
            loaded?;
            self.best[i].load = self.best[i].load.min(elapsed.cpu);
        }
        Ok(())
    }

    /// Returns the time of a round.
    fn time(&self) -> Duration {
        self.best
            .iter()
            .map(|times| times.store.saturating_add(times.load))
            .fold(Duration::ZERO, Duration::saturating_add)
    }

    fn point(self, sample_bytes: usize, wanted: usize) -> Point {
        let kib = sample_bytes as f64 / 1024.0;
        let per_kib = |of: fn(&Times) -> Duration| {
            self.best.iter().map(of).sum::<Duration>().as_nanos() as f64 / kib
        };
        Point {
            bytes_per_kib: self.held as f64 / kib,
            store_ns_per_kib: per_kib(|times| times.store),
            load_ns_per_kib: per_kib(|times| times.load),
            compressor: self.setting.compressor,
            family: self.setting.family,
            block_size: self.setting.block_size.get(),
            wanted,
        }
    }
}
