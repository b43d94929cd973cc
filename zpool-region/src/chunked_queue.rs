//! First-in, first-out queues of units, in chunks of slots.
//!
//! ```text
//!   queue ─► chunk ─► chunk ─► chunk ◄─ push
//!             │         └► fingerprints, if any of its units has one
//!             └► start ┐     ┌ end
//!              [ ─ ─ ─ 7 ─ 9 4 ... ]   a slot per unit; ─ is one that was taken out
//! ```
//!
//! A unit takes 4 bytes of its chunk, and 16 more only where a unit of the chunk has a fingerprint.
//! Linked slots would take 8 bytes more each.
//!
//! Units leave from the middle too. Two neighbours become one chunk as soon as the units of both
//! fill no more than 3/4 of one, so a queue of n units has at most n / 24 + 2 chunks. A chunk is
//! added after 16 pushes at least, so on average joining moves at most three units for each push.

use crate::fingerprint::Fingerprint;

/// Slots of a chunk.
const SLOTS: usize = 64;

/// The most units of two neighbours that become one chunk.
const MOST_JOINED: usize = SLOTS * 3 / 4;

/// No chunk, no unit, no block of fingerprints.
const NONE: u32 = u32::MAX;

/// The place of a queued unit: its chunk and slot.
#[derive(Debug, Clone, Copy)]
struct SlotPlace(u32);

impl SlotPlace {
    fn new(chunk: u32, slot: usize) -> SlotPlace {
        SlotPlace(chunk * SLOTS as u32 + slot as u32)
    }

    fn chunk(self) -> u32 {
        self.0 / SLOTS as u32
    }

    fn slot(self) -> usize {
        self.0 as usize % SLOTS
    }
}

/// A chunk. Its units are those of the slots from `start` to `end` that have one.
#[derive(Debug, Clone, Copy)]
struct Chunk {
    next: u32,
    previous: u32,
    /// The number of the block of its fingerprints, or `NONE`.
    fingerprint_block: u32,
    start: u8,
    end: u8,
    live: u8,
    queue: u8,
}

/// The first and the last chunk of a queue, and the number of its units.
#[derive(Debug, Clone, Copy)]
struct Ends {
    first: u32,
    last: u32,
    len: usize,
}

/// `N` queues that share their chunks.
///
/// The tables have room for all units, since the number of units that are queued at once is not
/// known before. They grow into memory that is reserved and never written before, and chunks are
/// reused in last-in, first-out order. So they cost memory only for as many chunks as were ever in
/// use at once, and no call of the heap.
#[derive(Debug)]
pub(crate) struct ChunkedQueues<const N: usize> {
    chunks: Vec<Chunk>,
    /// The units of all chunks.
    units: Vec<u32>,
    /// Blocks of a fingerprint per slot of a chunk.
    fingerprint_blocks: Vec<[u128; SLOTS]>,
    free_chunks: Vec<u32>,
    free_fingerprint_blocks: Vec<u32>,
    queues: [Ends; N],
}

impl<const N: usize> ChunkedQueues<N> {
    /// Makes empty queues for `units` units together. Returns `None` if there is no memory for
    /// them.
    pub(crate) fn new(units: usize) -> Option<ChunkedQueues<N>> {
        fn reserved<T>(len: usize) -> Option<Vec<T>> {
            let mut vec = Vec::new();
            vec.try_reserve_exact(len).ok().map(|()| vec)
        }
        // All pairs of neighbours but the last have more units than are joined.
        let chunks = units / (MOST_JOINED / 2) + 2 * N;
        Some(ChunkedQueues {
            chunks: reserved(chunks)?,
            units: reserved(chunks * SLOTS)?,
            fingerprint_blocks: reserved(chunks)?,
            free_chunks: reserved(chunks)?,
            free_fingerprint_blocks: reserved(chunks)?,
            queues: [Ends { first: NONE, last: NONE, len: 0 }; N],
        })
    }

