//! Which processor this thread runs on, and slots a processor each.

use core::fmt;
use std::sync::OnceLock;

use crossbeam_utils::CachePadded;

use crate::internal::sync::take_cell::TakeCell;

/// Returns a number for the processor this thread runs on. A hint: the thread may move at any
/// moment.
///
/// On x86 Linux the vDSO answers without a system call. On other Linux targets (AArch64) asking is
/// a system call, so the answer is kept for the next few uses of the thread.
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
        // Without getcpu a number a thread does as well: threads that run at once get different ones.
        static NEXT: core::sync::atomic::AtomicUsize = core::sync::atomic::AtomicUsize::new(0);
        std::thread_local! {
            static MINE: usize = NEXT.fetch_add(1, core::sync::atomic::Ordering::Relaxed);
        }
        return MINE.with(|&mine| mine);
    }
    #[cfg(zpool_loom)]
    return LOOM_CPU.with(|cpu| cpu.get());
}

/// Uses of one answer of the system about the current processor. A store or load uses the number up
/// to 8 times, so one operation asks at most once. A thread that moves uses the old number for this
/// many more uses, which costs it a shared cache line.
#[cfg_attr(
    any(not(target_os = "linux"), target_arch = "x86_64", target_arch = "x86", zpool_loom),
    allow(dead_code, reason = "as below")
)]
const USES_OF_ONE_ANSWER: u32 = 16;

/// The processor of a thread where asking for it is a system call.
#[cfg_attr(
    any(not(target_os = "linux"), target_arch = "x86_64", target_arch = "x86", zpool_loom),
    allow(dead_code, reason = "asking costs nothing here; its tests run all the same")
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

/// How many shards or slots keep the processors of this machine apart: their number, rounded up to a power of two, at most 64.
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

// loom's own: its threads are coroutines of one thread of the system.
#[cfg(zpool_loom)]
loom::thread_local! {
    static LOOM_CPU: core::cell::Cell<usize> = core::cell::Cell::new(0);
}

/// Says which processor the model's current thread runs on: loom has none of its own.
#[cfg(zpool_loom)]
pub fn set_loom_cpu(cpu: usize) {
    LOOM_CPU.with(|mine| mine.set(cpu));
}

/// A cache of values, a few a processor: contexts that are costly to make and used by one thread at a time.
///
/// ```text
///   take():  slot of this processor ─ empty? ─► its neighbour ─ empty? ─► ... ─► None: the caller makes one
///   put(v):  slot of this processor ─ full?  ─► its neighbour ─ full?  ─► ... ─► given back: the caller drops it
/// ```
///
/// Taking and putting are one atomic exchange each, Acquire and Release, where the first slot fits. The value is *out* of its slot while in use, so no lock is
/// held while foreign code (a codec) runs, a codec may re-enter whatever uses the cache, and a thread that is preempted in the middle
/// delays nobody: others take another value, or make one. There are twice as many slots as processors, so that the values of preempted threads
/// find a place when they come back.
pub struct PerCpu<T> {
    slots: Box<[CachePadded<TakeCell<T>>]>,
}

impl<T> PerCpu<T> {
    /// An empty cache with two slots a processor.
    pub fn new() -> PerCpu<T> {
        PerCpu::with_slots(2 * cpu_shards())
    }

    /// An empty cache with `slots` slots, at least one.
    pub fn with_slots(slots: usize) -> PerCpu<T> {
        PerCpu { slots: (0..slots.max(1)).map(|_| CachePadded::new(TakeCell::empty())).collect() }
    }

    /// Takes a value, the current processor's first. `None` when all are in use or none was ever put.
    #[inline]
    pub fn take(&self) -> Option<Box<T>> {
        let home = self.home();
        self.slots[home].take().or_else(|| self.take_elsewhere(home))
    }

    /// Puts a value where this processor finds it first.
    ///
    /// # Errors
    ///
    /// Gives the value back when every slot is full; dropping it is then the caller's business (and may block).
    #[inline]
    pub fn put(&self, value: Box<T>) -> Result<(), Box<T>> {
        let home = self.home();
        match self.slots[home].swap(Some(value)) {
            None => Ok(()),
            Some(displaced) => self.put_elsewhere(home, displaced),
        }
    }

    /// Takes all values that are in their slots. Those in use come back later.
    pub fn drain(&self) -> Vec<Box<T>> {
        self.slots.iter().filter_map(|slot| slot.take()).collect()
    }

    /// The number of slots.
    pub fn slots(&self) -> usize {
        self.slots.len()
    }

    #[inline]
    fn home(&self) -> usize {
        let (cpu, slots) = (current_cpu(), self.slots.len());
        // Seldom more processors than slots: the division is for those.
        if cpu < slots { cpu } else { cpu % slots }
    }

    #[cold]
    fn take_elsewhere(&self, home: usize) -> Option<Box<T>> {
        (1..self.slots.len()).find_map(|i| self.slots[(home + i) % self.slots.len()].take())
    }

    #[cold]
    fn put_elsewhere(&self, home: usize, mut value: Box<T>) -> Result<(), Box<T>> {
        for i in 1..self.slots.len() {
            match self.slots[(home + i) % self.slots.len()].swap(Some(value)) {
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
        f.debug_struct("PerCpu").field("slots", &self.slots.len()).finish()
    }
}

#[cfg(all(test, not(zpool_loom)))]
mod tests {
    use super::*;

    /// An operation that uses the number 8 times asks the system at most once, every second one not
    /// at all, and a thread that moved sees it soon.
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

    #[test]
    fn keeps_as_many_as_it_has_slots_and_gives_the_rest_back() {
        let cache = PerCpu::with_slots(3);
        for i in 0..3 {
            cache.put(Box::new(i)).unwrap();
        }
        cache.put(Box::new(3)).unwrap_err();
        assert_eq!(
            (cache.take().is_some(), cache.drain().len(), cache.take().is_none()),
            (true, 2, true)
        );
    }

    #[test]
    fn no_value_is_in_two_hands_or_lost() {
        let (cache, given_back) = (PerCpu::with_slots(4), core::sync::atomic::AtomicU64::new(0));
        std::thread::scope(|s| {
            for _ in 0..4 {
                s.spawn(|| {
                    for _ in 0..2_000 {
                        // As a user does: takes one or makes one, counts in it without atomics, puts it back.
                        let mut mine = cache.take().unwrap_or_default();
                        *mine += 1;
                        if let Err(mine) = cache.put(mine) {
                            given_back.fetch_add(*mine, core::sync::atomic::Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        let kept: u64 = cache.drain().into_iter().map(|v| *v).sum();
        assert_eq!(kept + given_back.into_inner(), 8_000);
    }
}
