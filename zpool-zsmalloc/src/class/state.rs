//! One size class: its zspages, which slots and frames of them are in use, and where the next
//! object goes.
//!
//! The class's lock protects everything here. Nothing here allocates, frees, or calls code outside
//! this crate.
//!
//! ```text
//!   members  | Member  | Member  | Member  |      dense: the last member fills a gap
//!   bits     | w words | w words | w words |      a bit per slot, set while it is claimed
//! ```
//!
//! | module | purpose |
//! |---|---|
//! | `storage` | the two vectors, which grow and shrink outside the lock |
//! | `members` | zspages come, go, are isolated and lose frames |
//! | `claims` | finds the slot that the next object goes to |
//! | `slots` | marks a slot claimed or free and keeps the counts in step |
//!
//! A member is named by its index, `local`. Outside this folder an index is valid only as long as
//! the lock is held.

mod claims;
mod members;
mod slots;
mod storage;

pub(crate) use self::claims::{ClaimedSlot, Shortage};
pub(crate) use self::members::PartialZspage;
pub(crate) use self::storage::MemberStorage;
use super::counts::ClassCounts;
use super::fullness::{Group, Groups, Linked, Links, NIL, ROWS};
use crate::geometry::slot_map::SlotMap;

/// One zspage, as far as its class's lock protects it.
#[derive(Debug)]
pub(super) struct Member {
    /// Resident frames, as bits: the source has charged them.
    pub(super) resident: u64,
    /// Id in the table of zspages.
    pub(super) id: u32,
    links: Links,
    /// Slots claimed.
    pub(super) inuse: u16,
    /// Slots not claimed that lie in resident frames.
    pub(super) open: u16,
    /// Compaction or release works on it: no further slot of it is claimed.
    pub(super) isolated: bool,
    /// The row of `pages_by_fullness` that it is counted in.
    row: u8,
}
const _: () = assert!(size_of::<Member>() <= 32, "counts into the density of every pool");

impl Linked for Member {
    fn links(&mut self) -> &mut Links {
        &mut self.links
    }
}

/// Units of a peak per slot. [`ClassState::lower_peak`] rounds down to a unit, so that a peak ends.
/// With a whole slot as the unit, a class that had shrunk by a few slots would forget its peak
/// within as many jobs.
const PEAK_UNIT: usize = 8;

/// The state of a class.
#[derive(Debug)]
pub(crate) struct ClassState {
    slot_map: SlotMap,
    storage: MemberStorage,
    groups: Groups,
    /// Slots claimed. 32 bits suffice for all counts of a class, because there are no more handles.
    objects: u32,
    /// The recent maximum of slots claimed at a time, in units of [`PEAK_UNIT`] per slot.
    peak: u32,
    /// Open slots of all zspages that are not isolated.
    open: u32,
    /// Resident frames.
    resident: u32,
    /// Resident frames of the zspages in the group of empty ones.
    idle: u32,
    /// Slots released so far. Wraps.
    releases: u32,
    /// The gain of this class when the pool's figures were last updated with it.
    noted_gain: u32,
    /// Zspages whose tail is resident.
    tails: u32,
    /// Zspages by fullness.
    by_row: [u32; ROWS],
    /// Bytes of claimed slots in frames that are not resident: an object may be shorter than its
    /// slot.
    absent: usize,
    /// Bytes of the objects in all claimed slots, as they were when the slots were claimed: see
    /// `MagazineSet::payload_delta`.
    payload: usize,
}

