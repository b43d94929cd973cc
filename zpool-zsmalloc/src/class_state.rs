//! One size class: its zspages, which slots and frames of them are in use, and where the next object goes.
//!
//! Everything here is under the lock of the class; nothing here calls anybody, allocates or frees.
//!
//! ```text
//!   members  | Occupancy | Occupancy | Occupancy |      dense: a member that goes is replaced by the last one
//!   bits     | w words   | w words   | w words   |      a bit a slot, set while it is claimed
//! ```

use crate::few::with_room;
use crate::fullness::{Group, Groups, Linked, Links, NIL, ROWS, is_last_of_row, row};
use crate::shape::{Shape, bit, count_set, first_clear, first_set, runs};
use crate::zspages::ZspageTable;

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
    /// Compaction or housekeeping works on it: nobody claims a slot.
    pub(crate) isolated: bool,
}
const _: () = assert!(size_of::<Occupancy>() <= 32, "counts into the density of every pool");

impl Linked for Occupancy {
    fn links(&mut self) -> &mut Links {
        &mut self.links
    }
}

/// A slot that the caller has claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Claimed {
    pub(crate) zspage: u32,
    pub(crate) object: u16,
    /// Frames that have become resident with it.
    pub(crate) fresh: u16,
}

/// What a walk over the zspages of a class counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counted {
    /// Bytes of claimed slots in frames that are not resident.
    pub(crate) absent: usize,
    /// Bytes of tails in resident frames.
    pub(crate) tail: usize,
    /// Zspages by fullness.
    pub(crate) by_fullness: [usize; ROWS],
}

/// What a claim lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Need {
    /// Frames to charge.
    pub(crate) frames: usize,
    /// A new zspage.
    pub(crate) zspage: bool,
    /// Room for one more member: capacity to make it with, or 0.
    pub(crate) room: usize,
}

/// The room for members, made outside the lock.
#[derive(Debug, Default)]
pub(crate) struct Room {
    members: Vec<Occupancy>,
    bits: Vec<u64>,
}

impl Room {
    /// `None` if the heap refuses.
    pub(crate) fn with_capacity(shape: &Shape, members: usize) -> Option<Room> {
        Some(Room { members: with_room(members)?, bits: with_room(members * usize::from(shape.words))? })
    }

    /// Bytes on the heap.
    pub(crate) fn bytes(&self) -> usize {
        self.members.capacity() * size_of::<Occupancy>() + self.bits.capacity() * size_of::<u64>()
    }
}

/// A slot, in the unit of a peak. What it is above the present is lowered by a part, rounded up to a unit, so that it ends. When the unit was a slot, a class that had shrunk
/// by six slots forgot that within six jobs; now it takes 40, and 193 instead of 128 if it had shrunk by a thousand.
const PEAK_UNIT: usize = 8;

/// The state of a class.
#[derive(Debug)]
pub(crate) struct ClassState {
    pub(crate) shape: Shape,
    room: Room,
    groups: Groups,
    /// Slots claimed. 32 bits are enough for all counts of a class, since handles have no more.
    objects: u32,
    /// The most that were claimed at a time of late, in parts of a slot: see [`PEAK_UNIT`].
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
    /// Zspages by fullness, but for the empty ones, which are the others.
    by_row: [u32; ROWS - 1],
    /// Bytes of claimed slots in frames that are not resident: an object may be shorter than its slot.
    absent: usize,
    /// Bytes of the objects in all claimed slots, as they were when these were claimed: see `Spares::payload_shift`.
    payload: usize,
}

