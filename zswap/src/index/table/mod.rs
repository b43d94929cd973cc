//! The table of a shard: segments, each for a range of hashes, that grow and split one by one.
//!
//! ```text
//!   hash   0 ···     1/4     ···    1/2     ···      3/4      ···   1
//!          |  segment 0  |  segment 2  |       segment 1       |     sorted arrays, nearly full
//!                 ▲             ▲           ▲          ▲
//!   directory   [ 0,            2,          1,         1 ]          by the first bits of a hash
//! ```
//!
//! Extendible hashing (Fagin and others, 1979) over Robin Hood hashing. No operation touches more
//! than one segment, or two where they split or merge, so the time that a shard's lock is held has
//! a bound, and so has the memory that old and new arrays take up together. Hashes may come in any
//! order: where many fall into one range, the segment of that range grows and splits, and no other.
//! A table that has become sparse shrinks again a segment at a time: see [`tidy`](Table::tidy).
//!
//! Equal hashes cannot be split. Entries that are too far from home for their segment go to a
//! *stash*, a plain list. In both places, keys of one hash are compared one by one.
//!
//! Keys' `Eq` runs while nothing is being changed; their `Hash` runs when segments are rebuilt, and
//! before the first entry moves. If either panics, nothing has changed.

mod resize;
mod segment;
#[cfg(test)]
mod tests;

use std::collections::TryReserveError;

use zpool_core::page::OutOfFrames;

#[cfg(test)]
use resize::max_buckets;
#[cfg(test)]
use segment::enough;
pub(crate) use segment::{KeyedEntry, NEIGHBOUR_BITS, NEIGHBOURS};
use segment::{LOAD, LOAD_OF, Range, Segment};

/// A segment that has grown to this many bytes splits; then the halves grow.
const SEGMENT_BYTES: usize = 32 << 10;

/// Segments of large keys have at least this many buckets before they split.
const SEGMENT_BUCKETS: usize = 64;

/// The table of a shard.
#[derive(Debug)]
pub(crate) struct Table<K> {
    /// Segment 0: the only one of a small table.
    first: Segment<K>,
    /// Bits of a hash that index the directory.
    depth: u32,
    with_sums: bool,
    len: usize,
    /// Buckets of all segments.
    buckets: usize,
    /// Bytes of the arrays of all segments.
    array_bytes: usize,
    /// Segments 1 and up.
    more: Vec<Segment<K>>,
    /// The number of the segment for each value of the first `depth` bits; empty at depth 0.
    directory: Vec<u16>,
    /// Entries that no segment takes, with their checksums.
    stash: Vec<(KeyedEntry<K>, u32)>,
    /// Hash at which tidying continues.
    tidied: u64,
}

/// Position of an entry, valid until the table changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BucketId {
    segment: u32,
    bucket: u32,
}

/// The number that stands for the stash.
const STASH: u32 = u32::MAX;

/// A place in the order of hashes, from which a walk over all entries continues: the stash first,
/// then one segment after the other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Position {
    stashed: usize,
    hash: u64,
}

impl Position {
    /// Returns whether a walk begins here, with the stash.
    pub(crate) fn is_start(self) -> bool {
        self.hash == 0
    }

    pub(crate) fn hash(self) -> u64 {
        self.hash
    }

    /// Returns the position of this hash, after the stash.
    pub(crate) fn of(hash: u64) -> Position {
        Position { stashed: usize::MAX, hash }
    }
}

/// The reason why there is no place for another entry.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NoRoom;

impl From<TryReserveError> for NoRoom {
    fn from(_: TryReserveError) -> NoRoom {
        NoRoom
    }
}

impl From<OutOfFrames> for NoRoom {
    fn from(_: OutOfFrames) -> NoRoom {
        NoRoom
    }
}

impl<K> Table<K> {
    /// Bytes that an entry takes in a full segment.
    pub(crate) const ENTRY_BYTES: usize = size_of::<Option<KeyedEntry<K>>>() * LOAD_OF / LOAD;

