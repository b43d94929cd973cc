//! Every page that a pool ever had: a grow-only table whose entries never move, so that readers
//! need no lock.
//!
//! ```text
//!   segments   0: [run 0]     1: [run 1, run 2]     2: [run 3, .., run 6]     3: ...
//!                   │                                   each allocated when first needed
//!                   ▼
//!   PageRun   memory of 64 pages | buddies: first, last | first, last | ...     64 pairs
//! ```

use std::sync::OnceLock;

use zpool_core::PoolError;
use zpool_core::page::Run;

use crate::buddy::Buddy;
use crate::geometry::{BuddyIndex, MAX_PAGES, PageIndex, SIDES};

/// Pages that one call of the page source reserves together.
pub(crate) const PAGES_PER_RUN: usize = 64;

/// Segment `k` of the table has room for `2^k` runs.
const SEGMENTS: usize = (MAX_PAGES / PAGES_PER_RUN).ilog2() as usize + 1;

/// Runs whose buddies a handle can number. The segments have room for more, so that several inserts
/// which grow the pool at once may exceed it.
pub(crate) const MAX_RUNS: usize = MAX_PAGES / PAGES_PER_RUN - 1024;

type Segment = Box<[OnceLock<OneRun>]>;

/// A box of one run, made of a vector because `Box::new` cannot report that the heap refuses.
type OneRun = Box<[PageRun]>;

/// 64 pages, neighbours in memory, and their buddies.
#[derive(Debug)]
pub(crate) struct PageRun {
    pub(crate) memory: Run,
    buddies: [[Buddy; SIDES.len()]; PAGES_PER_RUN],
}

/// Heap memory for a [`PageRun`], allocated before there is one.
pub(crate) struct RunStorage(Vec<PageRun>);

impl RunStorage {
    pub(crate) fn fill(&mut self, run: PageRun) -> OneRun {
        self.0.push(run);
        core::mem::take(&mut self.0).into_boxed_slice()
    }
}

/// Collects entries in a box of exactly that length.
///
/// # Errors
///
/// [`PoolError::OutOfMemory`], if the heap refuses.
pub(crate) fn boxed<T>(entries: impl ExactSizeIterator<Item = T>) -> Result<Box<[T]>, PoolError> {
    let mut list = Vec::new();
    list.try_reserve_exact(entries.len()).map_err(|_| PoolError::OutOfMemory)?;
    list.extend(entries);
    Ok(list.into_boxed_slice())
}

impl PageRun {
    /// Allocates the heap memory for one.
    ///
    /// # Errors
    ///
    /// [`PoolError::OutOfMemory`], if the heap refuses.
    pub(crate) fn storage() -> Result<RunStorage, PoolError> {
        let mut storage = Vec::new();
        storage.try_reserve_exact(1).map_err(|_| PoolError::OutOfMemory)?;
        Ok(RunStorage(storage))
    }

    pub(crate) fn new(memory: Run) -> PageRun {
        PageRun { memory, buddies: core::array::from_fn(|_| SIDES.map(|_| Buddy::new())) }
    }
}

/// The runs by number.
#[derive(Debug)]
pub(crate) struct RunTable {
    segments: [OnceLock<Segment>; SEGMENTS],
}

impl RunTable {
    pub(crate) fn new() -> RunTable {
        RunTable { segments: [const { OnceLock::new() }; SEGMENTS] }
    }

    /// Returns the run that `page` is in, if there is one.
    #[inline]
    pub(crate) fn run_of(&self, page: PageIndex) -> Option<&PageRun> {
        let (segment, at) = RunTable::find(page.0 as usize / PAGES_PER_RUN);
        self.segments.get(segment)?.get()?.get(at)?.get()?.first()
    }

    /// Returns the buddy of this number and its run, if there is one.
    #[inline]
    pub(crate) fn buddy(&self, index: BuddyIndex) -> Option<(&PageRun, &Buddy)> {
        let run = self.run_of(index.page())?;
        let pair = &run.buddies[index.page().0 as usize % PAGES_PER_RUN];
        Some((run, &pair[index.side() as usize]))
    }

    /// Makes room for run number `run`.
    ///
    /// # Errors
    ///
    /// [`PoolError::OutOfMemory`], if the heap refuses.
    pub(crate) fn make_room(&self, run: usize) -> Result<(), PoolError> {
        let (segment, _) = RunTable::find(run);
        if self.segments[segment].get().is_none() {
            let cells = boxed((0..1usize << segment).map(|_| OnceLock::new()))?;
            // If another insert was faster, its segment is used.
            let _ = self.segments[segment].set(cells);
        }
        Ok(())
    }

    /// Returns whether there is room for run number `run`.
    pub(crate) fn has_room(&self, run: usize) -> bool {
        self.segments[RunTable::find(run).0].get().is_some()
    }

    /// Installs run number `run`, for which there is room. Allocates nothing.
    pub(crate) fn install(&self, run: usize, pages: OneRun) {
        let (segment, at) = RunTable::find(run);
        let segment = self.segments[segment].get().expect("room was made");
        segment[at].set(pages).expect("each number is given once");
    }

    /// Iterates over all runs, in order.
    pub(crate) fn runs(&self) -> impl Iterator<Item = &PageRun> {
        let segments = self.segments.iter().map_while(OnceLock::get);
        segments.flat_map(|segment| segment.iter()).filter_map(|cell| cell.get()?.first())
    }

    /// Returns the heap bytes of a table of `runs` runs.
    pub(crate) fn bytes(runs: usize) -> usize {
        let room = (runs + 1).next_power_of_two() - 1;
        room * size_of::<OnceLock<OneRun>>() + runs * size_of::<PageRun>()
    }

    fn find(run: usize) -> (usize, usize) {
        let segment = (run + 1).ilog2() as usize;
        (segment, run + 1 - (1 << segment))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_fill_segments_without_gap() {
        let mut next = (0, 0);
        for run in 0..1000 {
            assert_eq!(RunTable::find(run), next);
            next = if next.1 + 1 == 1 << next.0 { (next.0 + 1, 0) } else { (next.0, next.1 + 1) };
        }
        assert!(RunTable::find(MAX_PAGES / PAGES_PER_RUN).0 < SEGMENTS);
    }

    /// A number without a page yields no buddy.
    #[test]
    fn buddy_of_missing_page_is_none() {
        let table = RunTable::new();
        for bits in [0, 1, 127, 128, u32::MAX] {
            assert!(table.buddy(BuddyIndex::from_bits(bits)).is_none());
        }
        table.make_room(0).unwrap();
        assert!(table.buddy(BuddyIndex::from_bits(0)).is_none());
    }
}
