//! One size class: its zspages, which slots and frames of them are in use, and where the next object goes.
//!
//! The class's lock protects everything here. Nothing here allocates, frees, or calls code outside
//! of this crate.
//!
//! ```text
//!   members  | Occupancy | Occupancy | Occupancy |      dense: a member that goes is replaced by the last one
//!   bits     | w words   | w words   | w words   |      a bit a slot, set while it is claimed
//! ```
//!
//! | module | what it does |
//! |---|---|
//! | `room` | the two vectors, which grow and shrink outside the lock |
//! | `members` | zspages come, go, are isolated and lose frames |
//! | `claims` | finds the slot that the next object goes to |
//! | `slots` | marks a slot claimed or free and keeps the counts in step |

mod claims;
mod members;
mod slots;
mod storage;

pub(crate) use self::claims::{ClaimedSlot, Shortage};
pub(crate) use self::storage::MemberStorage;
use crate::class::fullness::{Group, Groups, Linked, Links, NIL, ROWS};
use crate::geometry::slot_map::SlotMap;

/// The part of a zspage that its class's lock protects.
#[derive(Debug)]
pub(crate) struct Occupancy {
    /// Frames that are resident: charged to the source.
    pub(crate) resident: u64,
    /// Index in the table of zspages.
    pub(crate) id: u32,
    links: Links,
    /// Slots claimed.
    pub(crate) inuse: u16,
    /// Slots not claimed that lie in resident frames.
    pub(crate) open: u16,
    /// Compaction or housekeeping works on it: no slot of it is claimed.
    pub(crate) isolated: bool,
    /// The row of `pages_by_fullness` that it is counted in.
    row: u8,
}
const _: () = assert!(size_of::<Occupancy>() <= 32, "counts into the density of every pool");

impl Linked for Occupancy {
    fn links(&mut self) -> &mut Links {
        &mut self.links
    }
}

/// What a walk over the zspages of a class counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct ClassCounts {
    /// Bytes of claimed slots in frames that are not resident.
    pub(crate) absent: usize,
    /// Bytes of tails in resident frames.
    pub(crate) tail: usize,
    /// Zspages by fullness.
    pub(crate) by_fullness: [usize; ROWS],
}

/// A slot, in the unit of a peak. [`ClassState::lower_peak`] rounds up to a unit, so that a peak
/// ends. With a whole slot as the unit, a class that had shrunk by a few slots would forget that
/// within as many jobs.
const PEAK_UNIT: usize = 8;

/// The state of a class.
#[derive(Debug)]
pub(crate) struct ClassState {
    pub(crate) slot_map: SlotMap,
    room: MemberStorage,
    groups: Groups,
    /// Slots claimed. 32 bits are enough for all counts of a class, since handles have no more.
    objects: u32,
    /// The recent maximum of slots claimed at a time, in parts of a slot: see [`PEAK_UNIT`].
    peak: u32,
    /// Open slots of all zspages that are not isolated.
    open: u32,
    /// Resident frames.
    resident: u32,
    /// Resident frames of the zspages in the group of empty ones.
    idle: u32,
    /// Slots released so far. Wraps.
    pub(crate) releases: u32,
    /// What this class had to gain when it was last looked at: see `housekeeping`.
    pub(crate) noted_gain: u32,
    /// Zspages whose tail is resident.
    tails: u32,
    /// Zspages by fullness.
    by_row: [u32; ROWS],
    /// Bytes of claimed slots in frames that are not resident: an object may be shorter than its
    /// slot.
    absent: usize,
    /// Bytes of the objects in all claimed slots, as they were when these were claimed: see
    /// `Spares::payload_shift`.
    payload: usize,
}

impl ClassState {
    pub(crate) fn new(slot_map: SlotMap) -> ClassState {
        ClassState {
            slot_map,
            room: MemberStorage::default(),
            groups: Groups::new(),
            objects: 0,
            peak: 0,
            open: 0,
            resident: 0,
            idle: 0,
            releases: 0,
            noted_gain: 0,
            tails: 0,
            by_row: [0; ROWS],
            absent: 0,
            payload: 0,
        }
    }

    /// Slots claimed.
    #[inline]
    pub(crate) fn objects(&self) -> usize {
        self.objects as usize
    }

    /// Open slots of all zspages that are not isolated.
    #[inline]
    pub(crate) fn open(&self) -> usize {
        self.open as usize
    }

    /// Resident frames.
    #[inline]
    pub(crate) fn resident(&self) -> usize {
        self.resident as usize
    }

    /// Resident frames of the zspages in the group of empty ones.
    #[inline]
    pub(crate) fn idle(&self) -> usize {
        self.idle as usize
    }

    /// Returns what a walk over the zspages of this class would count, without one.
    pub(crate) fn counted(&self) -> ClassCounts {
        let tail = self.tails as usize * self.slot_map.tail().1;
        ClassCounts {
            absent: self.absent,
            tail,
            by_fullness: self.by_row.map(|count| count as usize),
        }
    }

    /// Bytes of the objects in all claimed slots, as they were when these were claimed.
    pub(crate) fn payload(&self) -> usize {
        self.payload
    }

    pub(crate) fn members(&self) -> &[Occupancy] {
        &self.room.members
    }

    pub(crate) fn member(&self, local: u32) -> &Occupancy {
        &self.room.members[local as usize]
    }

    pub(crate) fn bits(&self, local: u32) -> &[u64] {
        let words = usize::from(self.slot_map.words);
        &self.room.bits[local as usize * words..][..words]
    }

    /// The first member of a group.
    pub(crate) fn head(&self, group: Group) -> Option<u32> {
        self.groups.head(group)
    }

    /// The members of a group.
    pub(crate) fn list(&self, group: Group) -> impl Iterator<Item = u32> {
        core::iter::successors(self.head(group), |&local| self.next(local))
    }

    /// The member after this one in its group.
    pub(crate) fn next(&self, local: u32) -> Option<u32> {
        Some(self.member(local).links.next).filter(|&next| next != NIL)
    }

    pub(crate) fn group(&self, local: u32) -> Group {
        self.member(local).links.group
    }

    /// The recent maximum of slots claimed at a time: what is left of it, rounded up.
    pub(crate) fn peak(&self) -> usize {
        (self.peak as usize).div_ceil(PEAK_UNIT)
    }

    /// Lowers the peak to `keep` parts of `of` of what it is above the slots claimed now. Returns
    /// whether it was above.
    pub(crate) fn lower_peak(&mut self, keep: usize, of: usize) -> bool {
        let (peak, now) = (self.peak as usize, self.objects() * PEAK_UNIT);
        debug_assert!(peak >= now, "every claim looks");
        let above = peak - now;
        self.peak = (now + above * keep / of) as u32;
        above > 0
    }
}
