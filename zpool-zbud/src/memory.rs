//! Everything that touches the bytes of pages, and why no other thread does at that moment.
//!
//! ```text
//!   actor                   may                             from                until
//!   ClaimedChunks           write the bytes of one buddy    Buddy::claim        set_live | cancel
//!   a guard                 read the bytes of one buddy     Buddy::pin          Buddy::unpin
//!   IsolatedPages (trim,    discard frames of its pages     ZbudState::isolate  ZbudState::relink
//!     insert, job, reclaim)   that no buddy lies on
//!   vacate (wipe_on_free)   write zeros over one buddy      kill, finish_zombie its end, same lock
//!   close                   anything                        the pool's drop     -
//! ```
//!
//! # Invariants
//!
//! 1. Buddies that are not free have chunks of their own: `chunks_for(len)` of them, from `offset`
//!    on (`validate` compares them). A buddy is taken and freed under the lock only, and freed only
//!    when no pin holds it and its insert has ended.
//! 2. A page is isolated by one thread at a time. While it is, `find` does not name it, so no buddy
//!    of it is taken.
//! 3. The run of a table's entry is neither moved nor released before `close`.

use core::ops::Range;
use core::{mem, ptr};

use zpool_core::internal::catch;
use zpool_core::page::{PageSource, Run};
use zpool_core::{Handle, NoBlock, PoolError, might_block};

use crate::geometry::{BuddyIndex, BuddySide, FrameSet, PageIndex};
use crate::page_list::{PageEntry, PageGroup, ZbudPages};
use crate::pool_core::ZbudCore;
use crate::state::ZbudState;
use crate::table::{MAX_RUNS, PAGES_PER_RUN, PageRun};

/// Room for an object that is about to be written. Freed again if dropped before that.
pub(crate) struct ClaimedChunks<'a> {
    core: &'a ZbudCore,
    page: PageIndex,
    side: BuddySide,
    len: usize,
    /// Frames under it that were not charged when it was taken.
    missing: FrameSet,
}

impl<'a> ClaimedChunks<'a> {
    /// Takes room for `len` bytes, with its frames charged.
    pub(crate) fn take(core: &'a ZbudCore, len: usize) -> Result<ClaimedChunks<'a>, PoolError> {
        let mut claimed = loop {
            match ClaimedChunks::find(core, len) {
                Some(claimed) => break claimed,
                None => core.grow()?,
            }
        };
        claimed.charge()?;
        Ok(claimed)
    }

    fn find(core: &'a ZbudCore, len: usize) -> Option<ClaimedChunks<'a>> {
        let chunks = core.geometry.chunks_for(len);
        let mut state = core.lock();
        // Done before this insert takes its room, so that nothing is lost if the page source
        // panics.
        if core.has_excess_empty(&state) && !NoBlock::is_active() {
            drop(state);
            core.make_missing_job();
            core.release_some(core.kept());
            state = core.lock();
        }
        let (page, side) = state.find(chunks)?;
        let (_, buddy) =
            core.table.buddy(BuddyIndex::new(page, side)).expect("every page has buddies");
        buddy.claim(len);
        state.occupy(page, side, chunks, len);
        let missing = core.geometry.frames(side, chunks) & !state.page(page).resident;
        Some(ClaimedChunks { core, page, side, len, missing })
    }

    /// Charges the missing frames, without the lock.
    fn charge(&mut self) -> Result<(), PoolError> {
        if self.missing.is_empty() {
            return Ok(());
        }
        might_block("Zbud::insert");
        let ZbudCore { source, .. } = self.core;
        if let Err(refused) = source.charge(self.missing.count()) {
            self.core.lock().count_failed_insert();
            return Err(refused.into());
        }
        let missing = mem::take(&mut self.missing);
        let already = self.core.lock().make_resident(self.page, missing);
        // The page's other object lies on the same frame, and was inserted at the same time.
        if !already.is_empty() {
            source.uncharge(already.count());
        }
        Ok(())
    }

    /// Writes the object and makes its handle.
    pub(crate) fn fill(self, object: &[u8]) -> Handle {
        assert_eq!(object.len(), self.len, "the room was claimed for this object");
        let ClaimedChunks { core, page, side, len, .. } = self;
        let index = BuddyIndex::new(page, side);
        let (run, buddy) = core.table.buddy(index).expect("every page has buddies");
        let at = core.offset_in_run(index, len);
        // SAFETY: `write`(1): by invariant 1 these bytes are this buddy's, and no guard reads them
        // before `set_live`. Their frames are not discarded, because `IsolatedPages` leaves out the
        // frames under buddies.
        unsafe { run.memory.write(at, object) };
        let generation = buddy.set_live();
        mem::forget(self);
        core.mint.mint(index.bits(), generation)
    }
}

impl Drop for ClaimedChunks<'_> {
    fn drop(&mut self) {
        let ClaimedChunks { core, page, side, len, .. } = *self;
        let mut state = core.lock();
        let (_, buddy) =
            core.table.buddy(BuddyIndex::new(page, side)).expect("every page has buddies");
        buddy.cancel();
        state.end_object();
        state.vacate(page, side, len);
    }
}

/// Isolated pages, whose frames under no buddy are about to be released. If this is dropped before
/// that, the pages return to their groups and keep their frames.
pub(crate) struct IsolatedPages<'a> {
    core: &'a ZbudCore,
    pages: [(PageIndex, FrameSet); PAGES_PER_RUN],
    len: usize,
}

