//! What the pool's lock protects: every page's entry, the lists, and the sums.
//!
//! ```text
//!   occupied   bit 63 .. 1:  is there a page with that many free chunks?      the smallest one that is enough:
//!   unbuddied   [1] [2] ... [40] ... [63]                                    trailing_zeros(occupied >> chunks) + chunks
//!                             │
//!                             ▼ last in, first out
//!                            page ─► page
//!   empty      pages without object whose frames are still charged            vacant: without either
//!   by age     all pages with an object; the one that got its newest buddy last in front
//! ```

use zpool_core::exec::Job;

use crate::geometry::{CHUNKS_PER_PAGE, Chunks, Frames, PageIndex, Side};
use crate::page::{By, List, PageEntry, Pages, Place};
use crate::table::PAGES_PER_RUN;

/// The books. Methods keep the invariants that [`check`](crate::check) looks at; none of them calls out.
#[derive(Debug)]
pub(crate) struct Books {
    pub(crate) pages: Pages,
    /// By free chunks; entry 0 is not used.
    pub(crate) unbuddied: [List; CHUNKS_PER_PAGE],
    /// Bit n: `unbuddied[n]` is not empty.
    pub(crate) occupied: u64,
    pub(crate) empty: List,
    pub(crate) vacant: List,
    pub(crate) by_age: List,
    /// By the number of objects in the page; pages without object or frame are in none.
    pub(crate) rows: [Row; 3],
    /// Objects with a handle, or about to have one.
    pub(crate) objects: usize,
    pub(crate) zombies: usize,
    /// Bytes of both.
    pub(crate) payload: usize,
    /// Chunks of both.
    pub(crate) chunks: usize,
    /// Frames of all pages that are charged.
    pub(crate) resident: usize,
    pub(crate) failed_inserts: u64,
    /// The work of giving empty pages back.
    pub(crate) job: JobState,
    /// Jobs that run now.
    pub(crate) working: usize,
    /// The pool is being dropped: jobs return at once.
    pub(crate) closing: bool,
    /// Empty pages whose frames the system did not take when it was last asked.
    pub(crate) refused: usize,
}

/// Where the pool's one job is. A job is never dropped under the lock: it takes the lock then.
#[derive(Debug)]
pub(crate) enum JobState {
    /// There is no executor to run one.
    Unwanted,
    /// Ready to be submitted.
    Ready(Job),
    /// Pending or running. When it ends, or is dropped, there is a next one.
    Out,
    /// To be made: there was no memory for it, or no object yet.
    Missing,
}

/// Pages with the same number of objects.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) pages: usize,
    pub(crate) frames: usize,
}