    /// Returns the number of units of a queue.
    pub(crate) fn len(&self, queue: usize) -> usize {
        self.queues[queue].len
    }

    /// Returns the bytes of the tables that were ever written.
    pub(crate) fn bytes(&self) -> usize {
        let per_chunk = size_of::<Chunk>() + SLOTS * size_of::<u32>() + size_of::<u32>();
        let per_block = SLOTS * size_of::<u128>() + size_of::<u32>();
        self.chunks.len() * per_chunk + self.fingerprint_blocks.len() * per_block
    }

    /// Returns the unit that has been in a queue the longest.
    pub(crate) fn first(&self, queue: usize) -> Option<usize> {
        let number = self.queues[queue].first;
        if number == NONE {
            return None;
        }
        let chunk = &self.chunks[number as usize];
        let place = SlotPlace::new(number, usize::from(chunk.start));
        Some(self.unit_at(place) as usize)
    }

    /// Puts a unit at the end of a queue. Writes the places of units that move into `places`, this
    /// one's among them.
    pub(crate) fn push(
        &mut self,
        queue: usize,
        unit: usize,
        fingerprint: Option<Fingerprint>,
        places: &mut [u32],
    ) {
        let last = self.chunk_with_room(queue, places);
        self.append(last, unit as u32, fingerprint, places);
        self.queues[queue].len += 1;
    }

    /// Takes a unit out of its queue, and returns its fingerprint. Writes the places of units that
    /// move into `places`.
    pub(crate) fn remove(&mut self, unit: usize, places: &mut [u32]) -> Option<Fingerprint> {
        let place = SlotPlace(places[unit]);
        debug_assert_eq!(self.unit_at(place) as usize, unit, "a place belongs to its unit");
        let number = place.chunk();
        let fingerprint = self.fingerprint_at(place);
        *self.unit_at_mut(place) = NONE;
        let chunk = &mut self.chunks[number as usize];
        chunk.live -= 1;
        let queue = usize::from(chunk.queue);
        self.queues[queue].len -= 1;
        if self.chunks[number as usize].live == 0 {
            self.unlink(number);
            return fingerprint;
        }
        self.skip_empty(number);
        let Chunk { next, previous, .. } = self.chunks[number as usize];
        if !self.join(number, next, places) {
            self.join(previous, number, places);
        }
        fingerprint
    }

    /// Returns the last chunk of a queue, with a slot behind its units.
    fn chunk_with_room(&mut self, queue: usize, places: &mut [u32]) -> u32 {
        let last = self.queues[queue].last;
        if last != NONE {
            let Chunk { end, live, .. } = self.chunks[last as usize];
            if usize::from(end) < SLOTS {
                return last;
            }
            // Half of the slots at least are gained for moving the units of the other half.
            if usize::from(live) <= SLOTS / 2 {
                self.pack(last, places);
                return last;
            }
        }
        self.link_new(queue)
    }

    /// Moves the units of `from` to the end of its neighbour `to`, if they are few.
    fn join(&mut self, to: u32, from: u32, places: &mut [u32]) -> bool {
        if to == NONE || from == NONE {
            return false;
        }
        let live = |number: u32| usize::from(self.chunks[number as usize].live);
        if live(to) + live(from) > MOST_JOINED {
            return false;
        }
        self.pack(to, places);
        let Chunk { start, end, .. } = self.chunks[from as usize];
        self.append_slots(from, start, end, to, places);
        self.chunks[from as usize].live = 0;
        self.unlink(from);
        true
    }

    /// Moves the units of a chunk to its first slots.
    fn pack(&mut self, number: u32, places: &mut [u32]) {
        let Chunk { start, end, .. } = self.chunks[number as usize];
        let chunk = &mut self.chunks[number as usize];
        (chunk.start, chunk.end, chunk.live) = (0, 0, 0);
        // A unit moves to a slot that was read before.
        self.append_slots(number, start, end, number, places);
    }

