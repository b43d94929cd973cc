//! Size classes: how long a zspage of each class is, and how many slots it has.
//!
//! ```text
//!   class of 1456-byte slots, frames of 4096 bytes, chain 16:  16 frames, 45 slots, 16 bytes left
//!
//!   frame   |    0      |    1      |    2      |  ...  |    15     |
//!   slot    |  0  |  1  |  2  |  3  |  4  |  ...          |  44  |##|  tail: no further slot fits
//! ```
//!
//! A zspage is contiguous memory, so slots lie one after the other across frame boundaries. A class
//! uses the shortest chain of frames with the smallest tail. If two neighbouring sizes have zspages
//! of as many frames and as many slots, they become one class: a class of its own would only keep
//! another half-empty zspage.

use core::fmt;

use zpool_core::CreateError;

use super::slot_map::SlotMap;

/// The most frames of a zspage: a word of bits stands for its resident frames.
pub(crate) const MAX_CHAIN: usize = 64;

/// The most slots of a zspage. They fill whole words of bits, so that stepping to the next word
/// does not overflow a 16-bit slot number, and `u16::MAX` is free to mean "none".
const MAX_SLOTS: usize = 65_472;
const _: () = assert!(MAX_SLOTS < u16::MAX as usize && MAX_SLOTS.is_multiple_of(64));
const _: () =
    assert!(MAX_FRAME_SIZE / MIN_STEP <= MAX_SLOTS, "a chain of one frame is always short enough");

/// The largest `max_object_len`, in bytes: 64 frames of the smallest supported size.
pub const MAX_OBJECT_LEN: usize = 64 * 4096;

/// Parameters of a class table. Sizes are in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClassConfig {
    /// Frame size of the page source.
    pub frame_size: usize,
    /// Distance between size classes: a power of two from 8 to 256.
    pub step: usize,
    /// The most frames of a zspage, 1 to 64. Longer objects get as many frames as they need.
    pub chain: usize,
    /// The longest object. It is also the largest class, but no class is smaller than a step.
    pub max_object_len: usize,
}

impl ClassConfig {
    /// Default distance between classes, in bytes.
    pub const DEFAULT_STEP: usize = 16;
    /// Default longest chain, in frames. `zlab density` shows the effect of other lengths.
    pub const DEFAULT_CHAIN: usize = 64;

    /// Returns the default configuration for objects of up to `max_object_len` bytes over frames
    /// of `frame_size` bytes.
    pub fn new(frame_size: usize, max_object_len: usize) -> ClassConfig {
        ClassConfig {
            frame_size,
            step: Self::DEFAULT_STEP,
            chain: Self::DEFAULT_CHAIN,
            max_object_len,
        }
    }

    /// Checks that a table can be made of these values.
    ///
    /// # Errors
    ///
    /// [`CreateError::BadValue`] names the first value that is out of range.
    pub fn check(&self) -> Result<(), CreateError> {
        let bad = |name: &str, value: usize, expected: &str| {
            Err(CreateError::BadValue {
                name: name.into(),
                value: value.to_string(),
                expected: expected.into(),
            })
        };
        if !(self.step.is_power_of_two() && (MIN_STEP..=256).contains(&self.step)) {
            return bad("step", self.step, EXPECTED_STEP);
        }
        if !(1..=MAX_CHAIN).contains(&self.chain) {
            return bad("chain", self.chain, EXPECTED_CHAIN);
        }
        if !(1..=MAX_OBJECT_LEN).contains(&self.max_object_len) {
            return bad("max_object_len", self.max_object_len, "1 to 262144 bytes");
        }
        if !(self.frame_size.is_power_of_two()
            && (4096..=MAX_FRAME_SIZE).contains(&self.frame_size))
        {
            return bad("frame_size", self.frame_size, "a power of two from 4096 to 65536 bytes");
        }
        Ok(())
    }
}

pub(crate) const EXPECTED_STEP: &str = "a power of two from 8 to 256 (bytes)";
pub(crate) const EXPECTED_CHAIN: &str = "1 to 64 (frames)";
const MIN_STEP: usize = 8;
const MAX_FRAME_SIZE: usize = 65_536;
const _: () = assert!(MAX_OBJECT_LEN == 262_144, "as the message above says");

