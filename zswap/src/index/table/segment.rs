//! A segment of a table: the entries of one range of hashes, sorted by where they belong, nearly
//! full.
//!
//! ```text
//!   bucket      0    1    2    3    4    5    6    7      home of a hash: a share of the array
//!             | a0 | b0 | b1 | b2 | d1 |    | f0 | f1 |   a0: entry of home 0, at distance 0
//!                          ▲                              b's home is 1; d came to 3, went on to 4
//!                          looking for home 2: distance 0 here, less than b1's; 1 at bucket 3,
//!                          less than b2's; 2 at bucket 4, more than d1's: not there
//! ```
//!
//! Robin Hood hashing (Celis, 1986): linear probing with entries in the order of their homes. A
//! look-up reads one run of neighbouring memory, ends where the next home's entries begin, and
//! compares keys of its own home only. There are no tombstones: a removal moves the rest of the run
//! back by one bucket. The array may have any length, so a segment grows by 1/8 when it is
//! [full](LOAD), and little of it is unused whatever its size.
//!
//! The lowest bits of a hash are not scaled to the array but added: hashes that differ in them
//! alone are [neighbours](NEIGHBOURS) at home. Random hashes do not notice. If hashes are numbers,
//! what is used together lies together (`docs/decisions/0023-neighbours.md`).

use zpool_core::internal::FrameTable;
use zpool_core::internal::prefetch;

use super::NoRoom;
use crate::index::packed_entry::{EntryState, PackedEntry};

/// A key with its entry.
pub(crate) type KeyedEntry<K> = (K, PackedEntry);

/// Denominator of the load factor.
pub(super) const LOAD_OF: usize = 32;
/// Numerator of the load factor. Above 9/10 the runs get long.
pub(super) const LOAD: usize = 29;

/// Buckets of the smallest segment, and the step in which small ones grow.
const STEP: usize = 8;

/// Hashes whose homes are next to each other: those that differ in these lowest bits alone.
pub(crate) const NEIGHBOURS: u64 = 1 << NEIGHBOUR_BITS;
pub(crate) const NEIGHBOUR_BITS: u32 = 3;
const _: () = assert!(STEP >= NEIGHBOURS as usize, "neighbours wrap around the end at most once");

/// Number of inserts over which their cost is averaged.
const STRAIN_WINDOW: u32 = 32;
/// A segment is strained if an insert costs more than this on average: one per bucket moved, or
/// five per bucket passed. Random hashes stay far below it in a full segment. Hashes in order,
/// which crowd together, do not, and groups of neighbours at random places seldom do: record 0033
/// says what the threshold costs.
const STRAINED: u32 = 160;
const PASSED: usize = 5;

/// The entries of the hashes that begin with the same `depth` bits.
#[derive(Debug)]
pub(crate) struct Segment<K> {
    buckets: FrameTable<Option<KeyedEntry<K>>>,
    len: usize,
    /// How many leading bits the hashes have in common.
    depth: u32,
    /// Average cost of the latest inserts, times the window.
    strain: u32,
    /// Whether it has more buckets than its entries need, because they came in the order of their
    /// hashes.
    enlarged: bool,
    /// Whether more buckets would not bring an entry of a crowd within reach of its home.
    stuck: bool,
    /// The lowest hash of the range.
    start: u64,
    /// A checksum for each bucket, in a store that has them; otherwise empty.
    sums: FrameTable<u32>,
}

/// Which hashes a segment is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) start: u64,
    pub(crate) depth: u32,
}

impl Range {
    pub(crate) const ALL: Range = Range { start: 0, depth: 0 };

    /// Returns the two halves.
    pub(crate) fn halves(self) -> [Range; 2] {
        let depth = self.depth + 1;
        [Range { depth, ..self }, Range { start: self.start | 1 << (u64::BITS - depth), depth }]
    }

    /// Returns the half that `hash`, which lies inside, is in: 0 or 1.
    pub(crate) fn half_of(self, hash: u64) -> usize {
        (hash >> (u64::BITS - 1 - self.depth)) as usize & 1
    }

    /// Returns the first hash behind the range; `None` at the end of all hashes.
    pub(crate) fn end(self) -> Option<u64> {
        if self.depth == 0 { None } else { self.start.checked_add(1 << (u64::BITS - self.depth)) }
    }

    /// Returns the bucket of `buckets` where the entries of `hash` begin, without its lowest bits.
    #[inline]
    fn share(self, hash: u64, buckets: usize) -> usize {
        ((u128::from(hash << self.depth) * buckets as u128) >> u64::BITS) as usize
    }

