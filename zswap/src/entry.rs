//! What the index keeps for a key, packed: 16 bytes, of which one byte says what it is and whether it is there at all.
//!
//! ```text
//!   object        | handle: 8 bytes                      | place 3 | lengths: 5 bytes, the last says what this is  |
//!   same-filled   | the word: 8 bytes                    | place 3 | length 3                        |             |
//!   large         | number of the value: 4 bytes         | place 3 |                                 |             |
//!
//!   place         | distance from home: 11 bits | pool: 11 bits | heat: 2 bits |
//! ```
//!
//! The distance belongs to the [table](crate::table), the pool's number to the shard's [list of pools](crate::pools), the heat to the [clock](crate::clock); lengths are
//! packed by [`lengths`](crate::lengths).

use zpool_core::Handle;

use crate::lengths::{Length, Lengths};

/// What is stored under a key. Owns the handle, but cannot free it: that takes the pool, which the shard knows.
#[derive(Debug)]
pub(crate) enum Entry {
    /// A block that is eight bytes repeated, and in no pool.
    Same { word: [u8; 8], len: Length, place: Place },
    /// A block in a pool.
    Object { handle: Handle, place: Place, lengths: Lengths },
    /// A value of several blocks: its number in the shard's list of them.
    Large { number: [u8; 4], place: Place },
}

const _: () = assert!(size_of::<Entry>() == 16, "one a block: it is part of every density figure");
const _: () =
    assert!(size_of::<Option<(u64, Entry)>>() == 24, "an empty place of a table costs no flag");

/// Where an entry is in the table, which pool it is in, and how lately it was used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Place([u8; 3]);

const DISTANCE_BITS: u32 = 11;
const POOL_BITS: u32 = 11;
const HEAT_BITS: u32 = 2;
const _: () = assert!(DISTANCE_BITS + POOL_BITS + HEAT_BITS == 24, "three bytes");
const POOL_SHIFT: u32 = DISTANCE_BITS;
const HEAT_SHIFT: u32 = DISTANCE_BITS + POOL_BITS;

impl Place {
    /// How far from its home an entry may be.
    pub(crate) const MAX_DISTANCE: usize = (1 << DISTANCE_BITS) - 1;
    /// Pools that the entries of a shard may be in.
    pub(crate) const MAX_POOLS: usize = 1 << POOL_BITS;
    /// The most that an entry can be warmed.
    pub(crate) const MAX_HEAT: u32 = (1 << HEAT_BITS) - 1;

    /// Of an entry in `pool`, not in a table yet.
    #[inline]
    pub(crate) fn in_pool(pool: u16) -> Place {
        debug_assert!(usize::from(pool) < Place::MAX_POOLS);
        Place::pack(u32::from(pool) << POOL_SHIFT)
    }

    #[inline]
    fn bits(self) -> u32 {
        u32::from_le_bytes([self.0[0], self.0[1], self.0[2], 0])
    }

    #[inline]
    fn pack(bits: u32) -> Place {
        let [a, b, c, _] = bits.to_le_bytes();
        Place([a, b, c])
    }

    #[inline]
    pub(crate) fn distance(self) -> usize {
        self.bits() as usize & Place::MAX_DISTANCE
    }

    #[inline]
    pub(crate) fn set_distance(&mut self, distance: usize) {
        debug_assert!(distance <= Place::MAX_DISTANCE);
        *self = Place::pack(self.bits() & !(Place::MAX_DISTANCE as u32) | distance as u32);
    }

    #[inline]
    pub(crate) fn pool(self) -> u16 {
        (self.bits() >> POOL_SHIFT) as u16 & (Place::MAX_POOLS - 1) as u16
    }

    #[inline]
    pub(crate) fn set_pool(&mut self, pool: u16) {
        debug_assert!(usize::from(pool) < Place::MAX_POOLS);
        let others = !((Place::MAX_POOLS as u32 - 1) << POOL_SHIFT);
        *self = Place::pack(self.bits() & others | u32::from(pool) << POOL_SHIFT);
    }

    #[inline]
    pub(crate) fn heat(self) -> u32 {
        self.bits() >> HEAT_SHIFT
    }

    #[inline]
    pub(crate) fn set_heat(&mut self, heat: u32) {
        debug_assert!(heat <= Place::MAX_HEAT);
        *self = Place::pack(self.bits() & ((1 << HEAT_SHIFT) - 1) | heat << HEAT_SHIFT);
    }
}

impl Entry {
    #[inline]
    pub(crate) fn place(&self) -> Place {
        match self {
            Entry::Same { place, .. }
            | Entry::Object { place, .. }
            | Entry::Large { place, .. } => *place,
        }
    }

    #[inline]
    pub(crate) fn place_mut(&mut self) -> &mut Place {
        match self {
            Entry::Same { place, .. }
            | Entry::Object { place, .. }
            | Entry::Large { place, .. } => place,
        }
    }

    /// Used once more: the clock passes it over a turn longer. Written only where it changes something, so that hot entries stay clean in the caches.
    #[inline]
    pub(crate) fn warm(&mut self) {
        let place = self.place_mut();
        let heat = place.heat();
        if heat < Place::MAX_HEAT {
            place.set_heat(heat + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_a_place_do_not_touch_each_other() {
        for pool in [0, 1, 1000, Place::MAX_POOLS as u16 - 1] {
            for distance in [0, 1, Place::MAX_DISTANCE] {
                for heat in 0..=Place::MAX_HEAT {
                    let mut place = Place::in_pool(pool);
                    place.set_heat(heat);
                    place.set_distance(distance);
                    assert_eq!(
                        (place.pool(), place.distance(), place.heat()),
                        (pool, distance, heat)
                    );
                    place.set_pool(5);
                    assert_eq!((place.pool(), place.distance(), place.heat()), (5, distance, heat));
                    place.set_pool(pool);
                    place.set_heat(0);
                    place.set_distance(0);
                    assert_eq!(place, Place::in_pool(pool));
                }
            }
        }
    }

    #[test]
    fn warming_ends_at_the_top() {
        let mut entry = Entry::Same { word: [0; 8], len: Length::new(8), place: Place::default() };
        (0..10).for_each(|_| entry.warm());
        assert_eq!((entry.place().heat(), entry.place().distance()), (Place::MAX_HEAT, 0));
    }
}
