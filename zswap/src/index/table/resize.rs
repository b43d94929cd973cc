//! How a table gets larger and smaller: always one segment, or two that split or merge.

use super::segment::{KeyedEntry, Range, Segment, enough};
use super::{NoRoom, SEGMENT_BUCKETS, SEGMENT_BYTES, Table};

/// Entries of a directory that a table may always have. Hashes in order need a directory that is as
/// fine in one range as it will be in all.
const DIRECTORY: usize = 1024;
/// Further entries for each segment. Without this bound, hashes that crowd would make the directory
/// ever finer.
const DIRECTORY_PER_SEGMENT: usize = 32;

/// The bits of a hash that a directory can be indexed with: its numbers have 16 bits, and it is
/// finer than there are segments.
const MAX_DEPTH: u32 = 24;

/// A table is sparse when it has half as many buckets again as it needs, and this many.
const SPARE_BUCKETS: usize = 64;

impl<K> Table<K> {
    /// Makes room for one more entry of this hash.
    ///
    /// # Errors
    ///
    /// When there is no memory.
    #[inline]
    pub(crate) fn make_room(
        &mut self,
        hash: u64,
        rehash: impl Fn(&K) -> u64,
    ) -> Result<(), NoRoom> {
        if self.segment(self.number(hash)).is_roomy() { Ok(()) } else { self.expand(hash, rehash) }
    }

    #[cold]
    fn expand(&mut self, hash: u64, rehash: impl Fn(&K) -> u64) -> Result<(), NoRoom> {
        let segment = self.segment(self.number(hash));
        let (has_room, buckets, next) =
            (segment.has_room(), segment.buckets(), segment.next_buckets());
        // A segment that is strained but not full can do without more buckets.
        let result = if has_room && segment.is_thin() {
            Ok(())
        } else if buckets < max_buckets::<K>() {
            let next = if has_room { next.min(max_buckets::<K>()) } else { next };
            let rebuilt = self.rebuild(hash, next, &rehash);
            if has_room && rebuilt.is_ok() {
                let number = self.number(hash);
                self.segment_mut(number).set_enlarged();
            }
            rebuilt
        } else {
            match self.split(hash, &rehash) {
                Ok(false) if !has_room => self.rebuild(hash, next, &rehash),
                result => result.map(|_| ()),
            }
        };
        self.relax(hash);
        if has_room { Ok(()) } else { result }
    }

    fn relax(&mut self, hash: u64) {
        let number = self.number(hash);
        self.segment_mut(number).relax();
    }

    /// Moves the segment of `hash` into arrays with this many buckets. If its entries would be too
    /// far from home there, does nothing; then new ones go to the stash.
    fn rebuild(
        &mut self,
        hash: u64,
        buckets: usize,
        rehash: &impl Fn(&K) -> u64,
    ) -> Result<(), NoRoom> {
        let number = self.number(hash);
        let segment = self.segment(number);
        let hashes = hashes(&[segment], rehash)?;
        let next = Segment::with_buckets(segment.range(), buckets, self.with_sums)?;
        if next.would_fit(&hashes)? {
            let mut old = self.replace(number, next);
            self.refill(old.drain(), &hashes);
        } else {
            self.segment_mut(number).get_stuck();
        }
        Ok(())
    }

    /// Splits the segment of `hash` into two. False, and nothing done, where that cannot be: the
    /// directory would become too large, or a half would be as crowded as the whole.
    fn split(&mut self, hash: u64, rehash: &impl Fn(&K) -> u64) -> Result<bool, NoRoom> {
        let number = self.number(hash);
        let segment = self.segment(number);
        let range = segment.range();
        if self.more.len() >= usize::from(u16::MAX)
            || (range.depth == self.depth && !self.may_deepen())
        {
            return Ok(false);
        }
        let hashes = hashes(&[segment], rehash)?;
        let mut halves: [Vec<u64>; 2] = Default::default();
        for half in &mut halves {
            half.try_reserve_exact(hashes.len())?;
        }
        hashes.iter().for_each(|&hash| halves[range.half_of(hash)].push(hash));
        let [low, high] = range.halves();
        let low = Segment::with_buckets(low, enough(halves[0].len()), self.with_sums)?;
        let high = Segment::with_buckets(high, enough(halves[1].len()), self.with_sums)?;
        if !low.would_fit(&halves[0])? || !high.would_fit(&halves[1])? {
            return Ok(false);
        }
        self.more.try_reserve(1)?;
        if range.depth == self.depth {
            self.deepen()?;
        }
        let mut old = self.replace(number, low);
        self.count_in(&high);
        self.more.push(high);
        self.point_to(self.more.len() as u32);
        self.refill(old.drain(), &hashes);
        Ok(true)
    }