    /// Puts the units of these slots of `from` behind those of `to`.
    fn append_slots(&mut self, from: u32, start: u8, end: u8, to: u32, places: &mut [u32]) {
        for slot in start..end {
            let place = SlotPlace::new(from, usize::from(slot));
            let unit = self.unit_at(place);
            if unit != NONE {
                let fingerprint = self.fingerprint_at(place);
                self.append(to, unit, fingerprint, places);
            }
        }
    }

    /// Puts a unit into the slot behind those of a chunk.
    fn append(
        &mut self,
        number: u32,
        unit: u32,
        fingerprint: Option<Fingerprint>,
        places: &mut [u32],
    ) {
        let chunk = &mut self.chunks[number as usize];
        let place = SlotPlace::new(number, usize::from(chunk.end));
        chunk.end += 1;
        chunk.live += 1;
        *self.unit_at_mut(place) = unit;
        self.set_fingerprint(place, fingerprint);
        places[unit as usize] = place.0;
    }

    /// Makes `start` the slot of the first unit.
    fn skip_empty(&mut self, number: u32) {
        let units = &self.units[number as usize * SLOTS..][..SLOTS];
        let chunk = &mut self.chunks[number as usize];
        while units[usize::from(chunk.start)] == NONE {
            chunk.start += 1;
        }
    }

    fn fingerprint_at(&self, place: SlotPlace) -> Option<Fingerprint> {
        let block = self.chunks[place.chunk() as usize].fingerprint_block;
        if block == NONE {
            return None;
        }
        Fingerprint::from_bits(self.fingerprint_blocks[block as usize][place.slot()])
    }

    fn set_fingerprint(&mut self, place: SlotPlace, fingerprint: Option<Fingerprint>) {
        let mut block = self.chunks[place.chunk() as usize].fingerprint_block;
        if block == NONE {
            if fingerprint.is_none() {
                return;
            }
            block =
                self.free_fingerprint_blocks.pop().unwrap_or(self.fingerprint_blocks.len() as u32);
            if block as usize == self.fingerprint_blocks.len() {
                self.fingerprint_blocks.push([0; SLOTS]);
            }
            self.fingerprint_blocks[block as usize] = [0; SLOTS];
            self.chunks[place.chunk() as usize].fingerprint_block = block;
        }
        self.fingerprint_blocks[block as usize][place.slot()] = Fingerprint::bits(fingerprint);
    }

    /// Puts an empty chunk at the end of a queue.
    fn link_new(&mut self, queue: usize) -> u32 {
        let last = self.queues[queue].last;
        let (next, fingerprint_block, live) = (NONE, NONE, 0);
        let chunk = Chunk {
            next,
            previous: last,
            fingerprint_block,
            start: 0,
            end: 0,
            live,
            queue: queue as u8,
        };
        let number = self.free_chunks.pop().unwrap_or(self.chunks.len() as u32);
        match self.chunks.get_mut(number as usize) {
            Some(reused) => *reused = chunk,
            None => {
                self.chunks.push(chunk);
                self.units.extend([NONE; SLOTS]);
            }
        }
        match last {
            NONE => self.queues[queue].first = number,
            last => self.chunks[last as usize].next = number,
        }
        self.queues[queue].last = number;
        number
    }

    /// Takes an empty chunk out of its queue.
    fn unlink(&mut self, number: u32) {
        let Chunk { next, previous, fingerprint_block, live, queue, .. } =
            self.chunks[number as usize];
        debug_assert_eq!(live, 0, "a chunk with units stays");
        let ends = &mut self.queues[usize::from(queue)];
        match previous {
            NONE => ends.first = next,
            previous => self.chunks[previous as usize].next = next,
        }
        match next {
            NONE => ends.last = previous,
            next => self.chunks[next as usize].previous = previous,
        }
        self.free_chunks.push(number);
        if fingerprint_block != NONE {
            self.free_fingerprint_blocks.push(fingerprint_block);
        }
    }

