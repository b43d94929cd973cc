//! What the content of a slot says: where an object is and how long.

use super::PackedLocation;
use super::word::CONTENT_BITS;
use crate::geometry::size_class::{ClassTable, SizeClass};

/// Where an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Location {
    /// Index in the table of zspages.
    pub(crate) zspage: u32,
    /// Slot of the zspage.
    pub(crate) object: u16,
}

/// How the content of a slot is split: as many bits for slack and object as the pool's classes need, the rest for the zspage.
///
/// ```text
///   | zspage: the rest | object: up to slots of a zspage | slack: slot size less the object's length |
/// ```
#[derive(Debug, Clone, Copy)]
pub(crate) struct LocationLayout {
    slack_bits: u32,
    zspage_shift: u32,
    // Kept, since every insert, read and free unpacks a content.
    slack_mask: u64,
    object_mask: u64,
}

impl LocationLayout {
    pub(crate) fn of(table: &ClassTable) -> LocationLayout {
        let slack = |c: &SizeClass| c.slot_bytes - c.shortest;
        let most_slack =
            table.classes().iter().map(slack).max().unwrap_or(0) as usize + table.reach();
        let most_objects = table.classes().iter().map(|c| c.slots).max().unwrap_or(1);
        let bits = |largest: usize| usize::BITS - largest.leading_zeros();
        let (slack_bits, object_bits) = (bits(most_slack), bits(usize::from(most_objects - 1)));
        let mask = |bits: u32| (1 << bits) - 1;
        let (slack_mask, object_mask) = (mask(slack_bits), mask(object_bits));
        LocationLayout {
            slack_bits,
            zspage_shift: slack_bits + object_bits,
            slack_mask,
            object_mask,
        }
    }

    /// Zspages that can be named.
    pub(crate) fn zspages(self) -> u32 {
        let bits = CONTENT_BITS - self.zspage_shift;
        1u32.checked_shl(bits).unwrap_or(u32::MAX)
    }

    #[inline]
    pub(crate) fn pack(self, at: Location, slack: u32) -> PackedLocation {
        let place =
            u64::from(at.zspage) << self.zspage_shift | u64::from(at.object) << self.slack_bits;
        PackedLocation(place | u64::from(slack))
    }

    #[inline]
    pub(crate) fn unpack(self, content: PackedLocation) -> (Location, u32) {
        let slack = (content.0 & self.slack_mask) as u32;
        let object = (content.0 >> self.slack_bits & self.object_mask) as u16;
        let zspage = (content.0 >> self.zspage_shift) as u32;
        (Location { zspage, object }, slack)
    }
}

#[cfg(all(test, not(zpool_loom)))]
mod tests {
    use super::*;
    use crate::geometry::size_class::{ClassConfig, MAX_OBJECT_LEN};
    use crate::zspage::table::ZspageTable;

    /// As the crate's documentation says.
    #[test]
    fn zspages_are_as_many_as_documented() {
        let zspages = |step, chain, frame_size, max_object_len| {
            let config = ClassConfig { step, chain, frame_size, max_object_len };
            let table =
                ZspageTable::new(LocationLayout::of(&ClassTable::new(config).unwrap()).zspages());
            table.limit()
        };
        let (step, chain) = (ClassConfig::DEFAULT_STEP, ClassConfig::DEFAULT_CHAIN);
        assert_eq!(zspages(step, chain, 4096, 4096), (1 << 28) - 64);
        assert_eq!(zspages(step, 1, 4096, 4096), 1 << 24);
        assert_eq!(zspages(step, chain, 4096, 65_536), 1 << 25);
        assert_eq!(zspages(step, chain, 65_536, 4096), 1 << 21);
        assert_eq!(zspages(8, 1, 65_536, MAX_OBJECT_LEN), 1 << 14);
    }

    #[test]
    fn the_content_has_room_for_every_class_table() {
        for frame_size in [4096, 16_384, 65_536] {
            for (step, chain) in [(8, 1), (16, 16), (16, 32), (8, 64), (256, 1)] {
                for max_object_len in [1, 4096, 65_536, MAX_OBJECT_LEN] {
                    let config = ClassConfig { frame_size, step, chain, max_object_len };
                    let table = ClassTable::new(config).unwrap();
                    let layout = LocationLayout::of(&table);
                    assert!(layout.zspages() >= 1 << 13, "{config:?}: {layout:?}");
                    let at = Location {
                        zspage: layout.zspages() - 1,
                        object: table.classes()[0].slots - 1,
                    };
                    let slack = (table.classes()[0].slot_bytes - 1) + table.reach() as u32;
                    assert_eq!(layout.unpack(layout.pack(at, slack)), (at, slack));
                }
            }
        }
    }
}