impl ClassState {
    pub(super) fn new(slot_map: SlotMap) -> ClassState {
        ClassState {
            slot_map,
            storage: MemberStorage::default(),
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

    /// Takes the state out and leaves an empty class, for the end of the pool.
    pub(crate) fn take(&mut self) -> ClassState {
        let empty = ClassState::new(self.slot_map);
        core::mem::replace(self, empty)
    }

    #[inline]
    pub(crate) fn slot_map(&self) -> &SlotMap {
        &self.slot_map
    }

    /// Returns the slots claimed.
    #[inline]
    pub(crate) fn objects(&self) -> usize {
        self.objects as usize
    }

    /// Returns the zspages, isolated ones included.
    pub(crate) fn zspages(&self) -> usize {
        self.storage.members.len()
    }

    /// Iterates over the ids of all zspages.
    pub(crate) fn into_ids(self) -> impl Iterator<Item = u32> {
        self.storage.members.into_iter().map(|member| member.id)
    }

    /// Returns the open slots of all zspages that are not isolated.
    #[inline]
    pub(crate) fn open(&self) -> usize {
        self.open as usize
    }

    /// Returns the resident frames.
    #[inline]
    pub(crate) fn resident(&self) -> usize {
        self.resident as usize
    }

    /// Returns the resident frames of the zspages in the group of empty ones.
    #[inline]
    pub(crate) fn idle(&self) -> usize {
        self.idle as usize
    }

    /// Returns the frames that packing the class to the front would free.
    pub(crate) fn gain(&self) -> usize {
        self.frames_beyond(self.objects())
    }

    /// Returns the frames that would be free if the class were packed and had as many objects as
    /// at its recent peak.
    pub(crate) fn surplus(&self) -> usize {
        self.frames_beyond(self.peak())
    }

    fn frames_beyond(&self, objects: usize) -> usize {
        self.resident().saturating_sub(self.slot_map.frames_needed(objects))
    }

    /// Notes the gain. Returns the one noted before, and this one.
    pub(super) fn note_gain(&mut self) -> (usize, usize) {
        let gain = self.gain();
        (core::mem::replace(&mut self.noted_gain, gain as u32) as usize, gain)
    }

    /// Counts releases. Returns how many there were so far; wraps.
    #[inline]
    pub(super) fn count_releases(&mut self, count: u32) -> u32 {
        self.releases = self.releases.wrapping_add(count);
        self.releases
    }

    /// Returns the counts that [`recount`](Self::recount) would find, without a walk.
    pub(crate) fn counts(&self) -> ClassCounts {
        let tail = self.tails as usize * self.slot_map.tail().1;
        let by_fullness = self.by_row.map(|count| count as usize);
        ClassCounts { absent: self.absent, tail, by_fullness }
    }

    /// Returns the bytes of the objects in all claimed slots, as they were when these were claimed.
    pub(crate) fn payload(&self) -> usize {
        self.payload
    }

    /// Returns the recent maximum of slots claimed at a time, rounded up.
    pub(crate) fn peak(&self) -> usize {
        (self.peak as usize).div_ceil(PEAK_UNIT)
    }

    /// Lowers the peak: of its distance above the slots claimed now, `keep`/`of` stay. Returns
    /// whether it was above them.
    pub(crate) fn lower_peak(&mut self, keep: usize, of: usize) -> bool {
        let (peak, now) = (self.peak as usize, self.objects() * PEAK_UNIT);
        debug_assert!(peak >= now, "every claim raises the peak");
        let above = peak - now;
        self.peak = (now + above * keep / of) as u32;
        above > 0
    }

    pub(super) fn member(&self, local: u32) -> &Member {
        &self.storage.members[local as usize]
    }

    pub(super) fn bits(&self, local: u32) -> &[u64] {
        let words = usize::from(self.slot_map.words);
        &self.storage.bits[local as usize * words..][..words]
    }

    /// Returns the first member of a group.
    pub(super) fn head(&self, group: Group) -> Option<u32> {
        self.groups.head(group)
    }

    /// Iterates over the members of a group.
    fn list(&self, group: Group) -> impl Iterator<Item = u32> {
        core::iter::successors(self.head(group), |&local| self.next(local))
    }

    /// Returns the member after this one in its group.
    pub(super) fn next(&self, local: u32) -> Option<u32> {
        Some(self.member(local).links.next).filter(|&next| next != NIL)
    }

    pub(super) fn group(&self, local: u32) -> Group {
        self.member(local).links.group
    }
}
