//! The processor that this thread runs on, and caches with cells per processor.

use core::fmt;
use std::sync::OnceLock;

use crossbeam_utils::CachePadded;

use crate::internal::sync::take_cell::TakeCell;

/// Returns the number of the processor that this thread runs on. A hint: the thread may move at any
/// moment.
///
/// On x86 Linux the vDSO answers without a system call. On other Linux targets (AArch64) this is a
/// system call, so each thread reuses an answer several times.
#[inline]
pub fn current_cpu() -> usize {
    #[cfg(all(
        target_os = "linux",
        any(target_arch = "x86_64", target_arch = "x86"),
        not(zpool_loom)
    ))]
    return rustix::thread::sched_getcpu();
    #[cfg(all(
        target_os = "linux",
        not(any(target_arch = "x86_64", target_arch = "x86")),
        not(zpool_loom)
    ))]
    {
        std::thread_local! {
            static MINE: KeptCpu = const { KeptCpu::new() };
        }
        return MINE.with(|mine| mine.get(rustix::thread::sched_getcpu));
    }
    #[cfg(all(not(target_os = "linux"), not(zpool_loom)))]
    {
        // Without getcpu, a number per thread serves as well: threads that run at the same time
        // have different ones.
        static NEXT: core::sync::atomic::AtomicUsize = core::sync::atomic::AtomicUsize::new(0);
        std::thread_local! {
            static MINE: usize = NEXT.fetch_add(1, core::sync::atomic::Ordering::Relaxed);
        }
        return MINE.with(|&mine| mine);
    }
    #[cfg(zpool_loom)]
    return LOOM_CPU.with(|cpu| cpu.get());
}

/// Uses of one answer about the current processor. A store or load uses the number up to 8 times,
/// so one operation asks at most once. A thread that moves uses the old number a few more times,
/// which costs it a shared cache line.
#[cfg_attr(
    any(not(target_os = "linux"), target_arch = "x86_64", target_arch = "x86", zpool_loom),
    allow(dead_code, reason = "as below")
)]
const USES_OF_ONE_ANSWER: u32 = 16;

/// The processor of a thread, on targets where asking is a system call.
#[cfg_attr(
    any(not(target_os = "linux"), target_arch = "x86_64", target_arch = "x86", zpool_loom),
    allow(dead_code, reason = "asking is cheap on this target, but the tests still run")
)]
struct KeptCpu {
    cpu: core::cell::Cell<usize>,
    uses_left: core::cell::Cell<u32>,
}

#[cfg_attr(
    any(not(target_os = "linux"), target_arch = "x86_64", target_arch = "x86", zpool_loom),
    allow(dead_code, reason = "as above")
)]
impl KeptCpu {
    const fn new() -> KeptCpu {
        KeptCpu { cpu: core::cell::Cell::new(0), uses_left: core::cell::Cell::new(0) }
    }

    #[inline]
    fn get(&self, ask: impl FnOnce() -> usize) -> usize {
        match self.uses_left.get().checked_sub(1) {
            Some(left) => self.uses_left.set(left),
            None => {
                self.uses_left.set(USES_OF_ONE_ANSWER - 1);
                self.cpu.set(ask());
            }
        }
        self.cpu.get()
    }
}

/// Returns the number of shards for counts per processor: the number of this machine's processors,
/// rounded up to a power of two, at most 64.
pub fn cpu_shards() -> usize {
    if cfg!(zpool_loom) {
        return 2;
    }
    static SHARDS: OnceLock<usize> = OnceLock::new();
    *SHARDS.get_or_init(|| {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        cpus.next_power_of_two().min(64)
    })
}

// loom's own thread-local storage, since its threads are coroutines of one system thread.
#[cfg(zpool_loom)]
loom::thread_local! {
    static LOOM_CPU: core::cell::Cell<usize> = core::cell::Cell::new(0);
}

/// Sets the processor of the model's current thread: loom has none.
#[cfg(zpool_loom)]
pub fn set_loom_cpu(cpu: usize) {
    LOOM_CPU.with(|mine| mine.set(cpu));
}

/// A cache of a few values per processor, for contexts that are costly to make and used by one
/// thread at a time.
///
/// ```text
///   take():  own cell ─ empty? ─► its neighbour ─ empty? ─► ... ─► None: the caller makes one
///   put(v):  own cell ─ full?  ─► its neighbour ─ full?  ─► ... ─► Err: the caller drops it
/// ```
///
/// Taking or putting is one atomic exchange, Acquire and Release, if the first cell fits. A value
/// is *out* of its cell while in use. So no lock is held while foreign code (a codec) runs, and a
/// codec may re-enter the cache. A thread that is preempted delays no other: it takes another
/// value, or makes one. There are twice as many cells as processors, so that the values of
/// preempted threads find a cell when they are returned.
pub struct PerCpu<T> {
    cells: Box<[CachePadded<TakeCell<T>>]>,
}