impl<'a> IsolatedPages<'a> {
    fn none(core: &'a ZbudCore) -> IsolatedPages<'a> {
        IsolatedPages { core, pages: [(PageIndex(0), FrameSet::NONE); PAGES_PER_RUN], len: 0 }
    }

    /// Isolates the empty pages that were idle the longest: all but `keep` of them, and at most
    /// `at_most`, or as many as fit.
    pub(crate) fn empty_pages(
        core: &'a ZbudCore,
        keep: usize,
        at_most: usize,
    ) -> IsolatedPages<'a> {
        let mut set = IsolatedPages::none(core);
        let at_most = at_most.min(set.pages.len());
        let mut state = core.lock();
        while set.len < at_most && state.empty_pages() > keep {
            let Some(page) = state.oldest_empty() else { break };
            set.isolate(&mut state, page);
        }
        set
    }

    /// Isolates the pages of run number `run` that have objects, and frames under none of them.
    fn uncovered(core: &'a ZbudCore, run: usize) -> IsolatedPages<'a> {
        let mut set = IsolatedPages::none(core);
        let mut state = core.lock();
        for page in ZbudPages::of_run(run) {
            let entry = state.page(page);
            if entry.group != PageGroup::Isolated && !core.uncovered(entry).is_empty() {
                set.isolate(&mut state, page);
            }
        }
        set
    }

    /// Isolates one page, which has objects and is not on the list by age.
    pub(crate) fn one(
        core: &'a ZbudCore,
        state: &mut ZbudState,
        page: PageIndex,
    ) -> IsolatedPages<'a> {
        let mut set = IsolatedPages::none(core);
        set.isolate(state, page);
        set
    }

    /// Counts the pages.
    pub(crate) fn pages(&self) -> usize {
        self.len
    }

    /// Recomputes which frames of a [single](Self::one) page can be released. Returns whether no
    /// object is left in it.
    pub(crate) fn refresh(&mut self) -> bool {
        let state = self.core.lock();
        let (page, frames) = &mut self.pages[0];
        let entry = state.page(*page);
        *frames = self.core.uncovered(entry);
        entry.buddies() == 0
    }

    fn isolate(&mut self, state: &mut ZbudState, page: PageIndex) {
        let uncovered = self.core.uncovered(state.page(page));
        state.isolate(page);
        self.pages[self.len] = (page, uncovered);
        self.len += 1;
    }

    /// Releases the frames. If the system does not take all frames of a page, the page keeps them,
    /// they stay charged, and it is used next.
    pub(crate) fn release(mut self) -> ReleasedPages {
        let core = self.core;
        if self.len == 0 {
            return ReleasedPages::default();
        }
        self.pages[..self.len].sort_unstable_by_key(|(page, _)| *page);
        let mut refused = [false; PAGES_PER_RUN];
        self.for_each_range(|run, frames, pages| {
            // SAFETY: `discard`(1): the range is made of pages of this run. (2): no buddy lies on
            // these frames (they were chosen so under the lock), and by invariant 2 none is taken
            // there before the page is relinked; by invariant 3 the run is still ours.
            if unsafe { core.source.discard(&run.memory, frames) }.is_err() {
                refused[pages].fill(true);
            }
        });
        let pages = &mut self.pages[..mem::take(&mut self.len)];
        let mut released = ReleasedPages::default();
        for ((_, frames), refused) in pages.iter_mut().zip(refused) {
            if refused {
                *frames = FrameSet::NONE;
            }
            released.pages += usize::from(!refused);
            released.frames += frames.count();
        }
        let mut state = core.lock();
        // The last page relinked is the first one used: the one in front.
        for &(page, frames) in pages.iter().rev() {
            state.make_absent(page, frames);
            state.relink(page);
        }
        state.note_release(released.pages == pages.len());
        drop(state);
        core.source.uncharge(released.frames);
        released
    }