    /// Returns the lowest hash whose share of `buckets` is `bucket`.
    fn first_hash(self, bucket: usize, buckets: usize) -> u64 {
        let offset =
            ((bucket as u128) << u64::BITS).div_ceil(buckets as u128).div_ceil(1 << self.depth);
        self.start.wrapping_add(offset as u64)
    }
}

/// Returns the number of buckets that `len` entries need, with a little room.
pub(crate) fn enough(len: usize) -> usize {
    if len == 0 { 0 } else { len * LOAD_OF / LOAD + STEP }
}

impl<K> Segment<K> {
    /// Makes a segment without memory.
    pub(crate) const fn empty(range: Range) -> Segment<K> {
        Segment {
            buckets: FrameTable::new(),
            sums: FrameTable::new(),
            len: 0,
            depth: range.depth,
            strain: 0,
            enlarged: false,
            stuck: false,
            start: range.start,
        }
    }

    /// Makes an empty segment of at least this many buckets.
    ///
    /// # Errors
    ///
    /// When there is no memory.
    pub(crate) fn with_buckets(
        range: Range,
        buckets: usize,
        sums: bool,
    ) -> Result<Segment<K>, NoRoom> {
        let buckets = FrameTable::<Option<KeyedEntry<K>>>::filled_up(buckets);
        let mut segment = Segment::empty(range);
        segment.sums = FrameTable::try_new(if sums { buckets } else { 0 })?;
        segment.buckets = FrameTable::try_new(buckets)?;
        Ok(segment)
    }

    #[inline]
    pub(crate) fn range(&self) -> Range {
        Range { start: self.start, depth: self.depth }
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub(crate) fn buckets(&self) -> usize {
        self.buckets.len()
    }

    /// Returns the bytes of the arrays.
    pub(crate) fn bytes(&self) -> usize {
        self.buckets.bytes() + self.sums.bytes()
    }

    #[inline]
    pub(crate) fn get(&self, at: usize) -> Option<&KeyedEntry<K>> {
        self.buckets.get(at)?.as_ref()
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, at: usize) -> Option<&mut KeyedEntry<K>> {
        self.buckets.get_mut(at)?.as_mut()
    }

    /// Returns the checksum at bucket `at`; 0 where there are none.
    #[inline]
    pub(crate) fn sum(&self, at: usize) -> u32 {
        self.sums.get(at).copied().unwrap_or(0)
    }

    #[inline]
    pub(crate) fn set_sum(&mut self, at: usize, sum: u32) {
        if let Some(place) = self.sums.get_mut(at) {
            *place = sum;
        }
    }

    /// Iterates over the items in the order of their homes.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &KeyedEntry<K>> {
        let (wrapped, rest) = self.buckets.split_at(self.wrapped());
        rest.iter().chain(wrapped).flatten()
    }

