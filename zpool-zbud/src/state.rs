//! The state under the pool's lock: every page's entry, the lists, and the sums.
//!
//! ```text
//!   occupied    bit 63 .. 1:  a page has that many free chunks    smallest hole that is enough:
//!   unbuddied   [1] [2] ... [40] ... [63]          trailing_zeros(occupied >> chunks) + chunks
//!                             │
//!                             ▼ last in, first out
//!                            page ─► page
//!   empty      pages without object whose frames are still charged      vacant: without either
//!   by age     all pages with an object; the one with the newest buddy in front
//! ```

mod validate;

use zpool_core::PoolError;

pub(crate) use self::validate::validate;
use crate::geometry::{BuddySide, CHUNKS_PER_PAGE, Chunks, FrameSet, PageIndex};
use crate::page_list::{LinkSet, List, PageEntry, PageGroup, ZbudPages};
use crate::release_job::ReleaseJob;
use crate::table::PAGES_PER_RUN;

/// The state. Its methods keep the invariants that [`validate`] checks, and call nothing outside.
#[derive(Debug)]
pub(crate) struct ZbudState {
    pages: ZbudPages,
    /// By free chunks. Entry 0 is not used.
    unbuddied: [List; CHUNKS_PER_PAGE],
    /// Bit n: `unbuddied[n]` is not empty.
    occupied: u64,
    empty: List,
    vacant: List,
    by_age: List,
    counts: ZbudCounts,
    job: ReleaseJob,
    /// Empty pages whose frames the system did not take when it was last asked.
    refused: usize,
}

/// The counts of a pool.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ZbudCounts {
    /// Objects with a handle, or about to get one.
    pub(crate) objects: usize,
    pub(crate) zombies: usize,
    /// Bytes of both.
    pub(crate) payload: usize,
    /// Chunks of both.
    pub(crate) chunks: usize,
    /// Frames of all pages that are charged.
    pub(crate) resident: usize,
    pub(crate) failed_inserts: u64,
    /// Pages by the number of their objects. Those without object or frame are in none.
    pub(crate) rows: [FullnessRow; 3],
}

/// Pages with the same number of objects.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct FullnessRow {
    pub(crate) pages: usize,
    pub(crate) frames: usize,
}

impl ZbudState {
    pub(crate) fn new() -> ZbudState {
        ZbudState {
            pages: ZbudPages::default(),
            unbuddied: [List::new(); CHUNKS_PER_PAGE],
            occupied: 0,
            empty: List::new(),
            vacant: List::new(),
            by_age: List::new(),
            counts: ZbudCounts::default(),
            job: ReleaseJob::default(),
            refused: 0,
        }
    }

    pub(crate) fn counts(&self) -> ZbudCounts {
        self.counts
    }

    /// Returns the frames of all pages that are charged.
    #[inline]
    pub(crate) fn resident(&self) -> usize {
        self.counts.resident
    }

    pub(crate) fn count_failed_insert(&mut self) {
        self.counts.failed_inserts += 1;
    }

    pub(crate) fn job(&mut self) -> &mut ReleaseJob {
        &mut self.job
    }

    pub(crate) fn page(&self, page: PageIndex) -> &PageEntry {
        &self.pages[page]
    }

    /// Returns the number of runs.
    pub(crate) fn runs(&self) -> usize {
        self.pages.runs()
    }

