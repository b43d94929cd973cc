//! What was inserted is what is read.

use crate::pool::PoolMaker;
use crate::pool::rig::{Rig, scaled};
use crate::rng::Rng;

/// N1, N2, R1: objects of every length live side by side and read as inserted: right away, and when all are in.
///
/// Every length up to 4 KiB; beyond that the edges (powers of two and their fractions) and a sample.
pub fn every_length_comes_back(maker: &PoolMaker) {
    let rig = Rig::new(maker);
    let mut objects = Vec::new();
    for (fill, len) in (1u64..).zip(lengths(rig.max())) {
        let object = rig.put(fill, len);
        rig.check(&object);
        objects.push(object);
    }
    rig.end(objects);
}

/// N1, R1 (B16: a wrong size class made objects overwrite the next chunk): an object written between two others of its length changes neither.
pub fn b16_neighbours_are_not_touched(maker: &PoolMaker) {
    let rig = Rig::new(maker);
    let lens: Vec<_> = lengths(rig.max()).collect();
    let mut canaries = Vec::new();
    for (i, &len) in lens.iter().enumerate().step_by(lens.len().div_ceil(scaled(400))) {
        let fill = 4 * i as u64;
        let (left, middle, right) =
            (rig.put(fill, len), rig.put(fill + 1, len), rig.put(fill + 2, len));
        rig.take(middle);
        let middle = rig.put(fill + 3, len);
        rig.check(&left);
        rig.check(&right);
        rig.take(middle);
        canaries.extend([left, right]);
    }
    rig.end(canaries);
}

/// N1: where an object was freed, the next one shows its own bytes and its own length only, whatever lay there before.
pub fn a_slot_used_again_shows_nothing_of_its_last_object(maker: &PoolMaker) {
    let rig = Rig::new(maker);
    let mut rng = Rng::new(0x51_07);
    for fill in 0..scaled(400) as u64 {
        let long = rig.put(2 * fill, rng.between(1, rig.max()));
        let shorter = rng.between(1, long.len);
        rig.take(long);
        let short = rig.put(2 * fill + 1, shorter);
        rig.take(short);
    }
    rig.assert_gives_all_back();
}

/// P1, C1: a pool's id and capabilities never change, and two pools differ in their ids.
pub fn id_and_capabilities_stay_the_same(maker: &PoolMaker) {
    let (rig, other) = (Rig::new(maker), Rig::new(maker));
    let (id, capabilities) = (rig.pool.id(), rig.pool.capabilities());
    assert_ne!(id, other.pool.id(), "P1: ids of two live pools");
    assert_eq!(capabilities, other.pool.capabilities(), "C1: pools of one kind");
    assert!(capabilities.max_object_len > 0, "N2: a pool that takes no object at all");
    assert!(
        capabilities.can_compact || !capabilities.moves_objects,
        "C1: {capabilities:?}: what would move them, if not compaction?"
    );
    let object = rig.put(1, rig.max());
    rig.pool.compact(zpool_core::CompactionBudget::UNLIMITED);
    rig.take(object);
    rig.pool.trim();
    assert_eq!(
        (rig.pool.id(), rig.pool.capabilities()),
        (id, capabilities),
        "P1, C1: before and after work"
    );
}

/// Lengths to try, from 1 to `max`, ascending.
fn lengths(max: usize) -> impl Iterator<Item = usize> {
    let mut lens: Vec<usize> = (1..=max.min(if cfg!(miri) { 40 } else { 4096 })).collect();
    for power in (0..usize::BITS).map(|shift| 1usize << shift).take_while(|&power| power / 2 <= max)
    {
        for near in [power, power / 4 * 3, max / power] {
            lens.extend([near.saturating_sub(1), near, near + 1]);
        }
    }
    let mut rng = Rng::new(max as u64);
    lens.extend((0..scaled(200)).map(|_| rng.between(1, max)));
    lens.retain(|len| (1..=max).contains(len));
    lens.sort_unstable();
    lens.dedup();
    lens.into_iter()
}