    pub(crate) fn new(with_sums: bool) -> Table<K> {
        Table {
            first: Segment::empty(Range::ALL),
            depth: 0,
            with_sums,
            len: 0,
            buckets: 0,
            array_bytes: 0,
            more: Vec::new(),
            directory: Vec::new(),
            stash: Vec::new(),
            tidied: 0,
        }
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Returns the bytes of the table's memory.
    #[inline]
    pub(crate) fn bytes(&self) -> usize {
        self.array_bytes
            + self.more.capacity() * size_of::<Segment<K>>()
            + self.directory.capacity() * size_of::<u16>()
            + self.stash.capacity() * size_of::<(KeyedEntry<K>, u32)>()
    }

    /// Returns roughly the bytes that [`tidy`](Self::tidy) could free.
    #[cfg(test)]
    pub(crate) fn surplus(&self) -> usize {
        let needed = enough(self.len);
        if self.buckets <= needed {
            0
        } else {
            self.array_bytes / self.buckets * (self.buckets - needed)
        }
    }

    #[inline]
    pub(crate) fn get(&self, at: BucketId) -> Option<&KeyedEntry<K>> {
        if at.segment == STASH {
            return self.stash.get(at.bucket as usize).map(|(item, _)| item);
        }
        self.segment(at.segment).get(at.bucket as usize)
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, at: BucketId) -> Option<&mut KeyedEntry<K>> {
        if at.segment == STASH {
            return self.stash.get_mut(at.bucket as usize).map(|(item, _)| item);
        }
        self.segment_mut(at.segment).get_mut(at.bucket as usize)
    }

    /// Returns the checksum of the entry at `at`; 0 where there are none.
    #[inline]
    pub(crate) fn sum(&self, at: BucketId) -> u32 {
        if at.segment == STASH {
            return self.stash.get(at.bucket as usize).map_or(0, |(_, sum)| *sum);
        }
        self.segment(at.segment).sum(at.bucket as usize)
    }

    #[inline]
    pub(crate) fn set_sum(&mut self, at: BucketId, sum: u32) {
        if at.segment == STASH {
            self.stash[at.bucket as usize].1 = sum;
        } else {
            self.segment_mut(at.segment).set_sum(at.bucket as usize, sum);
        }
    }

    /// Finds the key with this hash for which `is` returns true.
    #[inline]
    pub(crate) fn find(&self, hash: u64, mut is: impl FnMut(&K) -> bool) -> Option<BucketId> {
        let segment = self.number(hash);
        match self.segment(segment).find(hash, &mut is) {
            Some(bucket) => Some(BucketId { segment, bucket: bucket as u32 }),
            None if self.stash.is_empty() => None,
            None => self.find_stashed(is),
        }
    }

    #[cold]
    fn find_stashed(&self, mut is: impl FnMut(&K) -> bool) -> Option<BucketId> {
        let bucket = self.stash.iter().position(|((key, _), _)| is(key))?;
        Some(BucketId { segment: STASH, bucket: bucket as u32 })
    }

    /// Finds the bucket of this hash for which `is` returns true, whatever its key.
    pub(crate) fn find_at(
        &self,
        hash: u64,
        mut is: impl FnMut(BucketId) -> bool,
    ) -> Option<BucketId> {
        let number = self.number(hash);
        let segment = self.segment(number);
        let at = |bucket: usize| BucketId { segment: number, bucket: bucket as u32 };
        if let Some(bucket) = segment.find_at(hash, |bucket, _| is(at(bucket))) {
            return Some(at(bucket));
        }
        let stashed = |bucket: usize| BucketId { segment: STASH, bucket: bucket as u32 };
        (0..self.stash.len()).map(stashed).find(|at| is(*at))
    }

    /// Prefetches the buckets where a hash is looked for.
    #[inline]
    pub(crate) fn prefetch(&self, hash: u64) {
        self.segment(self.number(hash)).prefetch(hash);
    }

    /// Inserts an item whose key is not there, after [`make_room`](Self::make_room) for its hash.
    ///
    /// # Errors
    ///
    /// Returns the item if there is no memory.
    #[inline]
    pub(crate) fn insert(
        &mut self,
        hash: u64,
        item: KeyedEntry<K>,
        sum: u32,
    ) -> Result<(), KeyedEntry<K>> {
        let number = self.number(hash);
        let segment = self.segment_mut(number);
        match segment.insert(hash, item) {
            Ok(bucket) => segment.set_sum(bucket, sum),
            Err(item) => self.put_into_stash(item, sum)?,
        }
        self.len += 1;
        Ok(())
    }

    #[cold]
    fn put_into_stash(&mut self, item: KeyedEntry<K>, sum: u32) -> Result<(), KeyedEntry<K>> {
        if self.stash.len() >= STASH as usize || self.stash.try_reserve(1).is_err() {
            return Err(item);
        }
        self.stash.push((item, sum));
        Ok(())
    }

    /// Removes the item at `at`, if there is one. Needs no memory and frees none.
    pub(crate) fn remove(&mut self, at: BucketId) -> Option<KeyedEntry<K>> {
        let bucket = at.bucket as usize;
        let removed = if at.segment == STASH {
            (bucket < self.stash.len()).then(|| self.stash.swap_remove(bucket).0)
        } else {
            self.segment_mut(at.segment).remove(bucket)
        };
        self.len -= usize::from(removed.is_some());
        removed
    }

    /// Iterates over all items, in no particular order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &KeyedEntry<K>> {
        let segments = std::iter::once(&self.first).chain(&self.more).flat_map(Segment::iter);
        segments.chain(self.stash.iter().map(|(item, _)| item))
    }

