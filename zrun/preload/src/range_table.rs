//! Which parts of the reserve are used, and for what.
//!
//! ```text
//!   0 ─ used │ free │ used │ used │ given up │ free ──────────────────── len
//! ```
//!
//! Offsets and lengths are whole pages. Neighbouring free parts are one; used ones stay apart,
//! because a block of the heap is found by its start.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// Lengths from which on a part gets room to grow.
const ROOMY: usize = 16 << 20;

/// The state of a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RangeState {
    /// Closed.
    Free,
    /// Open: a mapping, or a block of the heap.
    Used,
    /// Open, and the program has changed how it may be accessed.
    Protected,
    /// Another mapping of the program's, for ever.
    GivenUp,
}

impl RangeState {
    /// Returns whether the part is open.
    pub(crate) fn is_open(self) -> bool {
        matches!(self, RangeState::Used | RangeState::Protected)
    }
}

/// The table of all parts.
#[derive(Debug)]
pub(crate) struct RangeTable {
    /// End and state of each part, by its start. Together they are the whole reserve.
    parts: BTreeMap<usize, (usize, RangeState)>,
    /// Length and start of the free parts.
    free: BTreeSet<(usize, usize)>,
    open_bytes: usize,
    peak_bytes: usize,
}

impl RangeTable {
    /// Creates the table of a reserve of `len` bytes, all free.
    pub(crate) fn new(len: usize) -> RangeTable {
        RangeTable {
            parts: BTreeMap::from([(0, (len, RangeState::Free))]),
            free: BTreeSet::from([(len, 0)]),
            open_bytes: 0,
            peak_bytes: 0,
        }
    }

    /// Returns the most bytes that were open at once.
    pub(crate) fn peak_bytes(&self) -> usize {
        self.peak_bytes
    }

    /// Finds a free part of `len` bytes whose start is a multiple of `align` from `base` on.
    /// Large parts get room behind them, so that they can grow where they are.
    pub(crate) fn find(&self, len: usize, align: usize, base: usize) -> Option<Range<usize>> {
        let fit = |start: usize, end: usize| {
            let start = (base + start).checked_next_multiple_of(align)? - base;
            let fits = start.checked_add(len).is_some_and(|until| until <= end);
            fits.then_some(start..start + len)
        };
        if len >= ROOMY
            && let Some(&(gap, start)) = self.free.last()
            && gap / 4 >= len
        {
            return fit(start + gap / 2, start + gap);
        }
        self.free.range((len, 0)..).find_map(|&(gap, start)| fit(start, start + gap))
    }

    /// Returns the part that begins at `start`, if it is open.
    pub(crate) fn open_at(&self, start: usize) -> Option<Range<usize>> {
        let &(end, state) = self.parts.get(&start)?;
        state.is_open().then_some(start..end)
    }

    /// Returns the pieces of a range, each with its state.
    pub(crate) fn pieces(&self, range: &Range<usize>) -> Vec<(Range<usize>, RangeState)> {
        let first = self.parts.range(..=range.start).next_back().map_or(0, |(&start, _)| start);
        self.parts
            .range(first..range.end)
            .map(|(&start, &(end, state))| (start.max(range.start)..end.min(range.end), state))
            .filter(|(piece, _)| !piece.is_empty())
            .collect()
    }

    /// Returns whether all of a range is in this state.
    pub(crate) fn is_all(&self, range: &Range<usize>, state: RangeState) -> bool {
        self.pieces(range).iter().all(|piece| piece.1 == state)
    }

    /// Sets the state of a range, whatever it was.
    pub(crate) fn set(&mut self, range: &Range<usize>, state: RangeState) {
        self.split(range.start);
        self.split(range.end);
        for (piece, _) in self.pieces(range) {
            self.take(piece.start);
        }
        self.put(range.clone(), state);
        if state == RangeState::Free {
            self.join(range.start);
            self.join(range.end);
        }
        self.peak_bytes = self.peak_bytes.max(self.open_bytes);
    }

    /// Notes that the program has changed the access of a piece of a part. The part stays one, so
    /// that it is found by its start.
    pub(crate) fn protect(&mut self, piece: &Range<usize>) {
        let part = self.parts.range_mut(..=piece.start).next_back();
        if let Some((_, (_, state @ RangeState::Used))) = part {
            *state = RangeState::Protected;
        }
    }