    /// Returns the heap bytes of the entries.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.pages.bytes()
    }

    /// Makes room for another run.
    ///
    /// # Errors
    ///
    /// [`PoolError::OutOfMemory`], if the heap refuses.
    pub(crate) fn make_room(&mut self) -> Result<(), PoolError> {
        self.pages.make_room()
    }

    /// Returns how many pages are empty.
    pub(crate) fn empty_pages(&self) -> usize {
        self.empty.len()
    }

    /// Returns how many empty pages the system may take: not those that it has just refused.
    pub(crate) fn releasable_pages(&self) -> usize {
        self.empty.len().saturating_sub(self.refused)
    }

    /// Returns the empty page that was idle the longest.
    pub(crate) fn oldest_empty(&self) -> Option<PageIndex> {
        self.empty.last()
    }

    /// Notes whether the system took all frames that it was offered. If not, the pages that are
    /// empty now are offered again once as many more are empty, or when the system takes some.
    pub(crate) fn note_release(&mut self, took_all: bool) {
        self.refused = if took_all { 0 } else { self.empty.len() };
    }

    /// Returns the number of pages with objects, apart from those that reclaim has isolated.
    pub(crate) fn pages_by_age(&self) -> usize {
        self.by_age.len()
    }

    /// Returns the page whose newest object is the oldest.
    pub(crate) fn oldest(&self) -> Option<PageIndex> {
        self.by_age.last()
    }

    /// Notes that an object is gone, or was never made. Its room is still to be vacated.
    pub(crate) fn end_object(&mut self) {
        self.counts.objects -= 1;
    }

    /// Notes that an object was freed while guards hold it.
    pub(crate) fn make_zombie(&mut self) {
        self.counts.objects -= 1;
        self.counts.zombies += 1;
    }

    /// Notes that a zombie has lost its last guard. Its room is still to be vacated.
    pub(crate) fn end_zombie(&mut self) {
        self.counts.zombies -= 1;
    }

    /// Adds a run of vacant pages, for which there is room. Those in front are used first.
    pub(crate) fn add_run(&mut self, entries: Box<[PageEntry; PAGES_PER_RUN]>) {
        self.pages.add(entries);
        for page in ZbudPages::of_run(self.pages.runs() - 1).rev() {
            self.relink(page);
        }
    }

    /// Finds room for an object: the smallest hole that is enough, otherwise an empty page,
    /// otherwise a vacant one.
    pub(crate) fn find(&self, chunks: Chunks) -> Option<(PageIndex, BuddySide)> {
        if let Some(free) = self.smallest_hole(chunks) {
            let page = self.unbuddied[free].first().expect("its bit says that there is one");
            let side = match self.pages[page].chunks(BuddySide::First) {
                Chunks::NONE => BuddySide::First,
                _ => BuddySide::Last,
            };
            return Some((page, side));
        }
        let page = self.empty.first().or_else(|| self.vacant.first())?;
        Some((page, BuddySide::First))
    }

    fn smallest_hole(&self, chunks: Chunks) -> Option<usize> {
        let at_least = self.occupied.checked_shr(chunks.count() as u32).unwrap_or(0);
        (at_least != 0).then(|| at_least.trailing_zeros() as usize + chunks.count())
    }

    /// Puts an object of `chunks` chunks and `len` bytes into a free side of a page, which becomes
    /// the youngest.
    pub(crate) fn occupy(&mut self, page: PageIndex, side: BuddySide, chunks: Chunks, len: usize) {
        debug_assert_eq!(self.pages[page].chunks(side), Chunks::NONE, "the side is free");
        self.unlink_from_group(page);
        self.change(page, |entry| entry.set_chunks(side, chunks));
        self.unlink_from_age(page);
        self.relink(page);
        self.counts.objects += 1;
        self.counts.payload += len;
        self.counts.chunks += chunks.count();
    }

    /// Removes an object from a page. The caller ends the object or the zombie.
    pub(crate) fn vacate(&mut self, page: PageIndex, side: BuddySide, len: usize) {
        let chunks = self.pages[page].chunks(side);
        debug_assert!(chunks > Chunks::NONE, "the side is taken");
        let isolated = self.pages[page].group == PageGroup::Isolated;
        if !isolated {
            self.unlink_from_group(page);
        }
        self.change(page, |entry| entry.set_chunks(side, Chunks::NONE));
        if !isolated {
            self.relink(page);
        }
        self.counts.payload -= len;
        self.counts.chunks -= chunks.count();
    }

    /// Marks frames under an object of the page as charged. Returns those that already were.
    pub(crate) fn make_resident(&mut self, page: PageIndex, frames: FrameSet) -> FrameSet {
        debug_assert!(
            self.pages[page].buddies() > 0,
            "a page without objects would belong elsewhere now"
        );
        let before = self.pages[page].resident & frames;
        self.change(page, |entry| entry.resident = entry.resident | frames);
        before
    }

    /// Marks frames of an isolated page as not charged.
    pub(crate) fn make_absent(&mut self, page: PageIndex, frames: FrameSet) {
        debug_assert_eq!(
            self.pages[page].group,
            PageGroup::Isolated,
            "its frames are the caller's"
        );
        self.change(page, |entry| entry.resident = entry.resident & !frames);
    }

    /// Isolates a page: removes it from its group, but not from the list by age.
    pub(crate) fn isolate(&mut self, page: PageIndex) {
        self.unlink_from_group(page);
    }

    /// Puts an isolated page into the group where it belongs now. If it has objects and is not on
    /// the list by age, it becomes the youngest.
    pub(crate) fn relink(&mut self, page: PageIndex) {
        debug_assert_eq!(self.pages[page].group, PageGroup::Isolated, "on no list");
        let group = self.pages[page].proper_group();
        self.pages[page].group = group;
        match group {
            PageGroup::Vacant => self.vacant.push_front(&mut self.pages, LinkSet::Group, page),
            PageGroup::Empty => self.empty.push_front(&mut self.pages, LinkSet::Group, page),
            PageGroup::Unbuddied(free) => {
                self.unbuddied[free.count()].push_front(&mut self.pages, LinkSet::Group, page);
                self.occupied |= 1 << free.count();
            }
            PageGroup::Buddied => {}
            PageGroup::Isolated => unreachable!("the proper group of no page"),
        }
        let (aged, objects) = (self.pages[page].aged, self.pages[page].buddies() > 0);
        if objects && !aged {
            self.by_age.push_front(&mut self.pages, LinkSet::Age, page);
            self.pages[page].aged = true;
        } else if !objects {
            self.unlink_from_age(page);
        }
    }

    /// Removes a page from the list by age, if it is on it.
    pub(crate) fn unlink_from_age(&mut self, page: PageIndex) {
        if core::mem::take(&mut self.pages[page].aged) {
            self.by_age.unlink(&mut self.pages, LinkSet::Age, page);
        }
    }

    /// Makes a page on the list by age the youngest.
    pub(crate) fn make_youngest(&mut self, page: PageIndex) {
        debug_assert!(self.pages[page].aged, "{page:?} is on the list by age");
        self.by_age.unlink(&mut self.pages, LinkSet::Age, page);
        self.by_age.push_front(&mut self.pages, LinkSet::Age, page);
    }

    /// Removes a page from its group.
    fn unlink_from_group(&mut self, page: PageIndex) {
        match self.pages[page].group {
            PageGroup::Vacant => self.vacant.unlink(&mut self.pages, LinkSet::Group, page),
            PageGroup::Empty => self.empty.unlink(&mut self.pages, LinkSet::Group, page),
            PageGroup::Unbuddied(free) => {
                let list = &mut self.unbuddied[free.count()];
                list.unlink(&mut self.pages, LinkSet::Group, page);
                if list.is_empty() {
                    self.occupied &= !(1 << free.count());
                }
            }
            PageGroup::Buddied => {}
            PageGroup::Isolated => debug_assert!(false, "{page:?} is isolated already"),
        }
        self.pages[page].group = PageGroup::Isolated;
    }

    /// Changes chunks or frames of a page, and updates the sums.
    fn change(&mut self, page: PageIndex, change: impl FnOnce(&mut PageEntry)) {
        let entry = &mut self.pages[page];
        let (row, frames) = ZbudState::row(entry);
        if let Some(row) = row {
            self.counts.rows[row].pages -= 1;
            self.counts.rows[row].frames -= frames;
        }
        self.counts.resident -= frames;
        change(entry);
        let (row, frames) = ZbudState::row(entry);
        if let Some(row) = row {
            self.counts.rows[row].pages += 1;
            self.counts.rows[row].frames += frames;
        }
        self.counts.resident += frames;
    }

    /// Returns the row that a page counts in, and its frames.
    pub(crate) fn row(entry: &PageEntry) -> (Option<usize>, usize) {
        let frames = entry.resident.count();
        ((entry.buddies() > 0 || frames > 0).then_some(entry.buddies()), frames)
    }
}
