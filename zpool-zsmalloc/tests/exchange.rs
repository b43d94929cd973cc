//! Exchanges of two handles' objects succeed without a reader, and copy nothing. The conformance
//! suite has what an exchange must not do.

use zpool_core::page::default_source;
use zpool_core::{CompactionBudget, Handle, PoolConfig, ZPool, ZPoolDriver};
use zpool_zsmalloc::ZsmallocDriver;

fn pool() -> Box<dyn ZPool> {
    ZsmallocDriver.create(&PoolConfig::new(default_source(), 4096)).unwrap()
}

fn object(seed: usize, len: usize) -> Vec<u8> {
    (0..len).map(|i| (seed * 31 + i) as u8).collect()
}

fn address(pool: &dyn ZPool, handle: &Handle) -> usize {
    pool.read(handle).unwrap().as_ptr().addr()
}

/// An exchange of unread objects succeeds, and no object moves.
#[test]
fn exchange_of_unread_objects_moves_no_byte() {
    let pool = pool();
    for lens in [(100, 100), (100, 3000), (4096, 1)] {
        let kept = pool.insert(&object(1, lens.0)).unwrap();
        let mut other = pool.insert(&object(2, lens.1)).unwrap();
        let before = (address(&*pool, &kept), address(&*pool, &other));
        for _ in 0..2 {
            assert!(pool.exchange(&kept, &mut other));
            assert_eq!(*pool.read(&kept).unwrap(), object(2, lens.1));
            assert_eq!((address(&*pool, &other), address(&*pool, &kept)), before);
            assert!(pool.exchange(&kept, &mut other));
            assert_eq!(*pool.read(&kept).unwrap(), object(1, lens.0));
        }
        let guard = pool.read(&other).unwrap();
        assert!(!pool.exchange(&kept, &mut other));
        assert_eq!(*guard, object(2, lens.1));
        drop(guard);
        assert!(pool.exchange(&kept, &mut other), "the guard has gone");
        pool.free(kept).unwrap();
        pool.free(other).unwrap();
    }
    pool.validate().unwrap();
}

/// Compaction finds an object under the handle that has it now.
#[test]
fn exchanged_objects_are_compacted() {
    let pool = pool();
    let mut live: Vec<_> =
        (0..3000).map(|seed| (seed, pool.insert(&object(seed, 900)).unwrap())).collect();
    for nth in (0..live.len() - 1).step_by(2) {
        let [(first, kept), (second, other)] = &mut live[nth..nth + 2] else {
            unreachable!("two of them")
        };
        assert!(pool.exchange(kept, other));
        std::mem::swap(first, second);
    }
    let left: Vec<_> = live
        .into_iter()
        .enumerate()
        .filter_map(|(nth, (seed, handle))| {
            if nth % 4 != 0 {
                pool.free(handle).unwrap();
                return None;
            }
            Some((seed, handle))
        })
        .collect();
    let report = pool.compact(CompactionBudget::UNLIMITED);
    assert!(report.moved_objects > 0, "{report:?}");
    pool.validate().unwrap();
    for (seed, handle) in &left {
        assert_eq!(*pool.read(handle).unwrap(), object(*seed, 900));
    }
}
