//! A packed entry of the index: 16 bytes, one of which tells the kinds of entries and an empty
//! bucket apart.
//!
//! ```text
//!   object       | handle: 8 bytes         | state 3 | metadata: 5 bytes, the last is the tag |
//!   same-filled  | the word: 8 bytes       | state 3 | length 3                     |         |
//!   large        | number of the value: 4  | state 3 |                              |         |
//!   backed       | place in the tier: 12   | state 3 |                              |         |
//!
//!   state        | distance from home: 11 bits | pool: 9 bits | idle: 2 bits | heat: 2 bits |
//! ```
//!
//! The distance belongs to the [table](crate::index::table), the pool's number to the shard's [list
//! of pools](crate::index::pool_refs), the heat to the [clock](crate::index::clock), and idleness
//! to the clock of the [cold pool](crate::index::shard). Lengths are packed by
//! [`meta`](crate::index::packed_meta).

use zpool_core::Handle;

use crate::index::packed_meta::{PackedLen, PackedMeta};
use crate::value::tier_place::TierPlace;

/// Packed value of a key. Owns the handle but cannot free it: that takes the pool, which the shard
/// knows.
#[derive(Debug)]
pub(crate) enum PackedEntry {
    /// A block that is eight bytes repeated, and in no pool.
    SameFilled { word: [u8; 8], len: PackedLen, state: EntryState },
    /// A block in a pool.
    Pooled { handle: Handle, state: EntryState, meta: PackedMeta },
    /// A value of several blocks: its number in the shard's list of them.
    Large { number: [u8; 4], state: EntryState },
    /// A block in the tier below memory.
    Backed { place: TierPlace, state: EntryState },
}

const _: () =
    assert!(size_of::<PackedEntry>() == 16, "every block has one: it is in every density figure");
const _: () = assert!(
    size_of::<Option<(u64, PackedEntry)>>() == 24,
    "an empty bucket needs no flag: the niche of PackedEntry marks it"
);

/// State of an entry: its distance from home, the number of its pool, and its heat.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct EntryState([u8; 3]);

const DISTANCE_BITS: u32 = 11;
const POOL_BITS: u32 = 9;
const IDLE_BITS: u32 = 2;
const HEAT_BITS: u32 = 2;
const _: () = assert!(DISTANCE_BITS + POOL_BITS + IDLE_BITS + HEAT_BITS == 24, "three bytes");
const POOL_SHIFT: u32 = DISTANCE_BITS;
const IDLE_SHIFT: u32 = POOL_SHIFT + POOL_BITS;
const HEAT_SHIFT: u32 = IDLE_SHIFT + IDLE_BITS;

/// How long an entry was not used, as the clock of the cold pool has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Idle {
    /// It was used, or this is not known.
    No = 0,
    /// It had no heat at the latest turn.
    ForATurn = 1,
    /// It was not used for two turns, but would not become smaller: it stays until it is used.
    Kept = 2,
}

impl EntryState {
    /// How far from its home an entry may be.
    pub(crate) const MAX_DISTANCE: usize = (1 << DISTANCE_BITS) - 1;
    /// Pools that the entries of a shard may be in.
    pub(crate) const MAX_POOLS: usize = 1 << POOL_BITS;
    /// The most that an entry can be warmed.
    pub(crate) const MAX_HEAT: u32 = (1 << HEAT_BITS) - 1;

    /// Packs an entry in `pool` that is in no table yet.
    #[inline]
    pub(crate) fn in_pool(pool: u16) -> EntryState {
        debug_assert!(usize::from(pool) < EntryState::MAX_POOLS);
        EntryState::pack(u32::from(pool) << POOL_SHIFT)
    }

    #[inline]
    fn bits(self) -> u32 {
        u32::from_le_bytes([self.0[0], self.0[1], self.0[2], 0])
    }

    #[inline]
    fn pack(bits: u32) -> EntryState {
        let [a, b, c, _] = bits.to_le_bytes();
        EntryState([a, b, c])
    }

    #[inline]
    pub(crate) fn distance(self) -> usize {
        self.bits() as usize & EntryState::MAX_DISTANCE
    }

    #[inline]
    pub(crate) fn set_distance(&mut self, distance: usize) {
        debug_assert!(distance <= EntryState::MAX_DISTANCE);
        *self =
            EntryState::pack(self.bits() & !(EntryState::MAX_DISTANCE as u32) | distance as u32);
    }