/// One size class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SizeClass {
    /// Bytes of a slot.
    pub slot_bytes: u32,
    /// Frames of a zspage.
    pub frames: u16,
    /// Slots of a zspage.
    pub slots: u16,
    /// Bytes at the end of a zspage that no slot uses.
    pub tail_bytes: u32,
    /// The shortest object of this class, in bytes.
    pub shortest: u32,
}

/// Index of a size class.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClassIndex(pub(crate) u16);

impl fmt::Debug for ClassIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "class {}", self.0)
    }
}

/// All size classes of a configuration, in order of size.
#[derive(Debug)]
pub struct ClassTable {
    config: ClassConfig,
    classes: Vec<SizeClass>,
    /// Class of the lengths `i * step + 1 ..= (i + 1) * step`.
    by_step: Vec<ClassIndex>,
    step_shift: u32,
}

impl ClassTable {
    /// Computes the table. The time is proportional to `max_object_len / step * chain`.
    ///
    /// # Errors
    ///
    /// Those of [`ClassConfig::check`].
    pub fn new(config: ClassConfig) -> Result<ClassTable, CreateError> {
        config.check()?;
        let steps = config.max_object_len.div_ceil(config.step);
        let mut descending: Vec<SizeClass> = Vec::new();
        let mut from_largest = vec![0; steps];
        for i in (0..steps).rev() {
            let size = ((i + 1) * config.step).min(config.max_object_len.max(config.step));
            let class = min_waste_class(size, i * config.step + 1, &config);
            match descending.last_mut() {
                Some(last) if (last.frames, last.slots) == (class.frames, class.slots) => {
                    last.shortest = class.shortest;
                }
                _ => descending.push(class),
            }
            from_largest[i] = descending.len() - 1;
        }
        let largest = descending.len() - 1;
        let by_step =
            from_largest.into_iter().map(|at| ClassIndex((largest - at) as u16)).collect();
        descending.reverse();
        Ok(ClassTable {
            config,
            classes: descending,
            by_step,
            step_shift: config.step.trailing_zeros(),
        })
    }

    /// Returns the configuration that the table was made for.
    pub fn config(&self) -> &ClassConfig {
        &self.config
    }

    /// Returns the classes, smallest first.
    pub fn classes(&self) -> &[SizeClass] {
        &self.classes
    }

    /// Returns the class of objects of `len` bytes.
    ///
    /// # Panics
    ///
    /// May panic if `len` is 0 or more than `max_object_len`.
    #[inline]
    pub fn class_of(&self, len: usize) -> ClassIndex {
        self.by_step[(len - 1) >> self.step_shift]
    }

    /// Returns the class of this index.
    #[inline]
    pub(crate) fn get(&self, class: ClassIndex) -> &SizeClass {
        &self.classes[usize::from(class.0)]
    }

    /// Returns the bytes of a zspage of this class.
    #[inline]
    pub(crate) fn zspage_bytes(&self, class: ClassIndex) -> usize {
        usize::from(self.get(class).frames) * self.config.frame_size
    }

    /// Returns the bytes that an object of `len` bytes occupies, with its share of the unused bytes
    /// of a full zspage.
    pub(crate) fn footprint(&self, len: usize) -> usize {
        let class = self.get(self.class_of(len.clamp(1, self.config.max_object_len)));
        let slots = usize::from(class.slots);
        let bytes = SlotMap::of(self, class).frames_needed(slots) * self.config.frame_size;
        bytes.div_ceil(slots).max(len)
    }

    /// Returns the most bytes by which a slot of a larger class may exceed the slot size of an
    /// object's own class, if the object overflows into that class.
    pub(crate) fn overflow_reach(&self) -> usize {
        self.config.frame_size / 64
    }

    /// Returns the classes that objects of `class` may overflow into, smallest first, each with the
    /// bytes that a slot of it wastes.
    pub(crate) fn overflow_targets(
        &self,
        class: ClassIndex,
    ) -> impl Iterator<Item = (ClassIndex, usize)> {
        let own = self.get(class).slot_bytes;
        let larger = self.classes.iter().enumerate().skip(usize::from(class.0) + 1);
        larger
            .map(move |(to, larger)| (ClassIndex(to as u16), (larger.slot_bytes - own) as usize))
            .take_while(|&(_, waste)| waste <= self.overflow_reach())
    }
}

