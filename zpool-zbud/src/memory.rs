//! Everything that touches the bytes of pages, and why nobody else does at that moment.
//!
//! ```text
//!   who                        may do what with which bytes                        from                   until
//!   Spot (an insert)           write the bytes of one slot                         Slot::fill, occupy     publish, or abandon
//!   a guard                    read the bytes of one slot                          Slot::pin              Slot::unpin
//!   SetApart (trim, the job,   discard the frames under no slot of its pages       Books::isolate         Books::settle
//!     reclaim)
//!   close                      everything                                          the pool's drop        -
//! ```
//!
//! # Invariants
//!
//! 1. Slots that are not free have chunks of their own: `chunks_for(len)` of them, from `offset` on (`check` compares them). A slot is taken and given
//!    up under the lock only, and given up only when nothing pins it and its insert is over.
//! 2. A page is isolated by one thread at a time, and while it is, `find` does not name it: no slot of it is taken.
//! 3. The run of a table's entry is neither moved nor released before `close`.

use core::ops::Range;
use core::{mem, ptr};

use zpool_core::internal::catch;
use zpool_core::page::{PageSource, Run};
use zpool_core::{Handle, NoBlock, PoolError, might_block};

use crate::books::Books;
use crate::geometry::{Frames, PageIndex, Side, SlotIndex};
use crate::page::{PageEntry, Pages, Place};
use crate::shared::Shared;
use crate::table::{MAX_RUNS, PAGES_PER_RUN, PageRun};

/// A place for an object that is about to be stored; given up again when dropped before it is filled.
pub(crate) struct Spot<'a> {
    shared: &'a Shared,
    page: PageIndex,
    side: Side,
    len: usize,
    /// Frames under it that were not charged when it was taken.
    missing: Frames,
}

impl<'a> Spot<'a> {
    /// Takes a place for `len` bytes, with its frames charged.
    pub(crate) fn take(shared: &'a Shared, len: usize) -> Result<Spot<'a>, PoolError> {
        let mut spot = loop {
            match Spot::find(shared, len) {
                Some(spot) => break spot,
                None => shared.grow()?,
            }
        };
        spot.charge()?;
        Ok(spot)
    }

    fn find(shared: &'a Shared, len: usize) -> Option<Spot<'a>> {
        let chunks = shared.geometry.chunks_for(len);
        let mut books = shared.lock();
        // Before this insert takes its place: should the page source panic, nothing of it is there to be lost.
        if shared.too_many_empty(&books) && !NoBlock::is_active() {
            drop(books);
            shared.make_missing_job();
            shared.give_back_some(shared.kept());
            books = shared.lock();
        }
        let (page, side) = books.find(chunks)?;
        let (_, slot) =
            shared.table.slot(SlotIndex::new(page, side)).expect("every page has slots");
        slot.fill(len);
        books.occupy(page, side, chunks, len);
        let missing = shared.geometry.frames(side, chunks) & !books.pages[page].resident;
        Some(Spot { shared, page, side, len, missing })
    }

    /// Charges the frames that are missing, without the lock.
    fn charge(&mut self) -> Result<(), PoolError> {
        if self.missing.is_empty() {
            return Ok(());
        }
        might_block("Zbud::insert");
        let Shared { source, .. } = self.shared;
        if let Err(refused) = source.charge(self.missing.count()) {
            self.shared.lock().failed_inserts += 1;
            return Err(refused.into());
        }
        let missing = mem::take(&mut self.missing);
        let already = self.shared.lock().make_resident(self.page, missing);
        // The page's other object lies on the same frame, and was stored at the same time.
        if !already.is_empty() {
            source.uncharge(already.count());
        }
        Ok(())
    }

    /// Writes the object and makes its handle.
    pub(crate) fn fill(self, object: &[u8]) -> Handle {
        assert_eq!(object.len(), self.len, "the place is as long as the object");
        let Spot { shared, page, side, len, .. } = self;
        let index = SlotIndex::new(page, side);
        let (run, slot) = shared.table.slot(index).expect("every page has slots");
        let at = shared.offset_in_run(index, len);
        // SAFETY: `write`(1): by invariant 1 these bytes are this slot's, and no guard reads them before `publish`; their frames are not
        // discarded, because `SetApart` leaves out the frames under slots.
        unsafe { run.memory.write(at, object) };
        let generation = slot.publish();
        mem::forget(self);
        shared.mint.mint(index.bits(), generation)
    }
}

impl Drop for Spot<'_> {
    fn drop(&mut self) {
        let Spot { shared, page, side, len, .. } = *self;
        let mut books = shared.lock();
        let (_, slot) =
            shared.table.slot(SlotIndex::new(page, side)).expect("every page has slots");
        slot.abandon();
        books.objects -= 1;
        books.vacate(page, side, len);
    }
}

/// Isolated pages whose frames, as far as they are under no slot, go back to the page source. Dropped before that, the pages go back as they were.
pub(crate) struct SetApart<'a> {
    shared: &'a Shared,
    pages: [(PageIndex, Frames); PAGES_PER_RUN],
    len: usize,
}

