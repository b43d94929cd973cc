//! Packing an object's place and length into an entry.

use super::PackedLocation;
use super::word::LOCATION_BITS;
use crate::geometry::size_class::{ClassTable, SizeClass};

/// The place of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Location {
    /// Id in the table of zspages.
    pub(crate) zspage: u32,
    /// Slot of the zspage.
    pub(crate) slot: u16,
}

/// The split of a packed location: slack and slot get as many bits as the pool's classes need, the
/// zspage gets the rest.
///
/// ```text
///   | zspage: the rest | slot: up to the slots of a zspage | slack: slot size - object length |
/// ```
#[derive(Debug, Clone, Copy)]
pub(crate) struct LocationLayout {
    slack_bits: u32,
    zspage_shift: u32,
    // Stored, because every insert, read and free unpacks a location.
    slack_mask: u64,
    slot_mask: u64,
}

impl LocationLayout {
    pub(crate) fn of(table: &ClassTable) -> LocationLayout {
        let slack = |c: &SizeClass| c.slot_bytes - c.shortest;
        let most_slack =
            table.classes().iter().map(slack).max().unwrap_or(0) as usize + table.overflow_reach();
        let most_slots = table.classes().iter().map(|c| c.slots).max().unwrap_or(1);
        let bits = |largest: usize| usize::BITS - largest.leading_zeros();
        let (slack_bits, slot_bits) = (bits(most_slack), bits(usize::from(most_slots - 1)));
        let mask = |bits: u32| (1 << bits) - 1;
        let (slack_mask, slot_mask) = (mask(slack_bits), mask(slot_bits));
        LocationLayout { slack_bits, zspage_shift: slack_bits + slot_bits, slack_mask, slot_mask }
    }

    /// Returns how many zspages a location can name.
    pub(crate) fn zspages(self) -> u32 {
        let bits = LOCATION_BITS - self.zspage_shift;
        1u32.checked_shl(bits).unwrap_or(u32::MAX)
    }

    #[inline]
    pub(crate) fn pack(self, at: Location, slack: u32) -> PackedLocation {
        let place =
            u64::from(at.zspage) << self.zspage_shift | u64::from(at.slot) << self.slack_bits;
        PackedLocation(place | u64::from(slack))
    }

    #[inline]
    pub(crate) fn unpack(self, location: PackedLocation) -> (Location, u32) {
        let slack = (location.0 & self.slack_mask) as u32;
        let slot = (location.0 >> self.slack_bits & self.slot_mask) as u16;
        let zspage = (location.0 >> self.zspage_shift) as u32;
        (Location { zspage, slot }, slack)
    }
}

#[cfg(all(test, not(zpool_loom)))]
mod tests {
    use super::*;
    use crate::collections::grow_only_table::CAPACITY;
    use crate::geometry::size_class::{ClassConfig, MAX_OBJECT_LEN};

    /// The numbers are those of the crate's documentation, section "Limits".
    #[test]
    fn zspages_are_as_many_as_documented() {
        let zspages = |step, chain, frame_size, max_object_len| {
            let config = ClassConfig { step, chain, frame_size, max_object_len };
            LocationLayout::of(&ClassTable::new(config).unwrap()).zspages().min(CAPACITY)
        };
        let (step, chain) = (ClassConfig::DEFAULT_STEP, ClassConfig::DEFAULT_CHAIN);
        assert_eq!(zspages(step, chain, 4096, 4096), (1 << 28) - 64);
        assert_eq!(zspages(step, 1, 4096, 4096), 1 << 24);
        assert_eq!(zspages(step, chain, 4096, 65_536), 1 << 25);
        assert_eq!(zspages(step, chain, 65_536, 4096), 1 << 21);
        assert_eq!(zspages(8, 1, 65_536, MAX_OBJECT_LEN), 1 << 14);
    }

    /// A packed location has room for the slots and the slack of every class table.
    #[test]
    fn every_class_table_fits_a_location() {
        for frame_size in [4096, 16_384, 65_536] {
            for (step, chain) in [(8, 1), (16, 16), (16, 32), (8, 64), (256, 1)] {
                for max_object_len in [1, 4096, 65_536, MAX_OBJECT_LEN] {
                    let config = ClassConfig { frame_size, step, chain, max_object_len };
                    let table = ClassTable::new(config).unwrap();
                    let layout = LocationLayout::of(&table);
                    assert!(layout.zspages() >= 1 << 13, "{config:?}: {layout:?}");
                    let at = Location {
                        zspage: layout.zspages() - 1,
                        slot: table.classes()[0].slots - 1,
                    };
                    let slack = (table.classes()[0].slot_bytes - 1) + table.overflow_reach() as u32;
                    assert_eq!(layout.unpack(layout.pack(at, slack)), (at, slack));
                }
            }
        }
    }
}
