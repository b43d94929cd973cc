//! Objects read as they were inserted.

use crate::iterations::scaled;
use crate::pool::PoolMaker;
use crate::pool::harness::PoolHarness;
use crate::rng::SplitMix;

/// N1, N2, R1: objects of every length exist together and read as inserted, both right away and
/// when all are in.
///
/// All lengths up to 4 KiB, and beyond that a sample and the edges, which are powers of two and
/// their fractions.
pub fn every_length_comes_back(maker: &PoolMaker) {
    let harness = PoolHarness::new(maker);
    let mut objects = Vec::new();
    for (fill, len) in (1u64..).zip(lengths(harness.max())) {
        let object = harness.put(fill, len);
        harness.check(&object);
        objects.push(object);
    }
    harness.finish(objects);
}

/// N1, R1 (B16: a wrong size class made objects overwrite the next chunk): an object written
/// between two of its length changes neither.
pub fn b16_neighbours_are_not_touched(maker: &PoolMaker) {
    let harness = PoolHarness::new(maker);
    let lens: Vec<_> = lengths(harness.max()).collect();
    let mut canaries = Vec::new();
    for (i, &len) in lens.iter().enumerate().step_by(lens.len().div_ceil(scaled(400))) {
        let fill = 4 * i as u64;
        let (left, middle, right) =
            (harness.put(fill, len), harness.put(fill + 1, len), harness.put(fill + 2, len));
        harness.free_checked(middle);
        let middle = harness.put(fill + 3, len);
        harness.check(&left);
        harness.check(&right);
        harness.free_checked(middle);
        canaries.extend([left, right]);
    }
    harness.finish(canaries);
}

/// N1: an object in a reused slot shows only its own bytes and length.
pub fn a_slot_used_again_shows_nothing_of_its_last_object(maker: &PoolMaker) {
    let harness = PoolHarness::new(maker);
    let mut rng = SplitMix::new(0x51_07);
    for fill in 0..scaled(400) as u64 {
        let long = harness.put(2 * fill, rng.between(1, harness.max()));
        let shorter = rng.between(1, long.len);
        harness.free_checked(long);
        let short = harness.put(2 * fill + 1, shorter);
        harness.free_checked(short);
    }
    harness.assert_releases_all_frames();
}

/// P1, C1: a pool's id and capabilities never change, and two pools differ in their ids.
pub fn id_and_capabilities_stay_the_same(maker: &PoolMaker) {
    let (harness, other) = (PoolHarness::new(maker), PoolHarness::new(maker));
    let (id, capabilities) = (harness.pool.id(), harness.pool.capabilities());
    assert_ne!(id, other.pool.id(), "P1: ids of two live pools");
    assert_eq!(capabilities, other.pool.capabilities(), "C1: pools of one kind");
    assert!(capabilities.max_object_len > 0, "N2: a pool that takes no object at all");
    assert!(
        capabilities.can_compact || !capabilities.moves_objects,
        "C1: {capabilities:?}: objects move, but the pool cannot compact"
    );
    let object = harness.put(1, harness.max());
    harness.pool.compact(zpool_core::CompactionBudget::UNLIMITED);
    harness.free_checked(object);
    harness.pool.trim();
    assert_eq!(
        (harness.pool.id(), harness.pool.capabilities()),
        (id, capabilities),
        "P1, C1: before and after work"
    );
}

/// Returns lengths from 1 to `max` to try, ascending.
fn lengths(max: usize) -> impl Iterator<Item = usize> {
    let mut lens: Vec<usize> = (1..=max.min(if cfg!(miri) { 40 } else { 4096 })).collect();
    for power in (0..usize::BITS).map(|shift| 1usize << shift).take_while(|&power| power / 2 <= max)
    {
        for near in [power, power / 4 * 3, max / power] {
            lens.extend([near.saturating_sub(1), near, near + 1]);
        }
    }
    let mut rng = SplitMix::new(max as u64);
    lens.extend((0..scaled(200)).map(|_| rng.between(1, max)));
    lens.retain(|len| (1..=max).contains(len));
    lens.sort_unstable();
    lens.dedup();
    lens.into_iter()
}