    /// Takes the items out in the order of their homes. Needs no memory.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = (KeyedEntry<K>, u32)> {
        self.len = 0;
        let wrapped = self.wrapped();
        let (buckets, sums) = (&mut self.buckets[..], &self.sums[..]);
        let order = (wrapped..buckets.len()).chain(0..wrapped);
        order.filter_map(move |at| Some((buckets[at].take()?, sums.get(at).copied().unwrap_or(0))))
    }

    /// Returns how many buckets at the front have entries whose homes are at the end.
    fn wrapped(&self) -> usize {
        let is_wrapped = |(at, bucket): (usize, &Option<KeyedEntry<K>>)| {
            bucket.as_ref().is_some_and(|(_, entry)| entry.state().distance() > at)
        };
        self.buckets.iter().enumerate().take_while(|&bucket| is_wrapped(bucket)).count()
    }

    /// Returns whether an insert is fine as it is: there is room and the latest inserts were cheap,
    /// or a larger segment would not help.
    #[inline]
    pub(crate) fn is_roomy(&self) -> bool {
        (self.has_room() && self.strain <= STRAINED * STRAIN_WINDOW) || self.stuck
    }

    #[inline]
    pub(crate) fn has_room(&self) -> bool {
        (self.len + 1) * LOAD_OF <= self.buckets.len() * LOAD
    }

    /// Returns whether entries crowd in a part of the range although most buckets of the segment
    /// are free: more buckets would not help.
    pub(crate) fn is_thin(&self) -> bool {
        self.len * 4 < self.buckets.len()
    }

    /// Returns whether it has more buckets than its entries need.
    pub(crate) fn is_enlarged(&self) -> bool {
        self.enlarged
    }

    pub(crate) fn set_enlarged(&mut self) {
        self.enlarged = true;
    }

    #[cfg(test)]
    pub(super) fn cost_of_inserts(&self) -> usize {
        (self.strain / STRAIN_WINDOW) as usize
    }

    /// Makes the segment take entries as long as there are buckets, and not grow, until one is
    /// removed.
    pub(crate) fn get_stuck(&mut self) {
        self.stuck = true;
    }

    /// Forgets what the latest inserts cost, after something was done about it.
    pub(crate) fn relax(&mut self) {
        self.strain = 0;
    }

    /// Returns the number of buckets after the next step of growth: 1/8 more, or half as many again
    /// for a strained segment that is not full.
    pub(crate) fn next_buckets(&self) -> usize {
        let buckets = self.buckets.len();
        buckets + if self.has_room() { buckets / 2 } else { STEP.max(buckets / 8) }
    }

    /// Returns the bucket from which the hand of a clock continues at `position`, a hash in the
    /// range.
    pub(crate) fn bucket_at(&self, position: u64) -> usize {
        self.range().share(position, self.buckets.len())
    }

    /// Returns the position of bucket `at`; `None` behind the last.
    pub(crate) fn position_of(&self, at: usize) -> Option<u64> {
        (at < self.buckets.len()).then(|| self.range().first_hash(at, self.buckets.len()))
    }

    /// Returns the bucket of the key of this hash for which `is` returns true.
    #[inline]
    pub(crate) fn find(&self, hash: u64, mut is: impl FnMut(&K) -> bool) -> Option<usize> {
        self.find_at(hash, |_, key| is(key))
    }

    /// Returns the bucket of an entry of this hash for which `is` returns true. Entries of other
    /// hashes may have the same home, so `is` sees some of these.
    #[inline]
    pub(crate) fn find_at(
        &self,
        hash: u64,
        mut is: impl FnMut(usize, &K) -> bool,
    ) -> Option<usize> {
        let buckets = &self.buckets[..];
        if buckets.is_empty() {
            return None;
        }
        let mut at = self.home(hash);
        let mut distance = 0;
        while let Some((key, entry)) = &buckets[at] {
            let theirs = entry.state().distance();
            if theirs == distance && is(at, key) {
                return Some(at);
            }
            if theirs < distance {
                return None;
            }
            distance += 1;
            at = if at + 1 == buckets.len() { 0 } else { at + 1 };
        }
        None
    }

    /// Prefetches the buckets where a hash is looked for.
    #[inline]
    pub(crate) fn prefetch(&self, hash: u64) {
        // As many lines as most runs from home to entry touch.
        prefetch(self.buckets.get(self.home(hash)..).unwrap_or_default(), 3);
    }

    /// Returns whether entries of these hashes, in this empty segment, would all be within reach of
    /// their homes.
    ///
    /// In the order of homes each entry comes right after the one before it or at its home, so the
    /// farthest is known without placing any. A run that wraps around the end adds at most what a
    /// second round shows.
    ///
    /// # Errors
    ///
    /// When there is no memory to find out.
    pub(crate) fn would_fit(&self, hashes: &[u64]) -> Result<bool, NoRoom> {
        if hashes.len() < EntryState::MAX_DISTANCE {
            return Ok(true);
        }
        let mut homes = Vec::new();
        homes.try_reserve_exact(hashes.len())?;
        homes.extend(hashes.iter().map(|&hash| self.home(hash)));
        homes.sort_unstable();
        let mut next = 0;
        for round in 0..2 {
            for &home in &homes {
                let home = home + round * self.buckets.len();
                let at = next.max(home);
                if at - home > EntryState::MAX_DISTANCE {
                    return Ok(false);
                }
                next = at + 1;
            }
        }
        Ok(true)
    }

    /// Inserts an item whose key is not there, where there is room. Returns its bucket.
    ///
    /// # Errors
    ///
    /// Returns the item if an entry would be too far from home, or if there is hardly an empty
    /// bucket.
    pub(crate) fn insert(
        &mut self,
        hash: u64,
        mut item: KeyedEntry<K>,
    ) -> Result<usize, KeyedEntry<K>> {
        if self.len + 1 >= self.buckets.len() {
            return Err(item);
        }
        let (start, distance) = self.place_of(hash);
        // All entries from there to the next empty bucket move on by one.
        let (mut end, mut moved) = (start, 0);
        let mut farthest = distance;
        while let Some((_, entry)) = &self.buckets[end] {
            farthest = farthest.max(entry.state().distance() + 1);
            moved += 1;
            end = self.after(end);
        }
        if farthest > EntryState::MAX_DISTANCE {
            return Err(item);
        }
        while end != start {
            let before = if end == 0 { self.buckets.len() - 1 } else { end - 1 };
            self.shift(before, end, |distance| distance + 1);
            end = before;
        }
        item.1.state_mut().set_distance(distance);
        self.buckets[start] = Some(item);
        self.len += 1;
        self.strain =
            self.strain - self.strain / STRAIN_WINDOW + moved.max(PASSED * distance) as u32;
        Ok(start)
    }

    /// Inserts an item into a segment that is being filled in about the order of homes. The search
    /// begins where the last item is and not at home, which a crowd may be far from.
    ///
    /// # Errors
    ///
    /// As for [`insert`](Self::insert).
    pub(super) fn append(
        &mut self,
        hash: u64,
        mut item: KeyedEntry<K>,
        sum: u32,
        run: &mut std::ops::Range<usize>,
    ) -> Result<(), KeyedEntry<K>> {
        let home = self.home(hash);
        if home >= run.end {
            *run = home..home;
        }
        // The numbers of a run that wraps around the end continue there.
        let mut at = run.end;
        let in_order =
            home >= run.start && at - home < EntryState::MAX_DISTANCE.min(self.buckets.len());
        if !in_order
            || self.len + 1 >= self.buckets.len()
            || self.buckets[self.wrapped_around(at)].is_some()
        {
            let bucket = self.insert(hash, item)?;
            self.set_sum(bucket, sum);
            while run.end < self.buckets.len() && self.buckets[run.end].is_some() {
                run.end += 1;
            }
            return Ok(());
        }
        // Hashes that differ in their lowest bits may change places when a segment is resized.
        while at > home && self.home_of(at - 1).is_some_and(|before| before > home) {
            let (from, to) = (self.wrapped_around(at - 1), self.wrapped_around(at));
            self.shift(from, to, |distance| distance + 1);
            at -= 1;
        }
        run.end += 1;
        item.1.state_mut().set_distance(at - home);
        let bucket = self.wrapped_around(at);
        self.buckets[bucket] = Some(item);
        self.set_sum(bucket, sum);
        self.len += 1;
        Ok(())
    }

    fn wrapped_around(&self, at: usize) -> usize {
        if at < self.buckets.len() { at } else { at - self.buckets.len() }
    }

    /// Returns the home of the entry at `at`, if there is one.
    fn home_of(&self, at: usize) -> Option<usize> {
        let (_, entry) = self.buckets[self.wrapped_around(at)].as_ref()?;
        at.checked_sub(entry.state().distance())
    }

    /// Returns the bucket and the distance for a new entry of this hash: behind those of its home
    /// and of homes before it.
    fn place_of(&self, hash: u64) -> (usize, usize) {
        let (mut at, mut distance) = (self.home(hash), 0);
        while let Some((_, entry)) = &self.buckets[at] {
            if entry.state().distance() < distance {
                break;
            }
            distance += 1;
            at = self.after(at);
        }
        (at, distance)
    }

    /// Removes the item at bucket `at`, if there is one.
    pub(crate) fn remove(&mut self, at: usize) -> Option<KeyedEntry<K>> {
        let removed = self.buckets.get_mut(at)?.take()?;
        self.len -= 1;
        self.stuck = false;
        let (mut hole, mut next) = (at, self.after(at));
        while self.buckets[next].as_ref().is_some_and(|(_, entry)| entry.state().distance() > 0) {
            self.shift(next, hole, |distance| distance - 1);
            hole = next;
            next = self.after(next);
        }
        Some(removed)
    }

    fn shift(&mut self, from: usize, to: usize, distance: impl FnOnce(usize) -> usize) {
        let mut moved = self.buckets[from].take();
        if let Some((_, entry)) = &mut moved {
            let state = entry.state_mut();
            state.set_distance(distance(state.distance()));
        }
        self.buckets[to] = moved;
        if !self.sums.is_empty() {
            self.sums[to] = self.sums[from];
        }
    }

    #[inline]
    fn after(&self, at: usize) -> usize {
        if at + 1 == self.buckets.len() { 0 } else { at + 1 }
    }

    /// Returns the bucket where the entries of a hash begin: as far into the array as the hash is
    /// into the range, with the lowest bits added.
    #[inline]
    fn home(&self, hash: u64) -> usize {
        let at = self.range().share(hash, self.buckets.len()) + (hash % NEIGHBOURS) as usize;
        if at < self.buckets.len() { at } else { at - self.buckets.len() }
    }
}