impl<'a> SetApart<'a> {
    fn none(shared: &'a Shared) -> SetApart<'a> {
        SetApart { shared, pages: [(PageIndex(0), Frames::NONE); PAGES_PER_RUN], len: 0 }
    }

    /// Takes the empty pages that lie idle the longest: all but `keep` of them, `at_most` so many, or as many as fit.
    pub(crate) fn empty_pages(shared: &'a Shared, keep: usize, at_most: usize) -> SetApart<'a> {
        let mut set = SetApart::none(shared);
        let at_most = at_most.min(set.pages.len());
        let mut books = shared.lock();
        while set.len < at_most && books.empty.len() > keep {
            let Some(page) = books.empty.last() else { break };
            set.isolate(&mut books, page);
        }
        set
    }

    /// Takes the pages of run number `run` that have objects, and frames under none of them.
    fn uncovered(shared: &'a Shared, run: usize) -> SetApart<'a> {
        let mut set = SetApart::none(shared);
        let mut books = shared.lock();
        for page in Pages::of_run(run) {
            let entry = &books.pages[page];
            if entry.place != Place::Isolated && !shared.uncovered(entry).is_empty() {
                set.isolate(&mut books, page);
            }
        }
        set
    }

    /// Takes one page, which has objects and is on no list by age.
    pub(crate) fn one(shared: &'a Shared, books: &mut Books, page: PageIndex) -> SetApart<'a> {
        let mut set = SetApart::none(shared);
        set.isolate(books, page);
        set
    }

    /// How many there are.
    pub(crate) fn pages(&self) -> usize {
        self.len
    }

    /// Looks again at a [single](Self::one) page: true when its objects have gone, and all its frames can go as well.
    pub(crate) fn is_now_empty(&mut self) -> bool {
        let books = self.shared.lock();
        let (page, frames) = &mut self.pages[0];
        let entry = &books.pages[*page];
        *frames = self.shared.uncovered(entry);
        entry.buddies() == 0
    }

    fn isolate(&mut self, books: &mut Books, page: PageIndex) {
        let uncovered = self.shared.uncovered(&books.pages[page]);
        books.isolate(page);
        self.pages[self.len] = (page, uncovered);
        self.len += 1;
    }

    /// Returns the frames to the source. Pages of which the system does not take all keep their
    /// frames, on the books too, and are the next to be used.
    pub(crate) fn give_back(mut self) -> Given {
        let shared = self.shared;
        if self.len == 0 {
            return Given::default();
        }
        self.pages[..self.len].sort_unstable_by_key(|(page, _)| *page);
        let mut refused = [false; PAGES_PER_RUN];
        self.for_each_range(|run, frames, pages| {
            // SAFETY: `discard`(1): the range is made of pages of this run. (2): no slot lies on these frames (they were chosen so under the lock), and by
            // invariant 2 none is taken there before the page is settled; by invariant 3 the run is still ours.
            if unsafe { shared.source.discard(&run.memory, frames) }.is_err() {
                refused[pages].fill(true);
            }
        });
        let pages = &mut self.pages[..mem::take(&mut self.len)];
        let mut given = Given::default();
        for ((_, frames), refused) in pages.iter_mut().zip(refused) {
            if refused {
                *frames = Frames::NONE;
            }
            given.pages += usize::from(!refused);
            given.frames += frames.count();
        }
        let mut books = shared.lock();
        // The last one settled is the first one used: that in front.
        for &(page, frames) in pages.iter().rev() {
            books.make_absent(page, frames);
            books.settle(page);
        }
        // Asked again once as many more are empty, or when it takes some.
        books.refused = if given.pages == pages.len() { 0 } else { books.empty.len() };
        drop(books);
        shared.source.uncharge(given.frames);
        given
    }

    /// The frames as ranges in their runs, neighbours together: each costs a call into the
    /// operating system. With each, the places of its pages in the list.
    fn for_each_range(&self, mut each: impl FnMut(&PageRun, Range<usize>, Range<usize>)) {
        let per_page = self.shared.geometry.frames_per_page();
        let mut pending: Option<(&PageRun, Range<usize>, Range<usize>)> = None;
        for (place, &(page, frames)) in self.pages[..self.len].iter().enumerate() {
            let run = self.shared.table.run_of(page).expect("every page is in a run");
            let first = page.0 as usize % PAGES_PER_RUN * per_page;
            for stretch in frames.stretches() {
                let (from, to) = (first + stretch.start, first + stretch.end);
                match &mut pending {
                    Some((same, range, pages)) if ptr::eq(*same, run) && range.end == from => {
                        (range.end, pages.end) = (to, place + 1);
                    }
                    _ => {
                        let next = (run, from..to, place..place + 1);
                        if let Some((run, range, pages)) = pending.replace(next) {
                            each(run, range, pages);
                        }
                    }
                }
            }
        }
        if let Some((run, range, pages)) = pending {
            each(run, range, pages);
        }
    }
}

/// What was given back.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Given {
    /// Pages of which all frames that were to go have gone.
    pub(crate) pages: usize,
    pub(crate) frames: usize,
}

impl Drop for SetApart<'_> {
    fn drop(&mut self) {
        if self.len > 0 {
            let mut books = self.shared.lock();
            self.pages[..self.len].iter().for_each(|&(page, _)| books.settle(page));
        }
    }
}

impl Shared {
    /// The bytes of the live object in this slot, of this generation, under a pin: [`Pins::unpin`](zpool_core::Pins) of the slot's number takes it back.
    #[inline]
    pub(crate) fn borrow(&self, index: SlotIndex, generation: u16) -> Result<&[u8], PoolError> {
        let (run, slot) = self.table.slot(index).ok_or(PoolError::StaleHandle)?;
        let len = slot.pin(generation)?;
        let at = self.offset_in_run(index, len);
        // SAFETY: `slice`(1): until the pin is taken back, which the borrower does last of all, the slot is not given up (invariant 1), so nobody else writes its
        // bytes and `SetApart` leaves out its frames; `close` runs when no borrow of the pool is left.
        Ok(unsafe { run.memory.slice(at, len) })
    }

    /// Gives up the slot of an object that is gone: nothing pins it, and its handle is dead.
    pub(crate) fn vacate(&self, books: &mut Books, index: SlotIndex, len: usize) {
        if self.wipe {
            let (run, _) = self.table.slot(index).expect("every page has slots");
            let at = self.offset_in_run(index, len);
            // SAFETY: `wipe`(1): by invariant 1 these bytes are this slot's, which nothing pins and which is given up only below, under the same lock.
            unsafe { run.memory.wipe(at, len) };
        }
        books.vacate(index.page(), index.side(), len);
    }

    /// Gives back empty pages, a batch at a time, as long as more than `keep` are there. True when there may be more to do.
    pub(crate) fn give_back_some(&self, keep: usize) -> bool {
        might_block("Zbud: giving pages back");
        let set = SetApart::empty_pages(self, keep, PAGES_PER_RUN);
        let full = set.len == set.pages.len();
        // Nothing given: the system kept the frames, and asking again would go on for ever.
        set.give_back().pages > 0 && full
    }

    /// Gives back every frame that is under no object. Returns how many.
    pub(crate) fn give_back_all(&self) -> usize {
        let mut given = 0;
        // Those that are empty now: pages that others empty meanwhile would keep this going as long as they do.
        let mut left = self.lock().empty.len();
        while left > 0 {
            let set = SetApart::empty_pages(self, 0, left);
            // Others may have taken some.
            left = if set.len == 0 { 0 } else { left - set.len };
            given += set.give_back().frames;
        }
        // Where a page is one frame, a page with an object has no frame to give.
        if self.geometry.frames_per_page() > 1 {
            let runs = self.lock().pages.runs();
            given += (0..runs)
                .map(|run| SetApart::uncovered(self, run).give_back().frames)
                .sum::<usize>();
        }
        given
    }

    /// Adds a run of pages, of which nothing is resident.
    fn grow(&self) -> Result<(), PoolError> {
        might_block("Zbud::insert");
        if self.lock().pages.runs() >= MAX_RUNS {
            return Err(PoolError::OutOfMemory);
        }
        self.make_missing_job();
        let reserved = self.source.reserve(PAGES_PER_RUN * self.geometry.frames_per_page());
        let added = reserved
            .map_err(PoolError::from)
            .and_then(|memory| self.add(Unused::new(self, memory)));
        added.inspect_err(|_| self.lock().failed_inserts += 1)
    }

    /// Adds pages in this memory.
    fn add(&self, memory: Unused<'_>) -> Result<(), PoolError> {
        let mut entries = Some(Pages::entries()?);
        let mut room = PageRun::room()?;
        loop {
            // Others may add runs meanwhile: the number is ours only under the lock.
            let next = self.lock().pages.runs();
            self.table.make_room(next)?;
            let mut books = self.lock();
            let number = books.pages.runs();
            // Memory is asked for under the lock here, but rarely: the list of entries doubles.
            books.pages.make_room()?;
            if self.table.has_room(number)
                && let Some(entries) = entries.take()
            {
                self.table.install(number, room.fill(PageRun::new(memory.into_run())));
                books.add_run(entries);
                self.count_metadata(&books);
                return Ok(());
            }
        }
    }

    /// Gives everything back. For the drop of the pool: it has no user, no guard and no job any more.
    pub(crate) fn close(&self) {
        self.stop_jobs();
        // Also when the page source panics: nothing of this pool is on the books then.
        let _charged = Charged(&*self.source, self.lock().resident);
        // One by one: a drop needs no memory.
        // SAFETY: `Run::new`(1): the same memory under the same promise; the run it is copied from is not used again, as nobody is left to use it.
        let mut runs =
            self.table.runs().map(|run| unsafe { Run::new(run.memory.base(), run.memory.len()) });
        // SAFETY: `release_all`(1): runs of this source; no guard borrows the pool, and no method or job of it runs.
        unsafe { self.source.release_all(&mut runs) };
    }

    /// Where the object of `len` bytes in this slot begins, in bytes from the front of its run.
    #[inline]
    fn offset_in_run(&self, index: SlotIndex, len: usize) -> usize {
        let page = index.page().0 as usize % PAGES_PER_RUN;
        page * self.geometry.page()
            + self.geometry.offset(index.side(), self.geometry.chunks_for(len))
    }

    /// Frames of a page that are charged and under no object.
    fn uncovered(&self, entry: &PageEntry) -> Frames {
        let under = |side| self.geometry.frames(side, entry.chunks(side));
        entry.resident & !(under(Side::First) | under(Side::Last))
    }
}

/// A reserved run that is not in the table yet. Released when dropped.
struct Unused<'a> {
    shared: &'a Shared,
    /// `None` only once it is in the table.
    memory: Option<Run>,
}

impl<'a> Unused<'a> {
    fn new(shared: &'a Shared, memory: Run) -> Unused<'a> {
        Unused { shared, memory: Some(memory) }
    }

    fn into_run(mut self) -> Run {
        self.memory.take().expect("taken once")
    }
}

impl Drop for Unused<'_> {
    fn drop(&mut self) {
        if let Some(run) = self.memory.take() {
            // SAFETY: `release`(1): reserved from this source; (2): no page is in it yet.
            unsafe { self.shared.source.release(run) };
        }
    }
}

/// Frames that go off the source's books when this is dropped.
struct Charged<'a>(&'a dyn PageSource, usize);

impl Drop for Charged<'_> {
    fn drop(&mut self) {
        // Where the source panics already, once is enough.
        if std::thread::panicking() {
            let _ = catch(|| self.0.uncharge(self.1));
        } else {
            self.0.uncharge(self.1);
        }
    }
}