impl Books {
    pub(crate) fn new() -> Books {
        Books {
            pages: Pages::default(),
            unbuddied: [List::new(); CHUNKS_PER_PAGE],
            occupied: 0,
            empty: List::new(),
            vacant: List::new(),
            by_age: List::new(),
            rows: [Row::default(); 3],
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
        for page in Pages::of_run(self.pages.runs() - 1).rev() {
            self.settle(page);
        }
    }

    /// Finds room for an object: the smallest hole that is enough, else an empty page, else a vacant one.
    pub(crate) fn find(&self, chunks: Chunks) -> Option<(PageIndex, Side)> {
        if let Some(free) = self.smallest_hole(chunks) {
            let page = self.unbuddied[free].first().expect("its bit says that there is one");
            let side = match self.pages[page].chunks(Side::First) {
                Chunks::NONE => Side::First,
                _ => Side::Last,
            };
            return Some((page, side));
        }
        let page = self.empty.first().or_else(|| self.vacant.first())?;
        Some((page, Side::First))
    }

    fn smallest_hole(&self, chunks: Chunks) -> Option<usize> {
        let at_least = self.occupied.checked_shr(chunks.count() as u32).unwrap_or(0);
        (at_least != 0).then(|| at_least.trailing_zeros() as usize + chunks.count())
    }

    /// Puts an object of so many chunks and bytes into a free side of a page, which becomes the youngest.
    pub(crate) fn occupy(&mut self, page: PageIndex, side: Side, chunks: Chunks, len: usize) {
        debug_assert_eq!(self.pages[page].chunks(side), Chunks::NONE, "the side is free");
        self.displace(page);
        self.change(page, |entry| entry.set_chunks(side, chunks));
        self.unage(page);
        self.settle(page);
        self.objects += 1;
        self.payload += len;
        self.chunks += chunks.count();
    }

    /// Takes an object out of a page. The caller takes it off `objects` or `zombies`.
    pub(crate) fn vacate(&mut self, page: PageIndex, side: Side, len: usize) {
        let chunks = self.pages[page].chunks(side);
        debug_assert!(chunks > Chunks::NONE, "the side is taken");
        let isolated = self.pages[page].place == Place::Isolated;
        if !isolated {
            self.displace(page);
        }
        self.change(page, |entry| entry.set_chunks(side, Chunks::NONE));
        if !isolated {
            self.settle(page);
        }
        self.payload -= len;
        self.chunks -= chunks.count();
    }

    /// Books frames under an object of the page as charged; gives those of them that were so before.
    pub(crate) fn make_resident(&mut self, page: PageIndex, frames: Frames) -> Frames {
        debug_assert!(
            self.pages[page].buddies() > 0,
            "a page without objects would belong elsewhere now"
        );
        let before = self.pages[page].resident & frames;
        self.change(page, |entry| entry.resident = entry.resident | frames);
        before
    }

    /// Books frames of an isolated page as no longer charged.
    pub(crate) fn make_absent(&mut self, page: PageIndex, frames: Frames) {
        debug_assert_eq!(self.pages[page].place, Place::Isolated, "nobody else touches its frames");
        self.change(page, |entry| entry.resident = entry.resident & !frames);
    }

    /// Sets a page apart: off its list by place, but not off that by age.
    pub(crate) fn isolate(&mut self, page: PageIndex) {
        self.displace(page);
    }

    /// Puts a page that was set apart where it belongs by now; one that is not on the list by age and has objects becomes the youngest.
    pub(crate) fn settle(&mut self, page: PageIndex) {
        debug_assert_eq!(self.pages[page].place, Place::Isolated, "on no list");
        let place = self.pages[page].proper_place();
        self.pages[page].place = place;
        match place {
            Place::Vacant => self.vacant.push_front(&mut self.pages, By::Place, page),
            Place::Empty => self.empty.push_front(&mut self.pages, By::Place, page),
            Place::Unbuddied(free) => {
                self.unbuddied[free.count()].push_front(&mut self.pages, By::Place, page);
                self.occupied |= 1 << free.count();
            }
            Place::Buddied => {}
            Place::Isolated => unreachable!("the proper place of no page"),
        }
        let (aged, objects) = (self.pages[page].aged, self.pages[page].buddies() > 0);
        if objects && !aged {
            self.by_age.push_front(&mut self.pages, By::Age, page);
            self.pages[page].aged = true;
        } else if !objects {
            self.unage(page);
        }
    }

    /// Takes a page off the list by age, if it is on it.
    pub(crate) fn unage(&mut self, page: PageIndex) {
        if core::mem::take(&mut self.pages[page].aged) {
            self.by_age.unlink(&mut self.pages, By::Age, page);
        }
    }

    /// Makes a page on the list by age the youngest.
    pub(crate) fn rejuvenate(&mut self, page: PageIndex) {
        debug_assert!(self.pages[page].aged, "{page:?} is on the list by age");
        self.by_age.unlink(&mut self.pages, By::Age, page);
        self.by_age.push_front(&mut self.pages, By::Age, page);
    }

    /// Takes a page off its list by place.
    fn displace(&mut self, page: PageIndex) {
        match self.pages[page].place {
            Place::Vacant => self.vacant.unlink(&mut self.pages, By::Place, page),
            Place::Empty => self.empty.unlink(&mut self.pages, By::Place, page),
            Place::Unbuddied(free) => {
                let list = &mut self.unbuddied[free.count()];
                list.unlink(&mut self.pages, By::Place, page);
                if list.is_empty() {
                    self.occupied &= !(1 << free.count());
                }
            }
            Place::Buddied => {}
            Place::Isolated => debug_assert!(false, "{page:?} is isolated already"),
        }
        self.pages[page].place = Place::Isolated;
    }

    /// Changes chunks or frames of a page, and the sums with them.
    fn change(&mut self, page: PageIndex, change: impl FnOnce(&mut PageEntry)) {
        let entry = &mut self.pages[page];
        let (row, frames) = Books::row(entry);
        if let Some(row) = row {
            self.rows[row].pages -= 1;
            self.rows[row].frames -= frames;
        }
        self.resident -= frames;
        change(entry);
        let (row, frames) = Books::row(entry);
        if let Some(row) = row {
            self.rows[row].pages += 1;
            self.rows[row].frames += frames;
        }
        self.resident += frames;
    }

    /// The row that a page counts in, and its frames.
    pub(crate) fn row(entry: &PageEntry) -> (Option<usize>, usize) {
        let frames = entry.resident.count();
        ((entry.buddies() > 0 || frames > 0).then_some(entry.buddies()), frames)
    }
}
