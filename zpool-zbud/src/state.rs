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

use zpool_core::exec::Job;

use crate::geometry::{BuddySide, CHUNKS_PER_PAGE, Chunks, Frames, PageIndex};
use crate::page_list::{By, List, PageEntry, PageGroup, ZbudPages};
use crate::table::PAGES_PER_RUN;

/// The state. Its methods keep the invariants that [`validate`](crate::validate) checks, and call
/// nothing outside.
#[derive(Debug)]
pub(crate) struct ZbudState {
    pub(crate) pages: ZbudPages,
    /// By free chunks. Entry 0 is not used.
    pub(crate) unbuddied: [List; CHUNKS_PER_PAGE],
    /// Bit n: `unbuddied[n]` is not empty.
    pub(crate) occupied: u64,
    pub(crate) empty: List,
    pub(crate) vacant: List,
    pub(crate) by_age: List,
    /// By the number of objects in the page. Pages without object or frame are in none.
    pub(crate) rows: [FullnessRow; 3],
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
    /// The job that releases empty pages.
    pub(crate) job: JobState,
    /// Jobs that run now.
    pub(crate) working: usize,
    /// The pool is being dropped: jobs return at once.
    pub(crate) closing: bool,
    /// Empty pages whose frames the system did not take when it was last asked.
    pub(crate) refused: usize,
}

/// State of the pool's one job. A job is never dropped under the lock, because its drop takes the
/// lock.
#[derive(Debug)]
pub(crate) enum JobState {
    /// There is no executor to run one.
    Unwanted,
    /// Ready to be submitted.
    Ready(Job),
    /// Pending or running. When it ends or is dropped, the next one is made.
    Out,
    /// To be made: there was no memory for it, or no object yet.
    Missing,
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
            rows: [FullnessRow::default(); 3],
            objects: 0,
            zombies: 0,
            payload: 0,
            chunks: 0,
            resident: 0,
            failed_inserts: 0,
            job: JobState::Unwanted,
            working: 0,
            closing: false,
            refused: 0,
        }
    }

    /// Takes the job to submit it, if it is ready.
    pub(crate) fn take_job(&mut self) -> Option<Job> {
        match core::mem::replace(&mut self.job, JobState::Out) {
            JobState::Ready(job) => Some(job),
            other => {
                self.job = other;
                None
            }
        }
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
        self.objects += 1;
        self.payload += len;
        self.chunks += chunks.count();
    }

    /// Removes an object from a page. The caller subtracts it from `objects` or `zombies`.
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
        self.payload -= len;
        self.chunks -= chunks.count();
    }

    /// Marks frames under an object of the page as charged. Returns those that already were.
    pub(crate) fn make_resident(&mut self, page: PageIndex, frames: Frames) -> Frames {
        debug_assert!(
            self.pages[page].buddies() > 0,
            "a page without objects would belong elsewhere now"
        );
        let before = self.pages[page].resident & frames;
        self.change(page, |entry| entry.resident = entry.resident | frames);
        before
    }

    /// Marks frames of an isolated page as not charged.
    pub(crate) fn make_absent(&mut self, page: PageIndex, frames: Frames) {
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
            PageGroup::Vacant => self.vacant.push_front(&mut self.pages, By::Group, page),
            PageGroup::Empty => self.empty.push_front(&mut self.pages, By::Group, page),
            PageGroup::Unbuddied(free) => {
                self.unbuddied[free.count()].push_front(&mut self.pages, By::Group, page);
                self.occupied |= 1 << free.count();
            }
            PageGroup::Buddied => {}
            PageGroup::Isolated => unreachable!("the proper group of no page"),
        }
        let (aged, objects) = (self.pages[page].aged, self.pages[page].buddies() > 0);
        if objects && !aged {
            self.by_age.push_front(&mut self.pages, By::Age, page);
            self.pages[page].aged = true;
        } else if !objects {
            self.unlink_from_age(page);
        }
    }

    /// Removes a page from the list by age, if it is on it.
    pub(crate) fn unlink_from_age(&mut self, page: PageIndex) {
        if core::mem::take(&mut self.pages[page].aged) {
            self.by_age.unlink(&mut self.pages, By::Age, page);
        }
    }

    /// Makes a page on the list by age the youngest.
    pub(crate) fn make_youngest(&mut self, page: PageIndex) {
        debug_assert!(self.pages[page].aged, "{page:?} is on the list by age");
        self.by_age.unlink(&mut self.pages, By::Age, page);
        self.by_age.push_front(&mut self.pages, By::Age, page);
    }

    /// Removes a page from its group.
    fn unlink_from_group(&mut self, page: PageIndex) {
        match self.pages[page].group {
            PageGroup::Vacant => self.vacant.unlink(&mut self.pages, By::Group, page),
            PageGroup::Empty => self.empty.unlink(&mut self.pages, By::Group, page),
            PageGroup::Unbuddied(free) => {
                let list = &mut self.unbuddied[free.count()];
                list.unlink(&mut self.pages, By::Group, page);
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
            self.rows[row].pages -= 1;
            self.rows[row].frames -= frames;
        }
        self.resident -= frames;
        change(entry);
        let (row, frames) = ZbudState::row(entry);
        if let Some(row) = row {
            self.rows[row].pages += 1;
            self.rows[row].frames += frames;
        }
        self.resident += frames;
    }

    /// Returns the row that a page counts in, and its frames.
    pub(crate) fn row(entry: &PageEntry) -> (Option<usize>, usize) {
        let frames = entry.resident.count();
        ((entry.buddies() > 0 || frames > 0).then_some(entry.buddies()), frames)
    }
}