    /// Takes everything out, memory included.
    pub(crate) fn take_all(&mut self) -> Table<K> {
        let empty = Table::new(self.with_sums);
        std::mem::replace(self, empty)
    }

    /// Drains the items one by one. Needs no memory. The table must not be used afterwards.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = (KeyedEntry<K>, u32)> {
        let segments = std::iter::once(&mut self.first).chain(&mut self.more);
        segments.flat_map(Segment::drain).chain(self.stash.drain(..))
    }

    /// Returns the items of the stretch of the table at `from`, and where the next stretch begins;
    /// `None` behind the last. A stretch is the stash, or one segment.
    pub(crate) fn stretch(&self, from: Position) -> (Stretch<'_, K>, Option<Position>) {
        if from == Position::default() && !self.stash.is_empty() {
            return (Stretch::Stash(&self.stash), Some(Position::of(0)));
        }
        let segment = self.segment(self.number(from.hash));
        let next = segment.range().end().map(Position::of);
        (Stretch::Segment(segment), next)
    }

    /// Returns the first entry at or behind `from` among the next `most` buckets, with its
    /// position. If these are empty, returns the position behind them, or the end of the table.
    pub(crate) fn seek(&self, from: Position, most: usize) -> Seek {
        if from.hash == 0 && from.stashed < self.stash.len() {
            return Seek::Found(BucketId { segment: STASH, bucket: from.stashed as u32 }, from);
        }
        let number = self.number(from.hash);
        let segment = self.segment(number);
        let first = segment.bucket_at(from.hash);
        let last = segment.buckets().min(first.saturating_add(most));
        match (first..last).find(|&bucket| segment.get(bucket).is_some()) {
            Some(bucket) => {
                let hash = segment.position_of(bucket).unwrap_or(from.hash).max(from.hash);
                Seek::Found(
                    BucketId { segment: number, bucket: bucket as u32 },
                    Position { hash, ..from },
                )
            }
            None => {
                let hash = segment.position_of(last).or_else(|| segment.range().end());
                hash.map_or(Seek::End, |hash| Seek::Nothing(Position { hash, ..from }))
            }
        }
    }

    /// Returns the position behind the entry at `at`, which [`seek`](Self::seek) found at `from`;
    /// `None` at the end of the table.
    pub(crate) fn behind(&self, at: BucketId, from: Position) -> Option<Position> {
        if at.segment == STASH {
            return Some(Position { stashed: from.stashed + 1, ..from });
        }
        let segment = self.segment(at.segment);
        let hash = segment.position_of(at.bucket as usize + 1).or_else(|| segment.range().end())?;
        Some(Position { hash, ..from })
    }

    /// Returns the number of the segment for a hash.
    #[inline]
    fn number(&self, hash: u64) -> u32 {
        if self.depth == 0 {
            0
        } else {
            u32::from(self.directory[(hash >> (u64::BITS - self.depth)) as usize])
        }
    }

    #[inline]
    fn segment(&self, number: u32) -> &Segment<K> {
        if number == 0 { &self.first } else { &self.more[number as usize - 1] }
    }

    #[inline]
    fn segment_mut(&mut self, number: u32) -> &mut Segment<K> {
        if number == 0 { &mut self.first } else { &mut self.more[number as usize - 1] }
    }
}

/// Result of [`Table::seek`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Seek {
    /// An entry, and its position.
    Found(BucketId, Position),
    /// No entry before this position.
    Nothing(Position),
    /// The end of the table.
    End,
}

/// The items of a stretch.
#[derive(Debug)]
pub(crate) enum Stretch<'t, K> {
    Stash(&'t [(KeyedEntry<K>, u32)]),
    Segment(&'t Segment<K>),
}

impl<'t, K> Stretch<'t, K> {
    pub(crate) fn len(&self) -> usize {
        match self {
            Stretch::Stash(items) => items.len(),
            Stretch::Segment(segment) => segment.len(),
        }
    }

    pub(crate) fn is_stash(&self) -> bool {
        matches!(self, Stretch::Stash(_))
    }

    pub(crate) fn items(self) -> impl Iterator<Item = &'t KeyedEntry<K>> {
        let (stash, segment) = match self {
            Stretch::Stash(items) => (items, None),
            Stretch::Segment(segment) => (&[][..], Some(segment)),
        };
        stash.iter().map(|(item, _)| item).chain(segment.into_iter().flat_map(Segment::iter))
    }
}