    /// Merges the segment at `hash` with its other half, if both together are small. False, and
    /// nothing done, if not.
    fn merge(&mut self, hash: u64, rehash: &impl Fn(&K) -> u64) -> Result<bool, NoRoom> {
        let number = self.number(hash);
        let range = self.segment(number).range();
        if range.depth == 0 {
            return Ok(false);
        }
        let other_half = range.start ^ 1 << (u64::BITS - range.depth);
        let other = self.number(other_half);
        let (segment, buddy) = (self.segment(number), self.segment(other));
        let buckets = enough(segment.len() + buddy.len());
        if buddy.range().depth != range.depth || buckets > max_buckets::<K>() / 2 {
            return Ok(false);
        }
        let both = Range { start: range.start & other_half, depth: range.depth - 1 };
        let (kept, gone) = (number.min(other), number.max(other));
        let hashes = hashes(&[self.segment(kept), self.segment(gone)], rehash)?;
        let next = Segment::with_buckets(both, buckets, self.with_sums)?;
        if !next.would_fit(&hashes)? {
            return Ok(false);
        }
        let mut kept_items = self.replace(kept, next);
        let mut gone_items = self.take_out(gone);
        self.point_to(kept);
        self.refill(kept_items.drain().chain(gone_items.drain()), &hashes);
        self.flatten();
        Ok(true)
    }

    /// Puts items, whose hashes these are, into segments that are empty and were found to fit them.
    /// One that does not fit after all goes to the stash; if there is no memory for that either, it
    /// is lost, and counted as lost.
    pub(super) fn refill(
        &mut self,
        items: impl Iterator<Item = (KeyedEntry<K>, u32)>,
        hashes: &[u64],
    ) {
        let (mut number, mut run) = (u32::MAX, 0..0);
        let mut hashes = hashes.iter();
        // Not `for`: internal iteration over a chain is faster.
        items.for_each(|(item, sum)| {
            let &hash = hashes.next().expect("a hash for each item");
            if self.number(hash) != number {
                (number, run) = (self.number(hash), 0..0);
            }
            let segment = self.segment_mut(number);
            if let Err(item) = segment.append(hash, item, sum, &mut run) {
                let lost = self.put_into_stash(item, sum).is_err();
                self.len -= usize::from(lost);
            }
        });
    }

    /// Replaces segment `number` by `next`, and returns the old one.
    fn replace(&mut self, number: u32, next: Segment<K>) -> Segment<K> {
        self.count_in(&next);
        let old = std::mem::replace(self.segment_mut(number), next);
        self.count_out(&old);
        old
    }

    /// Takes segment `number`, not the first, out of the list; the last one gets its number.
    fn take_out(&mut self, number: u32) -> Segment<K> {
        let old = self.more.swap_remove(number as usize - 1);
        self.count_out(&old);
        if number as usize <= self.more.len() {
            self.point_to(number);
        }
        old
    }

    fn count_in(&mut self, segment: &Segment<K>) {
        self.buckets += segment.buckets();
        self.array_bytes += segment.bytes();
    }

    fn count_out(&mut self, segment: &Segment<K>) {
        self.buckets -= segment.buckets();
        self.array_bytes -= segment.bytes();
    }

    /// Points the directory's entries for its range to segment `number`.
    fn point_to(&mut self, number: u32) {
        if self.depth == 0 {
            return;
        }
        let Range { start, depth } = self.segment(number).range();
        let first = (start >> (u64::BITS - self.depth)) as usize;
        self.directory[first..first + (1 << (self.depth - depth))].fill(number as u16);
    }

    fn may_deepen(&self) -> bool {
        self.depth < MAX_DEPTH
            && 2 << self.depth <= DIRECTORY + DIRECTORY_PER_SEGMENT * (self.more.len() + 1)
    }

