//! An allocator with size classes, compaction and reclaim, with one bug or oddity at a time.
//!
//! Pages of at least 8 KiB are cut into slots of a power of two. Guards are copies.

use std::fmt::Debug;
use std::sync::Arc;

use zpool_core::internal::sync::{Mutex, MutexGuard};
use zpool_core::page::PageSource;
use zpool_core::{
    Capabilities, CompactionBudget, CompactionReport, Evict, FreeError, Handle, HandleMint,
    PoolError, PoolId, PoolStats, ReadGuard, ReclaimError, ReclaimReport, Violation, ZPool,
    might_block,
};

pub(crate) const MAX_LEN: usize = 4096;
const SMALLEST: usize = 64;

planted! {
    /// The bug or oddity of a [`Paged`] pool.
    enum Flaw {
        bugs {
            // Placing.
            TakesASizeClassTooSmall,
            TakesASlotThatBeginsWithZeroForFree,
            ShowsTheTailOfTheLastObject,
            TellsGenerationsApartByTwoBits,
            // Accounts and pages.
            TakesEveryFrameFor4Kib,
            KeepsAPageAfterTrim,
            CountsNoRefusals,
            CountsNoMoves,
            LosesASlotWhenTheSourceRefuses,
            LosesASlotWhenTheSourcePanics,
            LocksWhileTheSourceWorks,
            // Compaction.
            ForgetsWhereItMovedAnObject,
            MovesOneMoreThanAllowed,
            SaysItFreedTwiceAsMuch,
            IsNeverDoneCompacting,
            CompactsNothingAndSaysSo,
            LetsASecondCompactionIn,
            // Reclaim.
            BelievesItsOwner,
            ReportsPagesThatStay,
            AsksForTheFirstObjectTwice,
            StopsAtTheFirstRefusal,
            InsertsIntoThePageItEmpties,
            EmptiesTheNewestFirst,
            SwallowsThePanicOfItsOwner,
            ForgetsThePageWhenItsOwnerPanics,
        }
        oddities {
            Nothing,
            GivesOutSlotsFromTheBack,
            UsesHalfOfEachPage,
            GivesPagesBackInFree,
        }
    }
}

use Flaw::*;

#[derive(Debug, Clone, Copy)]
struct Place {
    page: usize,
    slot: usize,
    len: usize,
}

#[derive(Debug, Default)]
struct Entry {
    generation: u16,
    place: Option<Place>,
    /// The length of the last object, for the bugs that show it.
    last_len: usize,
}

#[derive(Debug)]
struct Page {
    bytes: Vec<u8>,
    slot_bytes: usize,
    /// The entry of each slot.
    slots: Vec<Option<u32>>,
    /// The number of taken slots.
    objects: usize,
    /// Whether the page is being emptied. Then nothing is inserted.
    isolated: bool,
    /// The time of the newest object.
    age: u64,
}

impl Page {
    fn vacate(&mut self, slot: usize) -> Option<u32> {
        let index = self.slots[slot].take();
        self.objects -= usize::from(index.is_some());
        index
    }
}

#[derive(Debug, Default)]
struct State {
    entries: Vec<Entry>,
    free: Vec<u32>,
    pages: Vec<Option<Page>>,
    clock: u64,
    failed_inserts: u64,
    moved_objects: u64,
}

pub(crate) struct Paged {
    mint: HandleMint,
    flaw: Flaw,
    source: Arc<dyn PageSource>,
    state: Mutex<State>,
}

impl Paged {
    pub(crate) fn new(flaw: Flaw, source: Arc<dyn PageSource>) -> Paged {
        Paged { mint: HandleMint::new(), flaw, source, state: Mutex::new(State::default()) }
    }

    pub(crate) fn facts(_: Flaw) -> Capabilities {
        Capabilities::new(MAX_LEN).compacting().reclaiming()
    }

    fn is(&self, flaw: Flaw) -> bool {
        self.flaw == flaw
    }

    fn page_bytes(&self) -> usize {
        self.source.frame_size().max(2 * MAX_LEN)
    }

    fn frames_per_page(&self) -> usize {
        let frame = if self.is(TakesEveryFrameFor4Kib) { 4096 } else { self.source.frame_size() };
        self.page_bytes() / frame
    }

    fn class_of(&self, len: usize) -> usize {
        let len = if self.is(TakesASizeClassTooSmall) && len < 2000 { len - len / 40 } else { len };
        len.next_power_of_two().max(SMALLEST)
    }

