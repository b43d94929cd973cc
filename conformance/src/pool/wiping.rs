//! Checks that nothing of an object remains in a pool that wipes.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use zpool_core::page::PageSource;
use zpool_core::{CompactionBudget, CreateError, ReadGuard, ZPool};

use super::PoolMaker;
use super::harness::{PoolHarness, StoredObject, contents};
use crate::iterations::scaled;
use crate::rng::SplitMix;

/// This process's memory as the system shows it, including memory that no reference borrows.
struct OwnMemory(File);

impl OwnMemory {
    fn open() -> OwnMemory {
        OwnMemory(File::open("/proc/self/mem").expect("Linux shows a process its memory"))
    }

    /// Returns the bytes at an address, or `None` if nothing is mapped there.
    fn at(&self, address: usize, len: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0xEE; len];
        self.0.read_exact_at(&mut bytes, address as u64).is_ok().then_some(bytes)
    }
}

fn address(guard: &ReadGuard<'_>) -> usize {
    guard.as_ptr().addr()
}

/// F6: checks a pool made with [`PoolConfig::wipe_on_free`](zpool_core::PoolConfig::wipe_on_free).
/// Nothing of a freed object is left where it was, nor where compaction moved it from. It is not a
/// case of the suite, because the suite's pools do not wipe. Needs `/proc`.
///
/// # Panics
///
/// If something is left, if a neighbour has changed, or if the pool does not report that it
/// [wipes](zpool_core::Capabilities::wipes_on_free).
pub fn assert_wipes_on_free<F>(make: F)
where
    F: Fn(Arc<dyn PageSource>) -> Result<Box<dyn ZPool>, CreateError> + Send + Sync + 'static,
{
    let maker = PoolMaker::new(make);
    let (harness, memory) = (PoolHarness::new(&maker), OwnMemory::open());
    assert!(harness.pool.capabilities().wipes_on_free, "the pool does not say that it wipes");
    let mut rng = SplitMix::new(6);
    let mut live: Vec<StoredObject> = (0..scaled(600) as u64)
        .map(|fill| harness.put(fill, rng.between(16.min(harness.max()), harness.max())))
        .collect();
    for n in 0..live.len() / 4 {
        let object = live.swap_remove(rng.below(live.len()));
        let (at, len) = (address(&harness.guard(&object)), object.len);
        let guard = (n % 3 == 0).then(|| harness.guard(&object));
        let held = guard.as_ref().is_some_and(|guard| address(guard) == at);
        let fill = object.fill;
        harness.free_checked(object);
        if held {
            let whole = memory.at(at, len) == Some(contents(fill, len));
            assert!(whole, "F2: a guard still holds these {len} bytes");
        }
        drop(guard);
        let left = memory.at(at, len).unwrap_or_default();
        assert!(left.iter().all(|&byte| byte == 0), "F6: something is left of {len} freed bytes");
    }
    harness.check_all(&live);
    assert_moves_leave_nothing(&harness, &memory, &mut live, &mut rng);
    harness.finish(live);
}

fn assert_moves_leave_nothing(
    harness: &PoolHarness<'_>,
    memory: &OwnMemory,
    live: &mut Vec<StoredObject>,
    rng: &mut SplitMix,
) {
    for _ in 0..live.len() * 3 / 4 {
        harness.free_checked(live.swap_remove(rng.below(live.len())));
    }
    // A few moves at a time, so that the frames which objects leave are not empty and stay.
    for _ in 0..scaled(40) {
        let before: Vec<usize> =
            live.iter().map(|object| address(&harness.guard(object))).collect();
        harness.pool.compact(CompactionBudget::moves(3));
        for (object, before) in live.iter().zip(before) {
            if address(&harness.guard(object)) != before {
                let copy = memory.at(before, object.len) == Some(contents(object.fill, object.len));
                assert!(!copy, "F6: an object of {} bytes that moved left a copy", object.len);
            }
        }
    }
    harness.check_all(live);
}