    fn unit_at(&self, place: SlotPlace) -> u32 {
        self.units[place.0 as usize]
    }

    fn unit_at_mut(&mut self, place: SlotPlace) -> &mut u32 {
        &mut self.units[place.0 as usize]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// Units of the tests: enough for several chunks.
    const UNITS: usize = 500;

    /// The queues, the places of their units, and what they should be.
    struct Checked {
        queues: ChunkedQueues<2>,
        places: Vec<u32>,
        model: [VecDeque<(usize, Option<Fingerprint>)>; 2],
    }

    impl Checked {
        fn new() -> Checked {
            let queues = ChunkedQueues::new(UNITS).unwrap();
            Checked { queues, places: vec![0; UNITS], model: Default::default() }
        }

        /// Removes a unit that is queued, and pushes one that is not.
        fn toggle(&mut self, unit: usize, queue: usize, fingerprint: Option<Fingerprint>) {
            for of in &mut self.model {
                if let Some(at) = of.iter().position(|&(queued, _)| queued == unit) {
                    let fingerprint = of.remove(at).unwrap().1;
                    assert_eq!(self.queues.remove(unit, &mut self.places), fingerprint);
                    return;
                }
            }
            self.queues.push(queue, unit, fingerprint, &mut self.places);
            self.model[queue].push_back((unit, fingerprint));
        }

        fn check(&self) {
            for (number, of) in self.model.iter().enumerate() {
                assert_eq!(self.queues.len(number), of.len());
                assert_eq!(self.queues.first(number), of.front().map(|&(unit, _)| unit));
            }
            let used = self.queues.chunks.len() - self.queues.free_chunks.len();
            let queued = self.model[0].len() + self.model[1].len();
            assert!(used <= queued / (MOST_JOINED / 2) + 4, "{used} chunks for {queued} units");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// After any removals, both queues keep their order and fingerprints, and their
        /// chunks stay half full.
        #[test]
        fn queues_match_deques(
            steps in vec((0..UNITS, 0_usize..2, 0_u128..3), 0..3000),
        ) {
            let mut checked = Checked::new();
            for (unit, queue, fingerprint) in steps {
                checked.toggle(unit, queue, Fingerprint::from_bits(fingerprint));
                checked.check();
            }
            // In order to the last one.
            while let Some(&(unit, _)) = checked.model.iter().find_map(|of| of.front()) {
                checked.toggle(unit, 0, None);
                checked.check();
            }
        }
    }

    /// Queues that are full, then thinned out, then full again have as many chunks as at first.
    #[test]
    fn thinned_queues_reuse_chunks() {
        let mut checked = Checked::new();
        (0..UNITS).for_each(|unit| checked.toggle(unit, 0, Fingerprint::from_bits(1)));
        let bytes = checked.queues.bytes();
        for round in 0..20 {
            let thinned = || (0..UNITS).filter(|unit| unit % 20 != round);
            thinned().for_each(|unit| checked.toggle(unit, 0, None));
            checked.check();
            thinned().for_each(|unit| checked.toggle(unit, 0, None));
            checked.check();
        }
        assert!(checked.queues.bytes() <= bytes + bytes / 4, "{bytes}");
    }

    /// At the edge of a chunk, alternating pushes and removals do not move its units each time.
    #[test]
    fn queue_at_edge_of_chunk_moves_few_units() {
        for filled in 1..3 * SLOTS {
            let mut checked = Checked::new();
            (0..filled).for_each(|unit| checked.toggle(unit, 0, None));
            let mut moved = 0;
            for step in 0..200 {
                checked.toggle(filled + step, 0, None);
                let before = checked.places.clone();
                let second = checked.model[0].get(1).map_or(filled + step, |&(unit, _)| unit);
                checked.toggle(second, 0, None);
                moved += before.iter().zip(&checked.places).filter(|(was, is)| was != is).count();
            }
            assert!(moved <= 3 * 200 + SLOTS, "{moved} moves with {filled} units");
        }
    }
}