    /// Lets an open part that ends at `range.start` have this free range, too.
    pub(crate) fn extend(&mut self, range: &Range<usize>) {
        self.set(range, RangeState::Used);
        let before = self.parts.range(..range.start).next_back();
        if let Some((&start, &(end, state))) = before
            && end == range.start
            && state.is_open()
        {
            self.take(start);
            self.take(range.start);
            self.put(start..range.end, state);
        }
    }

    /// Cuts the part that `at` is inside of.
    fn split(&mut self, at: usize) {
        let Some((&start, &(end, state))) = self.parts.range(..at).next_back() else { return };
        if at < end {
            self.take(start);
            self.put(start..at, state);
            self.put(at..end, state);
        }
    }

    /// Joins the free parts on both sides of `at`.
    fn join(&mut self, at: usize) {
        let Some(&(end, RangeState::Free)) = self.parts.get(&at) else { return };
        let Some((&start, &(_, RangeState::Free))) = self.parts.range(..at).next_back() else {
            return;
        };
        self.take(start);
        self.take(at);
        self.put(start..end, RangeState::Free);
    }

    fn take(&mut self, start: usize) {
        let Some((end, state)) = self.parts.remove(&start) else { return };
        match state {
            RangeState::Free => drop(self.free.remove(&(end - start, start))),
            state if state.is_open() => self.open_bytes -= end - start,
            _ => {}
        }
    }

    fn put(&mut self, range: Range<usize>, state: RangeState) {
        match state {
            RangeState::Free => drop(self.free.insert((range.len(), range.start))),
            state if state.is_open() => self.open_bytes += range.len(),
            _ => {}
        }
        self.parts.insert(range.start, (range.end, state));
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const LEN: usize = 64;

    fn state_of(number: u8) -> RangeState {
        [RangeState::Free, RangeState::Used, RangeState::Protected, RangeState::GivenUp]
            [usize::from(number % 4)]
    }

    proptest! {
        /// The table agrees with one state per page, through any changes.
        #[test]
        fn table_matches_an_array(steps in vec((0..LEN, 1..LEN, any::<u8>()), 0..200)) {
            let mut table = RangeTable::new(LEN);
            let mut model = [RangeState::Free; LEN];
            for (start, len, number) in steps {
                let range = start..(start + len).min(LEN);
                table.set(&range, state_of(number));
                model[range].fill(state_of(number));
                let pieces = table.pieces(&(0..LEN));
                let flat: Vec<RangeState> =
                    pieces.iter().flat_map(|(piece, state)| vec![*state; piece.len()]).collect();
                prop_assert_eq!(&flat[..], &model[..]);
                let open = model.iter().filter(|state| state.is_open()).count();
                prop_assert_eq!(table.open_bytes, open);
                let free = model.split(|state| *state != RangeState::Free);
                let longest = free.map(<[RangeState]>::len).max().unwrap();
                prop_assert_eq!(table.free.last().map_or(0, |last| last.0), longest);
                if longest > 0 {
                    let found = table.find(longest, 1, 0).unwrap();
                    prop_assert!(table.is_all(&found, RangeState::Free));
                }
                prop_assert_eq!(table.find(longest + 1, 1, 0), None);
            }
        }
    }

    /// Starts are aligned to addresses, not to offsets.
    #[test]
    fn find_aligns_addresses() {
        let mut table = RangeTable::new(LEN);
        assert_eq!(table.find(8, 16, 5), Some(11..19));
        table.set(&(0..LEN - 8), RangeState::Used);
        assert_eq!(table.find(8, 16, 0), None);
        assert_eq!(table.find(8, 8, 0), Some(LEN - 8..LEN));
    }

    /// A block that grows is one part, and its end is found by its start.
    #[test]
    fn extend_keeps_one_part() {
        let mut table = RangeTable::new(LEN);
        table.set(&(8..16), RangeState::Used);
        table.extend(&(16..24));
        assert_eq!(table.open_at(8), Some(8..24));
        table.set(&(20..24), RangeState::Free);
        assert_eq!(table.open_at(8), Some(8..20));
        assert_eq!(table.find(LEN - 20, 1, 0), Some(20..LEN));
        assert_eq!(table.peak_bytes(), 16);
    }
}
