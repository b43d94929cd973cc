//! What must not block, and what says that it may.

use std::panic::{AssertUnwindSafe, catch_unwind};

use zpool_core::page::{FaultPlan, PageSource};
use zpool_core::{NoBlock, PoolError};

use crate::pool::PoolMaker;
use crate::pool::rig::{Rig, assert_contents, scaled};
use crate::rng::Rng;

/// R5, F5, A3: in a no-block section, and without any memory to be had, objects can be read, held and freed, and guards dropped. Then the freed
/// memory goes back with a trim.
pub fn reading_and_freeing_never_block(maker: &PoolMaker) {
    let rig = Rig::new(maker);
    let mut rng = Rng::new(0x0B10C);
    for round in 0..3 {
        let objects: Vec<_> =
            (0..scaled(300) as u64).map(|i| rig.put(round << 16 | i, rig.len(&mut rng))).collect();
        rig.source.plan(FaultPlan::From(0));
        {
            let _section = NoBlock::enter();
            let mut held = Vec::new();
            for (i, object) in objects.into_iter().enumerate() {
                let guard = rig.guard(&object);
                if i % 2 == 0 {
                    drop(guard);
                } else {
                    held.push((object.fill, object.len, guard));
                }
                rig.pool.free(object.handle).expect("F5: a free in a no-block section");
                rig.pool.bytes_held();
            }
            for (fill, len, guard) in held {
                assert_contents(&guard, fill, len);
            }
        }
        rig.source.plan(FaultPlan::Never);
        rig.assert_gives_all_back();
    }
}

/// N6, N3: an insert in a no-block section either needs no memory of its source, or reports that it may block, before it has changed anything.
pub fn an_insert_that_would_block_says_so_and_harms_nothing(maker: &PoolMaker) {
    let rig = Rig::new(maker);
    let (mut live, mut found) = (Vec::new(), 0);
    for fill in 0..scaled(300) as u64 {
        let len = rig.max().min(1500);
        let calls = rig.source.calls();
        let outcome = {
            let _section = NoBlock::enter();
            catch_unwind(AssertUnwindSafe(|| rig.try_put(fill, len)))
        };
        match outcome {
            Ok(inserted) => {
                assert_eq!(
                    rig.source.calls(),
                    calls,
                    "N6: calls of the page source in a no-block section, with no report"
                );
                live.push(inserted.unwrap_or_else(|e: PoolError| panic!("N2: {e}")));
            }
            // Found. Outside the section the same insert is legal.
            Err(_) => {
                found += 1;
                rig.balance(&live);
                live.push(rig.put(fill, len));
            }
        }
    }
    assert!(
        found > 0 || rig.source.charged_frames() == 0,
        "N6: {} frames were charged and no insert said that it may block",
        rig.source.charged_frames()
    );
    rig.end(live);
}

/// The doc of `ZPool`: dropping a pool may block and says so: in a no-block section that is found. (B1, the original bug, is what this check exists for.)
pub fn destroying_a_pool_says_that_it_blocks(maker: &PoolMaker) {
    for objects in [0, 3] {
        let rig = Rig::new(maker);
        for fill in 0..objects {
            let _ = rig.put(fill, rig.max().min(64)).handle;
        }
        let pool = rig.pool;
        let outcome = {
            let _section = NoBlock::enter();
            catch_unwind(AssertUnwindSafe(|| drop(pool)))
        };
        assert!(
            outcome.is_err(),
            "a pool with {objects} objects was dropped in a no-block section, unnoticed"
        );
    }
}