    /// Puts an object into a slot. Returns false if no page has one. A moved object goes into
    /// another page that is not empty.
    fn place(&self, state: &mut State, index: u32, object: &[u8], from: Option<usize>) -> bool {
        let class = self.class_of(object.len());
        let (leave_isolated, front) =
            (!self.is(InsertsIntoThePageItEmpties), !self.is(GivesOutSlotsFromTheBack));
        let half = self.is(UsesHalfOfEachPage) && class < 2048;
        let zero_is_free = self.is(TakesASlotThatBeginsWithZeroForFree);
        let clock = state.clock;
        for (number, page) in state.pages.iter_mut().enumerate() {
            let Some(page) = page.as_mut().filter(|page| page.slot_bytes == class) else {
                continue;
            };
            let full = page.objects >= if half { page.slots.len() / 2 } else { page.slots.len() };
            if page.isolated && leave_isolated || full && !zero_is_free {
                continue;
            }
            if from.is_some_and(|from| from == number || page.objects == 0) {
                continue;
            }
            let is_free = |slot: &usize| {
                page.slots[*slot].is_none()
                    || zero_is_free
                        && page.bytes[slot * class] == 0
                        && page.objects == page.slots.len()
            };
            let mut slots = 0..page.slots.len();
            let found = if front { slots.find(is_free) } else { slots.rfind(is_free) };
            let Some(slot) = found else { continue };
            let (at, len) = (slot * class, object.len());
            let end = (at + len).min(page.bytes.len());
            page.bytes[at..end].copy_from_slice(&object[..end - at]);
            page.objects += usize::from(page.slots[slot].is_none());
            page.slots[slot] = Some(index);
            page.age = clock;
            state.clock += 1;
            state.entries[index as usize].place = Some(Place { page: number, slot, len });
            return true;
        }
        false
    }

    fn new_entry(state: &mut State) -> u32 {
        state.free.pop().unwrap_or_else(|| {
            state.entries.push(Entry::default());
            let room = state.entries.len();
            state.free.reserve(room);
            room as u32 - 1
        })
    }

    fn find(&self, state: &State, handle: &Handle) -> Result<(u32, Place), PoolError> {
        let opened = self.mint.open(handle)?;
        let mask = if self.is(TellsGenerationsApartByTwoBits) { 3 } else { u16::MAX };
        let entry = state.entries.get(opened.index as usize);
        let entry = entry.filter(|entry| (entry.generation ^ opened.generation) & mask == 0);
        let place = entry.and_then(|entry| entry.place).ok_or(PoolError::StaleHandle)?;
        Ok((opened.index, place))
    }

    /// Releases empty pages and returns their number.
    fn release_empty(&self, mut state: MutexGuard<'_, State>) -> usize {
        let mut given = 0;
        for page in &mut state.pages {
            if page.as_ref().is_some_and(|page| page.objects == 0 && !page.isolated) {
                *page = None;
                given += 1;
            }
        }
        drop(state);
        self.source.uncharge(given * self.frames_per_page());
        given
    }

    /// Moves the objects of the emptiest page of a class into its other pages, if they all fit.
    /// Returns whether something was moved.
    fn merge(&self, state: &mut State, class: usize, left: &mut usize) -> bool {
        let of_class = |page: &Option<Page>| {
            page.as_ref()
                .is_some_and(|page| page.slot_bytes == class && page.objects > 0 && !page.isolated)
        };
        let pages: Vec<usize> =
            (0..state.pages.len()).filter(|&at| of_class(&state.pages[at])).collect();
        let count =
            |state: &State, at: usize| state.pages[at].as_ref().map_or(0, |page| page.objects);
        let Some(&from) = pages.iter().min_by_key(|&&at| (count(state, at), at)) else {
            return false;
        };
        let per_page = self.page_bytes() / class;
        let per_page =
            if self.is(UsesHalfOfEachPage) && class < 2048 { per_page / 2 } else { per_page };
        let room: usize = pages
            .iter()
            .filter(|&&at| at != from)
            .map(|&at| per_page.saturating_sub(count(state, at)))
            .sum();
        if room < count(state, from) || *left == 0 {
            return false;
        }
        let page = state.pages[from].as_mut().expect("listed");
        let slot = page.slots.iter().position(Option::is_some).expect("it has objects");
        let index = page.vacate(slot).expect("found");
        let old = state.entries[index as usize].place.expect("live");
        let bytes = page.bytes[slot * class..][..old.len.min(class)].to_vec();
        assert!(self.place(state, index, &bytes, Some(from)), "there is room");
        if self.is(ForgetsWhereItMovedAnObject) && index % 8 == 7 {
            state.entries[index as usize].place = Some(old);
        }
        *left -= 1;
        state.moved_objects += u64::from(!self.is(CountsNoMoves));
        true
    }