    /// Doubles the directory, so that it distinguishes hashes by one more bit.
    fn deepen(&mut self) -> Result<(), NoRoom> {
        let len = 1 << self.depth;
        self.directory.try_reserve_exact(2 * len - self.directory.len())?;
        self.directory.resize(2 * len, 0);
        for at in (0..len).rev() {
            let number = self.directory[at];
            self.directory[2 * at..2 * at + 2].fill(number);
        }
        self.depth += 1;
        Ok(())
    }

    /// Makes the directory as coarse as the segments are.
    fn flatten(&mut self) {
        let deepest = std::iter::once(&self.first)
            .chain(&self.more)
            .map(|segment| segment.range().depth)
            .max();
        let deepest = deepest.unwrap_or(0);
        // Not at once: the next split would make it finer again.
        if deepest + 1 >= self.depth && deepest > 0 {
            return;
        }
        let step = 1 << (self.depth - deepest);
        let len = if deepest == 0 { 0 } else { 1 << deepest };
        for at in 0..len {
            self.directory[at] = self.directory[at * step];
        }
        self.directory.truncate(len);
        self.depth = deepest;
        fit(&mut self.directory);
        fit(&mut self.more);
    }

    /// Returns whether the table has many more buckets than it needs.
    #[inline]
    pub(crate) fn is_sparse(&self) -> bool {
        self.buckets > SPARE_BUCKETS && is_much_more(self.buckets - SPARE_BUCKETS, enough(self.len))
    }

    /// Visits one segment, and continues with the next one when called again. Shrinks the segment
    /// if much of it is unused, or merges it with its other half. Returns true if it merged. If
    /// memory is short, changes nothing.
    ///
    /// A segment that was enlarged is left as it is, unless `all` is set: it may still be filling
    /// up.
    pub(crate) fn tidy(&mut self, all: bool, rehash: &impl Fn(&K) -> u64) -> bool {
        if self.len == 0 {
            *self = Table::new(self.with_sums);
            return false;
        }
        if self.stash.is_empty() {
            self.stash = Vec::new();
        }
        let hash = self.tidied;
        let merged = self.merge(hash, rehash).unwrap_or(false);
        let segment = self.segment(self.number(hash));
        let range = segment.range();
        if merged {
            // Visit it once more, because it may merge again.
            self.tidied = range.start;
            return true;
        }
        let buckets = enough(segment.len());
        if (all || !segment.is_enlarged()) && is_much_more(segment.buckets(), buckets) {
            // An error means that it stays as it is.
            let _ = self.rebuild(hash, buckets, rehash);
        }
        self.tidied = range.end().unwrap_or(0);
        false
    }

    /// Tidies the whole table.
    pub(crate) fn shrink(&mut self, rehash: &impl Fn(&K) -> u64) {
        self.tidied = 0;
        while self.tidy(true, rehash) || self.tidied != 0 {}
    }
}

/// Returns the buckets at which a segment splits.
pub(super) fn max_buckets<K>() -> usize {
    (SEGMENT_BYTES / size_of::<Option<KeyedEntry<K>>>()).max(SEGMENT_BUCKETS)
}

fn is_much_more(buckets: usize, enough: usize) -> bool {
    buckets > enough + enough / 2
}

/// Returns the hashes of all entries of these segments, in their order.
fn hashes<K>(segments: &[&Segment<K>], rehash: &impl Fn(&K) -> u64) -> Result<Vec<u64>, NoRoom> {
    let mut hashes = Vec::new();
    hashes.try_reserve_exact(segments.iter().map(|segment| segment.len()).sum())?;
    for segment in segments {
        // Not `extend`, which asks for each item whether there is room: see also `refill`.
        segment.iter().for_each(|(key, _)| hashes.push(rehash(key)));
    }
    Ok(hashes)
}

/// Shrinks a list to its length, if it has much more capacity and there is memory for the copy.
fn fit<T>(list: &mut Vec<T>) {
    if list.capacity() <= 2 * list.len() {
        return;
    }
    let mut fitted = Vec::new();
    if fitted.try_reserve_exact(list.len()).is_ok() {
        fitted.append(list);
        *list = fitted;
    }
}