impl<T> PerCpu<T> {
    /// Makes an empty cache with two cells per processor.
    pub fn new() -> PerCpu<T> {
        PerCpu::with_cells(2 * cpu_shards())
    }

    /// Makes an empty cache with `cells` cells, at least one.
    pub fn with_cells(cells: usize) -> PerCpu<T> {
        PerCpu { cells: (0..cells.max(1)).map(|_| CachePadded::new(TakeCell::empty())).collect() }
    }

    /// Takes a value, first from the current processor's cell. `None` if all are in use or none was
    /// put.
    #[inline]
    pub fn take(&self) -> Option<Box<T>> {
        let home = self.home();
        self.cells[home].take().or_else(|| self.take_elsewhere(home))
    }

    /// Puts a value into the current processor's cell. A value that was there moves to the next
    /// cell, and so on until a cell was free.
    ///
    /// # Errors
    ///
    /// If every cell is full, returns a value that is left over, normally not the one passed in.
    /// The caller then drops it, which may block.
    #[inline]
    pub fn put(&self, value: Box<T>) -> Result<(), Box<T>> {
        let home = self.home();
        match self.cells[home].swap(Some(value)) {
            None => Ok(()),
            Some(displaced) => self.put_elsewhere(home, displaced),
        }
    }

    /// Takes all values that are in cells. Those in use are returned later.
    pub fn drain(&self) -> Vec<Box<T>> {
        self.cells.iter().filter_map(|cell| cell.take()).collect()
    }

    /// Returns the number of cells.
    pub fn cells(&self) -> usize {
        self.cells.len()
    }

    #[inline]
    fn home(&self) -> usize {
        let (cpu, cells) = (current_cpu(), self.cells.len());
        // Divides only in the rare case of more processors than cells.
        if cpu < cells { cpu } else { cpu % cells }
    }

    #[cold]
    fn take_elsewhere(&self, home: usize) -> Option<Box<T>> {
        (1..self.cells.len()).find_map(|i| self.cells[(home + i) % self.cells.len()].take())
    }

    #[cold]
    fn put_elsewhere(&self, home: usize, mut value: Box<T>) -> Result<(), Box<T>> {
        for i in 1..self.cells.len() {
            match self.cells[(home + i) % self.cells.len()].swap(Some(value)) {
                None => return Ok(()),
                Some(displaced) => value = displaced,
            }
        }
        Err(value)
    }
}

impl<T> Default for PerCpu<T> {
    fn default() -> Self {
        PerCpu::new()
    }
}

impl<T> fmt::Debug for PerCpu<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PerCpu").field("cells", &self.cells.len()).finish()
    }
}

#[cfg(all(test, not(zpool_loom)))]
mod tests {
    use super::*;

    /// An operation that uses the number 8 times asks the system at most once, and every second
    /// operation not at all. A thread that has moved notices it soon.
    #[test]
    fn kept_cpu_asks_once_in_sixteen_uses() {
        let (kept, asked) = (KeptCpu::new(), core::cell::Cell::new(0));
        for operation in 0..100 {
            let before = asked.get();
            for _ in 0..8 {
                let cpu = kept.get(|| {
                    asked.set(asked.get() + 1);
                    asked.get()
                });
                assert_eq!(cpu, asked.get(), "the latest answer");
            }
            assert!(asked.get() - before <= 1, "operation {operation}");
        }
        assert_eq!(asked.get(), 100 * 8 / USES_OF_ONE_ANSWER as usize);
    }

    /// A cache keeps one value per cell and returns the others.
    #[test]
    fn full_cache_returns_surplus_values() {
        let cache = PerCpu::with_cells(3);
        for i in 0..3 {
            cache.put(Box::new(i)).unwrap();
        }
        cache.put(Box::new(3)).unwrap_err();
        assert_eq!(
            (cache.take().is_some(), cache.drain().len(), cache.take().is_none()),
            (true, 2, true)
        );
    }

    /// Under concurrent use, no value is used by two threads and none is lost.
    #[test]
    fn concurrent_use_shares_and_loses_no_value() {
        let (cache, returned) = (PerCpu::with_cells(4), core::sync::atomic::AtomicU64::new(0));
        std::thread::scope(|s| {
            for _ in 0..4 {
                s.spawn(|| {
                    for _ in 0..2_000 {
                        // Like a real user, takes or makes a value, counts in it without atomics,
                        // and puts it back.
                        let mut mine = cache.take().unwrap_or_default();
                        *mine += 1;
                        if let Err(mine) = cache.put(mine) {
                            returned.fetch_add(*mine, core::sync::atomic::Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        let kept: u64 = cache.drain().into_iter().map(|v| *v).sum();
        assert_eq!(kept + returned.into_inner(), 8_000);
    }
}