    /// Isolates the oldest page. Returns its number and the names of its objects.
    fn choose(&self, tried: &[usize]) -> Option<(usize, Vec<Handle>)> {
        let mut state = self.state.lock();
        let numbered =
            state.pages.iter().enumerate().filter_map(|(at, page)| Some((at, page.as_ref()?)));
        let candidates =
            numbered.filter(|(at, page)| !page.isolated && !tried.contains(at) && page.objects > 0);
        let (at, _) = if self.is(EmptiesTheNewestFirst) {
            candidates.max_by_key(|(_, page)| page.age)?
        } else {
            candidates.min_by_key(|(_, page)| page.age)?
        };
        let page = state.pages[at].as_mut().expect("chosen");
        page.isolated = true;
        let indices: Vec<u32> = page.slots.iter().flatten().copied().collect();
        let handle = |index: u32| self.mint.mint(index, state.entries[index as usize].generation);
        Some((at, indices.into_iter().map(handle).collect()))
    }

    fn empty_one(&self, owner: &mut dyn Evict, tried: &mut Vec<usize>) -> Result<bool, ()> {
        let (at, handles) = self.choose(tried).ok_or(())?;
        tried.push(at);
        let rejoin = Rejoin { pool: self, at, forgets: self.is(ForgetsThePageWhenItsOwnerPanics) };
        let mut asked =
            handles.iter().chain(handles.first().filter(|_| self.is(AsksForTheFirstObjectTwice)));
        let agreed = asked.all(|handle| {
            if self.is(SwallowsThePanicOfItsOwner) {
                let evict = std::panic::AssertUnwindSafe(|| owner.evict(handle.id()).is_ok());
                return std::panic::catch_unwind(evict).unwrap_or(false);
            }
            owner.evict(handle.id()).is_ok()
        });
        if !agreed && self.is(StopsAtTheFirstRefusal) {
            return Err(());
        }
        if agreed && self.is(BelievesItsOwner) {
            let mut state = self.state.lock();
            let page = state.pages[at].as_mut().expect("isolated");
            let left: Vec<u32> =
                (0..page.slots.len()).filter_map(|slot| page.vacate(slot)).collect();
            left.into_iter().for_each(|index| state.entries[index as usize].place = None);
        }
        std::mem::forget(rejoin);
        self.state.lock().pages[at].as_mut().expect("isolated").isolated = false;
        let empty = self.state.lock().pages[at].as_ref().is_some_and(|page| page.objects == 0);
        if empty {
            self.release_empty(self.state.lock());
        }
        Ok(empty || self.is(ReportsPagesThatStay))
    }
}

/// Puts an isolated page back if its owner panics.
struct Rejoin<'a> {
    pool: &'a Paged,
    at: usize,
    forgets: bool,
}

impl Drop for Rejoin<'_> {
    fn drop(&mut self) {
        if !self.forgets {
            self.pool.state.lock().pages[self.at].as_mut().expect("isolated").isolated = false;
        }
    }
}

impl ZPool for Paged {
    fn id(&self) -> PoolId {
        self.mint.pool_id()
    }

    fn capabilities(&self) -> Capabilities {
        Paged::facts(self.flaw)
    }

    fn insert(&self, object: &[u8]) -> Result<Handle, PoolError> {
        match object.len() {
            0 => return Err(PoolError::EmptyObject),
            len if len > MAX_LEN => return Err(PoolError::TooLarge { len, max: MAX_LEN }),
            _ => {}
        }
        loop {
            let mut state = self.state.lock();
            let index = Paged::new_entry(&mut state);
            if self.place(&mut state, index, object, None) {
                let entry = &mut state.entries[index as usize];
                if self.is(ShowsTheTailOfTheLastObject) && entry.last_len > object.len() {
                    entry.place.as_mut().expect("placed").len += 1;
                }
                entry.last_len = object.len();
                return Ok(self.mint.mint(index, entry.generation));
            }
            let early =
                !self.is(LosesASlotWhenTheSourcePanics) && !self.is(LosesASlotWhenTheSourceRefuses);
            if early {
                state.free.push(index);
            } else {
                // Counted as an object while the source is asked.
                state.entries[index as usize].place =
                    Some(Place { page: usize::MAX, slot: 0, len: object.len() });
            }
            let locked = self.is(LocksWhileTheSourceWorks).then_some(state);
            might_block("Paged::insert");
            let outcome = self.source.charge(self.frames_per_page());
            let mut state = locked.unwrap_or_else(|| self.state.lock());
            if !(early || self.is(LosesASlotWhenTheSourceRefuses) && outcome.is_err()) {
                state.entries[index as usize].place = None;
                state.free.push(index);
            }
            state.failed_inserts += u64::from(outcome.is_err() && !self.is(CountsNoRefusals));
            outcome?;
            let (class, bytes) = (self.class_of(object.len()), self.page_bytes());
            let slots = vec![None; bytes / class];
            let page = Page {
                bytes: vec![0xEE; bytes],
                slot_bytes: class,
                slots,
                objects: 0,
                isolated: false,
                age: state.clock,
            };
            match state.pages.iter_mut().find(|page| page.is_none()) {
                Some(gone) => *gone = Some(page),
                None => state.pages.push(Some(page)),
            }
        }
    }