impl ClassState {
    pub(crate) fn new(shape: Shape) -> ClassState {
        ClassState {
            shape,
            room: Room::default(),
            groups: Groups::new(),
            objects: 0,
            peak: 0,
            open: 0,
            resident: 0,
            idle: 0,
            releases: 0,
            noted_gain: 0,
            tails: 0,
            by_row: [0; ROWS - 1],
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

    /// What a walk over the zspages of this class would count.
    pub(crate) fn counted(&self) -> Counted {
        let mut by_fullness = [0; ROWS];
        by_fullness[1..].iter_mut().zip(self.by_row).for_each(|(row, count)| *row = count as usize);
        by_fullness[0] = self.members().len() - by_fullness.iter().sum::<usize>();
        let tail = self.tails as usize * self.shape.tail().1;
        Counted { absent: self.absent, tail, by_fullness }
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
        let words = usize::from(self.shape.words);
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

    /// The most slots that were claimed at a time of late: what is left of it, rounded up.
    pub(crate) fn peak(&self) -> usize {
        (self.peak as usize).div_ceil(PEAK_UNIT)
    }

    /// Lowers the peak to `keep` parts of `of` of what it is above the slots claimed now. Says whether it was above.
    pub(crate) fn lower_peak(&mut self, keep: usize, of: usize) -> bool {
        let (peak, now) = (self.peak as usize, self.objects() * PEAK_UNIT);
        debug_assert!(peak >= now, "every claim looks");
        let above = peak - now;
        self.peak = (now + above * keep / of) as u32;
        above > 0
    }

    /// Claims a slot for an object of `len` bytes in frames that are resident, in the fullest zspage that has one.
    pub(crate) fn claim_open(&mut self, len: u32) -> Option<Claimed> {
        if self.open == 0 {
            return None;
        }
        let local = Group::FULLEST_FIRST
            .iter()
            .find_map(|&group| self.head(group))
            .or_else(|| self.list(Group::Empty).find(|&local| self.member(local).open > 0))?;
        let object = self.first_open(local)?;
        Some(self.occupy(local, object, len))
    }

    /// Claims the first free slot of a zspage that has none in resident frames, taking the frames it needs from `credit`.
    /// Without such a zspage: none.
    ///
    /// # Errors
    ///
    /// The number of frames needed, where `credit` has fewer; then nothing has changed.
    pub(crate) fn claim_growing(&mut self, len: u32, credit: &mut usize) -> Result<Option<Claimed>, usize> {
        let Some(local) = self.head(Group::Growing).or_else(|| self.head(Group::Empty)) else {
            return Ok(None);
        };
        let Some(object) = first_clear(self.bits(local), 0, self.shape.objects) else { return Ok(None) };
        self.claim_at(local, object, len, credit).map(Some)
    }

    /// Claims the first free slot of a zspage that is neither empty nor isolated, the fuller ones first, unless `barred` says no to that slot. Takes the
    /// frames it needs from `credit`. For compaction: it fills gaps whether their frames are resident or not.
    ///
    /// # Errors
    ///
    /// The number of frames needed, where `credit` has fewer; then nothing has changed.
    pub(crate) fn claim_gap(
        &mut self,
        len: u32,
        credit: &mut usize,
        barred: impl Fn(u32, u16) -> bool,
    ) -> Result<Option<Claimed>, usize> {
        let groups = [Group::AlmostFull, Group::ThreeQuarters, Group::Growing, Group::Half, Group::Quarter];
        let candidates = groups.into_iter().flat_map(|group| self.list(group));
        let mut gaps = candidates.filter_map(|local| {
            let object = first_clear(self.bits(local), 0, self.shape.objects)?;
            (!barred(self.member(local).id, object)).then_some((local, object))
        });
        let Some((local, object)) = gaps.next() else { return Ok(None) };
        drop(gaps);
        self.claim_at(local, object, len, credit).map(Some)
    }

    /// The capacity that another member needs: 0 while there is some.
    pub(crate) fn room_needed(&self) -> usize {
        let members = self.room.members.len();
        if members < self.room.members.capacity() { 0 } else { members + 1 + members / 8 }
    }

    /// Puts the members into larger room. Gives back the old room, or the new one if it is not larger, to be dropped outside the lock.
    pub(crate) fn enlarge(&mut self, room: Room) -> Room {
        if room.members.capacity() > self.room.members.capacity() { self.refit(room) } else { room }
    }

    /// The members that room should be made for, if most of the room is unused.
    pub(crate) fn spare_room(&self) -> Option<(Shape, usize)> {
        let (used, capacity) = (self.room.members.len(), self.room.members.capacity());
        (capacity > used + used / 4 + 1).then_some((self.shape, used))
    }

    /// Puts the members into other room, if they fit. Gives back the room that is not used, to be dropped outside the lock.
    pub(crate) fn refit(&mut self, mut room: Room) -> Room {
        if room.members.capacity() >= self.room.members.len() {
            room.members.append(&mut self.room.members);
            room.bits.append(&mut self.room.bits);
            core::mem::swap(&mut room, &mut self.room);
        }
        room
    }

    /// Takes a new zspage in, empty and without a resident frame. There is room.
    pub(crate) fn adopt(&mut self, id: u32, zspages: &ZspageTable) {
        let local = self.room.members.len() as u32;
        debug_assert_eq!(self.room_needed(), 0, "room was made outside the lock");
        let links = Links::UNLINKED;
        self.room.members.push(Occupancy { resident: 0, id, links, inuse: 0, open: 0, isolated: false });
        self.room.bits.extend(core::iter::repeat_n(0, usize::from(self.shape.words)));
        set_local(zspages, id, local);
        self.groups.link(&mut self.room.members, local, Group::Empty);
    }

    /// Clears the slot of an object of `len` bytes, which has no name and no reader any more.
    pub(crate) fn release(&mut self, local: u32, object: u16, len: u32) {
        debug_assert!(bit(self.bits(local), object), "a slot is released once");
        self.bits_mut(local)[usize::from(object / 64)] &= !(1 << (object % 64));
        self.objects -= 1;
        // Wrapping: a spare's length changes elsewhere.
        self.payload = self.payload.wrapping_sub(len as usize);
        let slot = self.shape.frames_of_slot(object);
        let member = &mut self.room.members[local as usize];
        member.inuse -= 1;
        let (resident, inuse) = (member.resident, member.inuse);
        let opens = u16::from(slot & !resident == 0);
        self.absent -= self.absent_of(object, slot, resident);
        self.change_row(inuse + 1, inuse);
        self.set_open(local, self.member(local).open + opens);
        self.regroup(local, resident);
    }

    /// Takes a zspage out of the groups, so that nobody claims a slot of it.
    pub(crate) fn isolate(&mut self, local: u32) {
        let resident = self.member(local).resident;
        self.open -= u32::from(self.member(local).open);
        self.room.members[local as usize].isolated = true;
        self.regroup(local, resident);
    }

    /// Ends the isolation.
    pub(crate) fn rejoin(&mut self, local: u32) {
        let resident = self.member(local).resident;
        self.room.members[local as usize].isolated = false;
        self.open += u32::from(self.member(local).open);
        self.regroup(local, resident);
    }

    /// Frames that are resident although no claimed slot reaches into them.
    pub(crate) fn hollow(&self, local: u32) -> u64 {
        let (member, bits) = (self.member(local), self.bits(local));
        let empty = |frame: &u32| {
            let slots = self.shape.slots_in(*frame..*frame + 1);
            first_set(bits, slots.start, slots.end).is_none()
        };
        let frames = runs(member.resident).flatten().filter(empty);
        frames.fold(0, |mask, frame| mask | 1 << frame)
    }

    /// Strikes frames of an isolated zspage off the resident ones. They are hollow.
    pub(crate) fn strike(&mut self, local: u32, frames: u64) {
        debug_assert!(self.member(local).isolated && frames & !self.hollow(local) == 0);
        self.tails -= self.tails_in(frames & self.member(local).resident);
        self.room.members[local as usize].resident &= !frames;
        self.resident -= frames.count_ones();
        let open = self.count_open(local, 0..self.shape.objects);
        self.room.members[local as usize].open = open;
    }

    /// Takes an empty zspage out for good. Gives its id and its resident frames.
    pub(crate) fn remove(&mut self, local: u32, zspages: &ZspageTable) -> (u32, usize) {
        debug_assert_eq!(self.member(local).inuse, 0, "only an empty zspage goes");
        if !self.member(local).isolated {
            self.isolate(local);
        }
        let words = usize::from(self.shape.words);
        let gone = self.room.members.swap_remove(local as usize);
        let last = self.room.members.len();
        self.room.bits.copy_within(last * words.., local as usize * words);
        self.room.bits.truncate(last * words);
        if (local as usize) < last {
            set_local(zspages, self.member(local).id, local);
            self.groups.renumber(&mut self.room.members, local);
        }
        let frames = gone.resident.count_ones();
        self.resident -= frames;
        self.tails -= self.tails_in(gone.resident);
        (gone.id, frames as usize)
    }

    /// Slots of `range` that are not claimed and lie in resident frames.
    pub(crate) fn count_open(&self, local: u32, range: core::ops::Range<u16>) -> u16 {
        let (bits, resident) = (self.bits(local), self.member(local).resident);
        let is_open =
            |&object: &u16| !bit(bits, object) && self.shape.frames_of_slot(object) & !resident == 0;
        range.filter(is_open).count() as u16
    }

    /// Slots claimed from `first` on.
    pub(crate) fn count_from(&self, local: u32, first: u16) -> usize {
        count_set(self.bits(local), first..self.shape.objects)
    }

    /// The first slot that is not claimed and lies in resident frames.
    fn first_open(&self, local: u32) -> Option<u16> {
        let (bits, resident) = (self.bits(local), self.member(local).resident);
        let mut from = 0;
        loop {
            let object = first_clear(bits, from, self.shape.objects)?;
            let missing = self.shape.frames_of_slot(object) & !resident;
            if missing == 0 {
                return Some(object);
            }
            // On to where frames are resident again.
            let absent = missing.trailing_zeros();
            let next = absent + (resident >> absent).trailing_zeros();
            from = self.shape.first_slot_from(next.min(64)).max(object + 1);
        }
    }

    fn claim_at(&mut self, local: u32, object: u16, len: u32, credit: &mut usize) -> Result<Claimed, usize> {
        let touched = self.shape.frames_of(object, len) & !self.member(local).resident;
        let frames = touched.count_ones() as usize;
        if *credit < frames {
            return Err(frames);
        }
        *credit -= frames;
        Ok(self.occupy(local, object, len))
    }

    fn occupy(&mut self, local: u32, object: u16, len: u32) -> Claimed {
        self.bits_mut(local)[usize::from(object / 64)] |= 1 << (object % 64);
        self.objects += 1;
        self.payload = self.payload.wrapping_add(len as usize);
        self.peak = self.peak.max(self.objects * PEAK_UNIT as u32);
        let slot = self.shape.frames_of_slot(object);
        let touched = self.shape.frames_of(object, len);
        let member = &mut self.room.members[local as usize];
        member.inuse += 1;
        let before = member.resident;
        let new = touched & !before;
        member.resident |= new;
        let (id, inuse, mut open) = (member.id, member.inuse, member.open - u16::from(slot & !before == 0));
        self.change_row(inuse - 1, inuse);
        self.absent += self.absent_of(object, slot, before | new);
        if new != 0 {
            self.resident += new.count_ones();
            self.tails += self.tails_in(new);
            self.absent -= self.absent_before(local, object, new);
            // Slots that the new frames make open: none that reaches into them was so before.
            let slots = self.shape.slots_in(new.trailing_zeros()..64 - new.leading_zeros());
            open += self.count_open(local, slots);
        }
        self.set_open(local, open);
        self.regroup(local, before);
        Claimed { zspage: id, object, fresh: new.count_ones() as u16 }
    }

    /// Bytes of a claimed slot, which reaches into the frames `slot`, that are not resident. Mostly none.
    #[inline]
    fn absent_of(&self, object: u16, slot: u64, resident: u64) -> usize {
        let missing = slot & !resident;
        if missing == 0 { 0 } else { self.bytes_in(object, missing) }
    }

    #[cold]
    #[inline(never)]
    fn bytes_in(&self, object: u16, frames: u64) -> usize {
        self.shape.bytes_in(object, frames)
    }

    /// Bytes of other claimed slots than `object` in frames that have become resident. Each lies in a slot that begins
    /// before such a frame, since the frame where a claimed slot begins is resident.
    #[cold]
    #[inline(never)]
    fn absent_before(&self, local: u32, object: u16, new: u64) -> usize {
        let across = runs(new).flatten().filter_map(|frame| Some((frame, self.shape.slot_across(frame)?)));
        let claimed = across.filter(|&(_, slot)| slot != object && bit(self.bits(local), slot));
        claimed.map(|(frame, slot)| self.shape.bytes_in(slot, 1 << frame)).sum()
    }

    /// Tails in these frames of a zspage: one or none.
    fn tails_in(&self, frames: u64) -> u32 {
        u32::from(frames & self.shape.tail().0 != 0)
    }

    /// Moves a zspage to another row of the books, if one slot more or less takes that.
    #[inline]
    fn change_row(&mut self, before: u16, after: u16) {
        if is_last_of_row(before.min(after), self.shape.objects) {
            self.move_row(before, after);
        }
    }

    #[cold]
    fn move_row(&mut self, before: u16, after: u16) {
        let (from, to) = (row(before, self.shape.objects), row(after, self.shape.objects));
        // Row 0 is not kept.
        if let Some(count) = from.checked_sub(1).and_then(|at| self.by_row.get_mut(at)) {
            *count -= 1;
        }
        if let Some(count) = to.checked_sub(1).and_then(|at| self.by_row.get_mut(at)) {
            *count += 1;
        }
    }

    fn set_open(&mut self, local: u32, open: u16) {
        let member = &mut self.room.members[local as usize];
        let before = core::mem::replace(&mut member.open, open);
        if !member.isolated {
            self.open = self.open + u32::from(open) - u32::from(before);
        }
    }

    /// Moves a zspage to the group where it belongs now. `resident` are its resident frames when it was last put into one.
    fn regroup(&mut self, local: u32, resident: u64) {
        let member = self.member(local);
        let to = if member.isolated {
            Group::None
        } else {
            Group::of(member.inuse, self.shape.objects, member.open)
        };
        if member.links.group == Group::Empty {
            self.idle -= resident.count_ones();
        }
        if to == Group::Empty {
            self.idle += self.member(local).resident.count_ones();
        }
        if self.group(local) != to {
            self.groups.unlink(&mut self.room.members, local);
            self.groups.link(&mut self.room.members, local, to);
        }
    }

    fn bits_mut(&mut self, local: u32) -> &mut [u64] {
        let words = usize::from(self.shape.words);
        &mut self.room.bits[local as usize * words..][..words]
    }
}

fn set_local(zspages: &ZspageTable, id: u32, local: u32) {
    zspages.get(id).expect("a member's entry exists").set_local(local);
}