/// Returns the class of slots of `size` bytes. Of all chains with no more than [`MAX_SLOTS`] slots
/// it has the shortest with the smallest tail.
fn min_waste_class(size: usize, shortest: usize, config: &ClassConfig) -> SizeClass {
    let fewest = size.div_ceil(config.frame_size);
    let tail = |frames: usize| frames * config.frame_size % size;
    let most = config.chain.min(MAX_SLOTS * size / config.frame_size).max(fewest);
    let frames = (fewest..=most).min_by_key(|&k| tail(k)).unwrap_or(fewest);
    let slots = frames * config.frame_size / size;
    SizeClass {
        slot_bytes: size as u32,
        frames: frames as u16,
        slots: u16::try_from(slots).expect("the chain is short enough"),
        tail_bytes: tail(frames) as u32,
        shortest: shortest as u32,
    }
}

#[cfg(all(test, not(zpool_loom)))]
mod tests {
    use super::*;

    fn table(chain: usize, max: usize) -> ClassTable {
        ClassTable::new(ClassConfig { chain, ..ClassConfig::new(4096, max) }).unwrap()
    }

    /// Numbers of classes of the min-waste rule over 4 KiB frames, computed independently for sizes
    /// from 32 bytes up (this table begins at 16).
    #[test]
    fn table_has_as_many_classes_as_the_rule() {
        for (chain, distinct) in [(4, 69), (8, 119), (16, 192)] {
            let from_32 =
                table(chain, 4096).classes().iter().filter(|c| c.slot_bytes >= 32).count();
            assert_eq!(from_32, distinct, "chain {chain}");
        }
    }

    /// Single classes are those that the min-waste rule yields by hand.
    #[test]
    fn single_classes_follow_the_rule() {
        let class = |chain, size| *table(chain, 4096).get(table(chain, 4096).class_of(size));
        let of = |c: SizeClass| (c.slot_bytes, c.frames, c.slots, c.tail_bytes);
        assert_eq!(of(class(16, 1456)), (1456, 16, 45, 16));
        assert_eq!(of(class(16, 1648)), (1648, 15, 37, 464));
        assert_eq!(of(class(8, 3600)), (3632, 8, 9, 80));
        assert_eq!(of(class(4, 3000)), (3072, 3, 4, 0));
        assert_eq!(of(class(1, 4096)), (4096, 1, 1, 0));
    }

    /// Every length fits the slots of its class and of no smaller class.
    #[test]
    fn class_of_length_is_smallest_that_fits() {
        for (frame_size, step, max) in
            [(4096, 16, 4096), (4096, 8, 5000), (16_384, 16, 65_536), (65_536, 64, MAX_OBJECT_LEN)]
        {
            let t =
                ClassTable::new(ClassConfig { frame_size, step, chain: 16, max_object_len: max })
                    .unwrap();
            assert_eq!(t.classes().last().unwrap().slot_bytes as usize, max);
            for len in 1..=max {
                let class = t.class_of(len);
                assert!(t.get(class).slot_bytes as usize >= len);
                assert!(t.get(class).shortest as usize <= len);
                assert!(
                    class.0 == 0
                        || (t.classes()[usize::from(class.0) - 1].slot_bytes as usize) < len
                );
            }
        }
    }

    /// Slots of a few bytes that do not divide a large frame would exceed 65 535 per zspage in the
    /// chain with the smallest tail, so the chain is shortened.
    #[test]
    fn tiny_slots_shorten_the_chain() {
        for frame_size in [4096, 16_384, 65_536] {
            for (step, chain) in [(8, 64), (16, 64), (8, 1), (16, 16)] {
                for max_object_len in 1..=64 {
                    let config = ClassConfig { frame_size, step, chain, max_object_len };
                    let t = ClassTable::new(config).unwrap();
                    for class in t.classes() {
                        let slots =
                            usize::from(class.frames) * frame_size / class.slot_bytes as usize;
                        assert_eq!(usize::from(class.slots), slots, "{config:?}: {class:?}");
                        assert!((1..=MAX_SLOTS).contains(&slots), "{config:?}: {class:?}");
                        assert!(
                            (1..=chain).contains(&usize::from(class.frames)),
                            "{config:?}: {class:?}"
                        );
                    }
                }
            }
        }
    }
}