    /// Calls `each` with the frames as ranges in their runs, neighbours together, because each
    /// costs a call into the operating system. Passes the positions of their pages in the list
    /// along.
    fn for_each_range(&self, mut each: impl FnMut(&PageRun, Range<usize>, Range<usize>)) {
        let per_page = self.core.geometry.frames_per_page();
        let mut pending: Option<(&PageRun, Range<usize>, Range<usize>)> = None;
        for (at, &(page, frames)) in self.pages[..self.len].iter().enumerate() {
            let run = self.core.table.run_of(page).expect("every page is in a run");
            let first = page.0 as usize % PAGES_PER_RUN * per_page;
            for stretch in frames.ranges() {
                let (from, to) = (first + stretch.start, first + stretch.end);
                match &mut pending {
                    Some((same, range, pages)) if ptr::eq(*same, run) && range.end == from => {
                        (range.end, pages.end) = (to, at + 1);
                    }
                    _ => {
                        let next = (run, from..to, at..at + 1);
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

/// Result of a release.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ReleasedPages {
    /// Pages of which the system took all frames that were offered.
    pub(crate) pages: usize,
    pub(crate) frames: usize,
}

impl Drop for IsolatedPages<'_> {
    fn drop(&mut self) {
        if self.len > 0 {
            let mut state = self.core.lock();
            self.pages[..self.len].iter().for_each(|&(page, _)| state.relink(page));
        }
    }
}

impl ZbudCore {
    /// Pins the live object of this buddy and generation, and returns its bytes.
    /// [`Pins::unpin`](zpool_core::Pins) with the buddy's number takes the pin back.
    #[inline]
    pub(crate) fn borrow(&self, index: BuddyIndex, generation: u16) -> Result<&[u8], PoolError> {
        let (run, buddy) = self.table.buddy(index).ok_or(PoolError::StaleHandle)?;
        let len = buddy.pin(generation)?;
        let at = self.offset_in_run(index, len);
        // SAFETY: `slice`(1): the borrower takes the pin back last of all. Until then the buddy is
        // not freed (invariant 1), so no thread writes its bytes and `IsolatedPages` leaves out its
        // frames. `close` runs when no borrow of the pool is left.
        Ok(unsafe { run.memory.slice(at, len) })
    }

    /// Frees the chunks of an object whose handle is dead and that no guard pins.
    pub(crate) fn vacate(&self, state: &mut ZbudState, index: BuddyIndex, len: usize) {
        if self.wipe {
            let (run, _) = self.table.buddy(index).expect("every page has buddies");
            let at = self.offset_in_run(index, len);
            // SAFETY: `wipe`(1): by invariant 1 these bytes are this buddy's, which no pin holds
            // and which is freed only below, under the same lock.
            unsafe { run.memory.wipe(at, len) };
        }
        state.vacate(index.page(), index.side(), len);
    }

    /// Releases a batch of empty pages, but keeps `keep` of them. Returns whether there may be more
    /// to release.
    pub(crate) fn release_some(&self, keep: usize) -> bool {
        might_block("Zbud: releasing pages");
        let set = IsolatedPages::empty_pages(self, keep, PAGES_PER_RUN);
        let full = set.len == set.pages.len();
        // If the system took nothing, retrying would loop for ever.
        set.release().pages > 0 && full
    }

    /// Releases every frame that no object lies on. Returns how many.
    pub(crate) fn release_all_unused(&self) -> usize {
        let mut released = 0;
        // Only as many as are empty now, because pages that other threads empty meanwhile could
        // keep this loop busy for ever.
        let mut left = self.lock().empty_pages();
        while left > 0 {
            let set = IsolatedPages::empty_pages(self, 0, left);
            // Other threads may have taken some.
            left = if set.len == 0 { 0 } else { left - set.len };
            released += set.release().frames;
        }
        // If a page is one frame, a page with an object has no frame to release.
        if self.geometry.frames_per_page() > 1 {
            let runs = self.lock().runs();
            released += (0..runs)
                .map(|run| IsolatedPages::uncovered(self, run).release().frames)
                .sum::<usize>();
        }
        released
    }

    /// Adds a run of pages without resident frames.
    fn grow(&self) -> Result<(), PoolError> {
        might_block("Zbud::insert");
        {
            let mut state = self.lock();
            if state.runs() >= MAX_RUNS {
                state.count_failed_insert();
                return Err(PoolError::TooManyPages);
            }
        }
        self.make_missing_job();
        let reserved = self.source.reserve(PAGES_PER_RUN * self.geometry.frames_per_page());
        let added = reserved
            .map_err(PoolError::from)
            .and_then(|memory| self.add(NewRun::new(self, memory)));
        added.inspect_err(|_| self.lock().count_failed_insert())
    }

    /// Adds pages in this memory.
    fn add(&self, memory: NewRun<'_>) -> Result<(), PoolError> {
        let mut entries = Some(ZbudPages::entries()?);
        let mut storage = PageRun::storage()?;
        loop {
            // Other inserts may add runs meanwhile: the number is ours only under the lock.
            let next = self.lock().runs();
            self.table.make_room(next)?;
            let mut state = self.lock();
            let number = state.runs();
            // Heap memory is allocated under the lock here, but rarely: the vector doubles.
            state.make_room()?;
            if self.table.has_room(number)
                && let Some(entries) = entries.take()
            {
                self.table.install(number, storage.fill(PageRun::new(memory.into_run())));
                state.add_run(entries);
                self.count_metadata(&state);
                return Ok(());
            }
        }
    }

    /// Releases everything, when the pool is dropped and has no user, guard or job any more.
    pub(crate) fn close(&self) {
        self.stop_jobs();
        // Even if the page source panics, no frame of this pool is charged afterwards.
        let _charged = UnchargeOnDrop(&*self.source, self.lock().resident());
        // One by one: a drop needs no memory. SAFETY: `Run::new`(1): the same memory under the same
        // promise. The run it is copied from is not used again, because the pool has no user any
        // more.
        let mut runs =
            self.table.runs().map(|run| unsafe { Run::new(run.memory.base(), run.memory.len()) });
        // SAFETY: `release_all`(1): runs of this source; no guard borrows the pool, and no method
        // or job of it runs.
        unsafe { self.source.release_all(&mut runs) };
    }

    /// Returns where the object of `len` bytes of this buddy begins, in bytes from the front of its
    /// run.
    #[inline]
    fn offset_in_run(&self, index: BuddyIndex, len: usize) -> usize {
        let page = index.page().0 as usize % PAGES_PER_RUN;
        page * self.geometry.page()
            + self.geometry.offset(index.side(), self.geometry.chunks_for(len))
    }

    /// Returns the frames of a page that are charged and that no object lies on.
    fn uncovered(&self, entry: &PageEntry) -> FrameSet {
        let under = |side| self.geometry.frames(side, entry.chunks(side));
        entry.resident & !(under(BuddySide::First) | under(BuddySide::Last))
    }
}

/// A reserved run that is not in the table yet. Its memory is released when this is dropped.
struct NewRun<'a> {
    core: &'a ZbudCore,
    /// `None` only once it is in the table.
    memory: Option<Run>,
}

impl<'a> NewRun<'a> {
    fn new(core: &'a ZbudCore, memory: Run) -> NewRun<'a> {
        NewRun { core, memory: Some(memory) }
    }

    fn into_run(mut self) -> Run {
        self.memory.take().expect("taken once")
    }
}

impl Drop for NewRun<'_> {
    fn drop(&mut self) {
        if let Some(run) = self.memory.take() {
            // SAFETY: `release`(1): reserved from this source; (2): no page is in it yet.
            unsafe { self.core.source.release(run) };
        }
    }
}

/// Frames that are uncharged when this is dropped.
struct UnchargeOnDrop<'a>(&'a dyn PageSource, usize);

impl Drop for UnchargeOnDrop<'_> {
    fn drop(&mut self) {
        // If the source panics already, a second panic would abort the process.
        if std::thread::panicking() {
            let _ = catch(|| self.0.uncharge(self.1));
        } else {
            self.0.uncharge(self.1);
        }
    }
}
