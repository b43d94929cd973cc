//! Mistakes of callers.

use zpool_core::{HandleId, HandleMint, PoolError};

use crate::iterations::scaled;
use crate::pool::PoolMaker;
use crate::pool::harness::{PoolHarness, StoredObject, contents};

/// N3, N4: an empty object and one over the maximum are errors that say so and change nothing.
pub fn empty_and_too_large_objects_are_refused(maker: &PoolMaker) {
    let harness = PoolHarness::new(maker);
    let max = harness.max();
    let object = harness.put(1, max);
    // N4 comes before any other check, even without memory.
    for plan in [zpool_core::page::FaultPlan::Never, zpool_core::page::FaultPlan::From(0)] {
        harness.source.plan(plan);
        assert_eq!(
            harness.pool.insert(&[]).unwrap_err(),
            PoolError::EmptyObject,
            "N4: an object of 0 bytes"
        );
        for len in [max + 1, max + 63, 2 * max + 1, 20 * max] {
            let error = harness.pool.insert(&contents(2, len)).unwrap_err();
            assert_eq!(error, PoolError::TooLarge { len, max }, "N4: an object over the maximum");
        }
    }
    harness.balance(&[object]);
}

/// R4, F4: a handle of another pool of the same kind is refused. `free` returns it, and its own
/// pool still takes it.
pub fn foreign_handles_are_refused_and_returned(maker: &PoolMaker) {
    let harness = PoolHarness::new(maker);
    let other = another_tag(maker, &harness);
    let len = harness.max().min(100);
    for fill in 0..20 {
        let (mine, theirs) = (harness.put(fill, len), other.put(100 + fill, len));
        assert_eq!(
            harness.pool.read(&theirs.handle).err(),
            Some(PoolError::ForeignHandle),
            "R4: read"
        );
        let id = theirs.handle.id();
        let refused = harness.pool.free(theirs.handle).expect_err("F4: free of a foreign handle");
        assert_eq!(*refused.error(), PoolError::ForeignHandle, "F4: free");
        let handle = refused.into_handle();
        assert_eq!(handle.id(), id, "F4: the token that comes back");
        other.free_checked(StoredObject { handle, fill: 100 + fill, len });
        harness.check(&mine);
        harness.free_checked(mine);
    }
    harness.assert_releases_all_frames();
    other.assert_releases_all_frames();
}

/// F1, R4, F4: a freed handle is stale for `read` and `free`, even when its slot is reused.
pub fn stale_handles_are_refused(maker: &PoolMaker) {
    let harness = PoolHarness::new(maker);
    let len = harness.max().min(500);
    let mut live = Vec::new();
    for fill in 0..scaled(300) as u64 {
        let object = harness.put(fill, len);
        let id = object.handle.id();
        harness.free_checked(object);
        assert_stale(&harness, id);
        // This object is likely to get the slot just freed.
        live.push(harness.put(1000 + fill, len));
        assert_stale(&harness, id);
        harness.check_all(&live[live.len().saturating_sub(3)..]);
        if fill % 3 == 0 {
            harness.free_checked(live.swap_remove(0));
        }
    }
    harness.finish(live);
}

/// R4, F4 (B18: an error value was freed as a handle): handles with the pool's own tag and any
/// other numbers are stale. They reach neither foreign memory nor a missing table.
pub fn b18_made_up_handles_are_stale(maker: &PoolMaker) {
    let harness = PoolHarness::new(maker);
    let object = harness.put(1, harness.max().min(64));
    let mint = mint_with_the_tag_of(object.handle.id());
    let indices =
        [0, 1, 2, 63, 64, 65, 1 << 12, 1 << 20, (1 << 31) - 1, 1 << 31, u32::MAX - 1, u32::MAX];
    for index in indices {
        for generation in [0, 1, 2, 0x7FFF, 0x8000, u16::MAX] {
            let made_up = mint.mint(index, generation);
            if made_up != object.handle {
                assert_stale(&harness, made_up.id());
            }
        }
    }
    harness.balance(&[object]);
}

/// Creates a pool whose handles do not look like those of `harness`. Other cases take ids at the
/// same time, and tags are 16 bits of them.
pub(super) fn another_tag<'m>(maker: &'m PoolMaker, harness: &PoolHarness<'_>) -> PoolHarness<'m> {
    let tag = |harness: &PoolHarness<'_>| {
        let probe = harness.put(0, 1);
        let tag = probe.handle.id().get() >> 48;
        harness.free_checked(probe);
        tag
    };
    let mut others = std::iter::repeat_with(|| PoolHarness::new(maker));
    others.find(|other| tag(other) != tag(harness)).expect("the iterator has no end")
}

/// Creates a mint whose handles a pool takes for its own. Tags are 16 bits of the pool's id, so
/// they repeat.
fn mint_with_the_tag_of(id: HandleId) -> HandleMint {
    let wanted = id.get() >> 48;
    // The tag repeats every 65 535 ids, but another case may take that id at the same time, so no
    // number of rounds is surely enough.
    let mut mints = std::iter::repeat_with(HandleMint::new);
    let found = mints.find(|mint| mint.mint(0, 0).id().get() >> 48 == wanted);
    found.expect("the iterator has no end")
}

fn assert_stale(harness: &PoolHarness<'_>, id: HandleId) {
    let again = id.forge();
    assert_eq!(
        harness.pool.read(&again).err(),
        Some(PoolError::StaleHandle),
        "F1, R4: read of {id:?}, freed"
    );
    let refused = harness.pool.free(again).expect_err("F1, F4: a second free");
    assert_eq!(*refused.error(), PoolError::StaleHandle, "F4: free of {id:?}, freed");
    assert_eq!(refused.into_handle().id(), id, "F4: the token that comes back");
}