    #[inline]
    pub(crate) fn pool(self) -> u16 {
        (self.bits() >> POOL_SHIFT) as u16 & (EntryState::MAX_POOLS - 1) as u16
    }

    #[inline]
    pub(crate) fn set_pool(&mut self, pool: u16) {
        debug_assert!(usize::from(pool) < EntryState::MAX_POOLS);
        let others = !((EntryState::MAX_POOLS as u32 - 1) << POOL_SHIFT);
        *self = EntryState::pack(self.bits() & others | u32::from(pool) << POOL_SHIFT);
    }

    #[inline]
    pub(crate) fn idle(self) -> Idle {
        match self.bits() >> IDLE_SHIFT & ((1 << IDLE_BITS) - 1) {
            0 => Idle::No,
            1 => Idle::ForATurn,
            _ => Idle::Kept,
        }
    }

    #[inline]
    pub(crate) fn set_idle(&mut self, idle: Idle) {
        let others = !(((1 << IDLE_BITS) - 1) << IDLE_SHIFT);
        *self = EntryState::pack(self.bits() & others | (idle as u32) << IDLE_SHIFT);
    }

    /// Returns whether the clock of the cold pool found the entry unused when it came by last, and
    /// the entry was not used since.
    #[inline]
    pub(crate) fn is_idle(self) -> bool {
        self.heat() == 0 && self.idle() != Idle::No
    }

    #[inline]
    pub(crate) fn heat(self) -> u32 {
        self.bits() >> HEAT_SHIFT
    }

    #[inline]
    pub(crate) fn set_heat(&mut self, heat: u32) {
        debug_assert!(heat <= EntryState::MAX_HEAT);
        *self = EntryState::pack(self.bits() & ((1 << HEAT_SHIFT) - 1) | heat << HEAT_SHIFT);
    }
}

impl PackedEntry {
    #[inline]
    pub(crate) fn state(&self) -> EntryState {
        match self {
            PackedEntry::SameFilled { state, .. }
            | PackedEntry::Pooled { state, .. }
            | PackedEntry::Large { state, .. }
            | PackedEntry::Backed { state, .. } => *state,
        }
    }

    #[inline]
    pub(crate) fn state_mut(&mut self) -> &mut EntryState {
        match self {
            PackedEntry::SameFilled { state, .. }
            | PackedEntry::Pooled { state, .. }
            | PackedEntry::Large { state, .. }
            | PackedEntry::Backed { state, .. } => state,
        }
    }

    /// Warms the entry, so that the clock passes it one turn more. Writes only if that changes
    /// something, so that hot entries stay clean in the caches.
    #[inline]
    pub(crate) fn warm(&mut self) {
        let state = self.state_mut();
        let heat = state.heat();
        if heat < EntryState::MAX_HEAT {
            state.set_heat(heat + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_a_place_do_not_touch_each_other() {
        for pool in [0, 1, 300, EntryState::MAX_POOLS as u16 - 1] {
            for distance in [0, 1, EntryState::MAX_DISTANCE] {
                for heat in 0..=EntryState::MAX_HEAT {
                    let mut state = EntryState::in_pool(pool);
                    state.set_heat(heat);
                    state.set_distance(distance);
                    assert_eq!(
                        (state.pool(), state.distance(), state.heat()),
                        (pool, distance, heat)
                    );
                    state.set_pool(5);
                    assert_eq!((state.pool(), state.distance(), state.heat()), (5, distance, heat));
                    for idle in [Idle::No, Idle::ForATurn, Idle::Kept, Idle::No] {
                        state.set_idle(idle);
                        assert_eq!(
                            (state.idle(), state.pool(), state.distance(), state.heat()),
                            (idle, 5, distance, heat)
                        );
                    }
                    state.set_pool(pool);
                    state.set_heat(0);
                    state.set_distance(0);
                    assert_eq!(state, EntryState::in_pool(pool));
                }
            }
        }
    }

    #[test]
    fn warming_ends_at_the_top() {
        let mut entry = PackedEntry::SameFilled {
            word: [0; 8],
            len: PackedLen::new(8),
            state: EntryState::default(),
        };
        (0..10).for_each(|_| entry.warm());
        assert_eq!((entry.state().heat(), entry.state().distance()), (EntryState::MAX_HEAT, 0));
    }
}