    fn read(&self, handle: &Handle) -> Result<ReadGuard<'_>, PoolError> {
        let state = self.state.lock();
        let (_, place) = self.find(&state, handle)?;
        let page = state.pages[place.page].as_ref().expect("the page of a live object");
        let at = place.slot * page.slot_bytes;
        let end = (at + place.len).min(page.bytes.len());
        Ok(ReadGuard::shared(Arc::from(&page.bytes[at..end])))
    }

    fn free(&self, handle: Handle) -> Result<(), FreeError> {
        let mut state = self.state.lock();
        let (index, place) = match self.find(&state, &handle) {
            Ok(found) => found,
            Err(error) => return Err(FreeError::new(error, handle)),
        };
        let entry = &mut state.entries[index as usize];
        entry.place = None;
        entry.generation = entry.generation.wrapping_add(1);
        state.free.push(index);
        if let Some(page) = state.pages[place.page].as_mut() {
            page.vacate(place.slot);
        }
        if self.is(GivesPagesBackInFree) {
            self.release_empty(state);
        }
        Ok(())
    }

    fn bytes_held(&self) -> usize {
        self.stats().pool_bytes()
    }

    fn stats(&self) -> PoolStats {
        let state = self.state.lock();
        let mut stats = PoolStats::default();
        let places: Vec<Place> = state.entries.iter().filter_map(|entry| entry.place).collect();
        let pages = state.pages.iter().flatten().count();
        stats.objects = places.len();
        stats.payload_bytes = places.iter().map(|place| place.len).sum();
        stats.resident_frames = pages * self.frames_per_page();
        let bytes = stats.resident_frames * self.source.frame_size();
        stats.fragmentation_bytes = bytes.saturating_sub(stats.payload_bytes);
        stats.metadata_bytes = size_of::<Paged>() + state.entries.capacity() * size_of::<Entry>();
        (stats.failed_inserts, stats.moved_objects) = (state.failed_inserts, state.moved_objects);
        stats
    }

    fn validate(&self) -> Result<(), Violation> {
        Ok(())
    }

    fn compact(&self, budget: CompactionBudget) -> CompactionReport {
        might_block("Paged::compact");
        let mut report = CompactionReport::default();
        if self.is(CompactsNothingAndSaysSo) {
            return report;
        }
        let mut state = self.state.lock();
        let more = usize::from(self.is(MovesOneMoreThanAllowed));
        let allowed = budget.max_moves.saturating_add(more);
        let mut left = allowed;
        let mut class = SMALLEST;
        while class <= MAX_LEN {
            while self.merge(&mut state, class, &mut left) {}
            class *= 2;
            if self.is(LetsASecondCompactionIn) {
                report.freed_bytes += self.release_empty(state) * self.page_bytes();
                state = self.state.lock();
            }
        }
        report.moved_objects = allowed - left;
        report.exhausted = left == 0 || self.is(IsNeverDoneCompacting);
        report.freed_bytes += self.release_empty(state) * self.page_bytes();
        if self.is(SaysItFreedTwiceAsMuch) {
            report.freed_bytes *= 2;
        }
        report
    }

    fn reclaim(&self, pages: usize, owner: &mut dyn Evict) -> Result<ReclaimReport, ReclaimError> {
        might_block("Paged::reclaim");
        let (mut report, mut tried) = (ReclaimReport::default(), Vec::new());
        while report.pages < pages {
            match self.empty_one(owner, &mut tried) {
                Ok(true) => report.pages += 1,
                Ok(false) => {}
                Err(()) => return Err(ReclaimError { error: PoolError::NothingToReclaim, report }),
            }
        }
        Ok(report)
    }

    fn trim(&self) -> usize {
        might_block("Paged::trim");
        if self.is(KeepsAPageAfterTrim) && self.state.lock().pages.iter().flatten().count() == 1 {
            return 0;
        }
        self.release_empty(self.state.lock()) * self.page_bytes()
    }
}

impl Drop for Paged {
    fn drop(&mut self) {
        let pages = self.state.get_mut().pages.iter().flatten().count();
        self.source.uncharge(pages * self.frames_per_page());
        might_block("Paged::drop");
    }
}

impl Debug for Paged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Paged({:?})", self.flaw)
    }
}
