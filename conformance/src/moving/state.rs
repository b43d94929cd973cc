//! The state behind the moving pool's lock.

use std::sync::Arc;

use zpool_core::{CompactionReport, Violation};

/// The number of places of an object: the current one and the next one.
pub(super) const PLACES: usize = 2;

/// The byte that fills a place after its object has moved.
const WIPED: u8 = 0xDD;

/// An object and its two places.
#[derive(Debug)]
pub(super) struct MovingObject {
    here: Arc<[u8]>,
    /// The next place, which is as long and has no other owner. An object moves only while no guard
    /// shares `here`, which then becomes the next place.
    there: Arc<[u8]>,
    page: usize,
}

impl MovingObject {
    /// Creates an object that is in no page yet.
    pub(super) fn new(bytes: &[u8]) -> MovingObject {
        MovingObject {
            here: Arc::from(bytes),
            there: Arc::from(vec![WIPED; bytes.len()]),
            page: usize::MAX,
        }
    }

    fn len(&self) -> usize {
        self.here.len()
    }

    fn held(&self) -> bool {
        // New guards need the pool's lock, which we hold, so a count of 1 stays 1.
        Arc::strong_count(&self.here) > 1
    }

    /// Moves to the next place, unless a guard holds the object. Allocates nothing.
    fn move_over(&mut self) -> bool {
        let (Some(here), Some(there)) =
            (Arc::get_mut(&mut self.here), Arc::get_mut(&mut self.there))
        else {
            return false;
        };
        there.copy_from_slice(here);
        here.fill(WIPED);
        std::mem::swap(&mut self.here, &mut self.there);
        true
    }
}

#[derive(Debug)]
struct MovingEntry {
    generation: u16,
    object: Option<MovingObject>,
}

/// A page, which is an amount of bytes in no order.
#[derive(Debug, Clone, Copy, Default)]
struct Page {
    /// The bytes of both places of all its objects, zombies included.
    used: usize,
    objects: usize,
}

#[derive(Debug)]
pub(super) struct MovingPoolState {
    entries: Vec<MovingEntry>,
    /// Entries without an object. It has room for every entry, so that freeing allocates nothing,
    /// and so has `zombies`.
    free: Vec<u32>,
    /// Objects that were freed while a guard held them.
    zombies: Vec<MovingObject>,
    /// Pages by number. `None` if a page was released.
    pages: Vec<Option<Page>>,
    page_bytes: usize,
    payload: usize,
    /// The entry whose object moves next.
    turn: usize,
    pub(super) failed_inserts: u64,
    pub(super) moved_by_compaction: u64,
}

impl MovingPoolState {
    pub(super) fn new(page_bytes: usize) -> MovingPoolState {
        MovingPoolState {
            entries: Vec::new(),
            free: Vec::new(),
            zombies: Vec::new(),
            pages: Vec::new(),
            page_bytes,
            payload: 0,
            turn: 0,
            failed_inserts: 0,
            moved_by_compaction: 0,
        }
    }

    pub(super) fn page_bytes(&self) -> usize {
        self.page_bytes
    }

    pub(super) fn pages(&self) -> usize {
        self.pages.iter().flatten().count()
    }

    pub(super) fn objects(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    pub(super) fn zombies(&self) -> usize {
        self.zombies.len()
    }

    pub(super) fn payload(&self) -> usize {
        self.payload
    }

    /// Returns whether all entry numbers are taken.
    pub(super) fn is_at_its_limit(&self) -> bool {
        self.free.is_empty() && self.entries.len() > u32::MAX as usize
    }

    /// Returns the bytes on the heap without those of the objects, which count as the pages'.
    pub(super) fn metadata(&self) -> usize {
        /// The counts of an `Arc`.
        const HEADER: usize = 2 * size_of::<usize>();
        self.entries.capacity() * size_of::<MovingEntry>()
            + self.free.capacity() * size_of::<u32>()
            + self.zombies.capacity() * size_of::<MovingObject>()
            + self.pages.capacity() * size_of::<Option<Page>>()
            + (self.objects() + self.zombies.len()) * PLACES * HEADER
    }

    pub(super) fn add_page(&mut self) {
        match self.pages.iter_mut().find(|page| page.is_none()) {
            Some(gone) => *gone = Some(Page::default()),
            None => self.pages.push(Some(Page::default())),
        }
    }

    /// Drops pages without objects, and returns their number.
    pub(super) fn drop_empty_pages(&mut self) -> usize {
        let before = self.pages();
        for page in &mut self.pages {
            *page = page.filter(|page| page.objects > 0);
        }
        before - self.pages()
    }

    /// Puts an object into the fullest page with room, and returns its entry and generation.
    /// Returns the object if no page has room.
    pub(super) fn add(&mut self, mut object: MovingObject) -> Result<(u32, u16), MovingObject> {
        let Some(page) = self.room_for(object.len(), |_| true) else { return Err(object) };
        if self.free.is_empty() {
            let Ok(new) = u32::try_from(self.entries.len()) else { return Err(object) };
            self.entries.push(MovingEntry { generation: 0, object: None });
            self.free.reserve(self.entries.len());
            self.zombies.reserve(self.entries.len());
            self.free.push(new);
        }
        let index = self.free.pop().expect("one was added");
        object.page = page;
        self.payload += object.len();
        self.put_in(page, object.len());
        let slot = &mut self.entries[index as usize];
        slot.object = Some(object);
        Ok((index, slot.generation))
    }

    /// Returns the place of a live object.
    pub(super) fn find(&self, index: u32, generation: u16) -> Option<&Arc<[u8]>> {
        let slot = self.entries.get(index as usize).filter(|slot| slot.generation == generation)?;
        slot.object.as_ref().map(|object| &object.here)
    }

    /// Removes an object from its entry. Returns false if it is not there. Allocates nothing.
    pub(super) fn remove(&mut self, index: u32, generation: u16) -> bool {
        let slot =
            self.entries.get_mut(index as usize).filter(|slot| slot.generation == generation);
        let Some((slot, object)) =
            slot.and_then(|slot| slot.object.take().map(|object| (slot, object)))
        else {
            return false;
        };
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(index);
        self.zombies.push(object);
        self.drop_unheld_zombies();
        true
    }

    /// Drops the zombies that no guard holds.
    pub(super) fn drop_unheld_zombies(&mut self) {
        let mut at = 0;
        while let Some(zombie) = self.zombies.get(at) {
            if zombie.held() {
                at += 1;
                continue;
            }
            let zombie = self.zombies.swap_remove(at);
            self.payload -= zombie.len();
            self.take_out(zombie.page, zombie.len());
        }
    }

    /// Moves up to `n` objects that no guard holds, in the order of their last move.
    pub(super) fn move_some(&mut self, n: usize) {
        for _ in 0..n.min(self.entries.len()) {
            self.turn = (self.turn + 1) % self.entries.len();
            if let Some(object) = &mut self.entries[self.turn].object {
                object.move_over();
            }
        }
    }

    /// Empties pages, the emptiest first, while all objects of a page find room in fuller pages.
    pub(super) fn compact(&mut self, max_moves: usize, report: &mut CompactionReport) {
        while let Some((page, plan)) = self.next_to_empty(report) {
            report.estimated_bytes += self.page_bytes;
            for (slot, to) in plan {
                if report.moved_objects == max_moves {
                    report.exhausted = true;
                    return;
                }
                let object =
                    self.entries[slot].object.as_mut().expect("planned under this very lock");
                assert!(object.move_over(), "no guard held it when it was planned");
                object.page = to;
                let len = object.len();
                self.take_out(page, len);
                self.put_in(to, len);
                report.moved_objects += 1;
                self.moved_by_compaction += 1;
            }
        }
    }

    /// Finds a page that can be emptied, and the targets of its objects.
    fn next_to_empty(
        &mut self,
        report: &mut CompactionReport,
    ) -> Option<(usize, Vec<(usize, usize)>)> {
        report.pinned_objects = self.zombies.len()
            + self.entries.iter().filter_map(|s| s.object.as_ref()).filter(|o| o.held()).count();
        let mut order: Vec<_> = self.numbered().filter(|(_, page)| page.objects > 0).collect();
        order.sort_unstable_by_key(|&(number, page)| (page.used, number));
        order.into_iter().find_map(|(number, _)| self.plan(number).map(|plan| (number, plan)))
    }

    /// Plans the targets of a page's objects, as entries and pages. Returns `None` if an object has
    /// to stay.
    fn plan(&mut self, from: usize) -> Option<Vec<(usize, usize)>> {
        let mut movable = Vec::new();
        for (number, slot) in self.entries.iter().enumerate() {
            match &slot.object {
                Some(object) if object.page == from && object.held() => return None,
                Some(object) if object.page == from => movable.push((number, object.len())),
                _ => {}
            }
        }
        let page = self.pages[from].expect("it is one of those numbered");
        if movable.len() < page.objects {
            return None; // the rest are zombies
        }
        // Longest first, because short objects are easier to place. We try it on a copy.
        movable.sort_unstable_by_key(|&(_, len)| std::cmp::Reverse(len));
        let before = self.pages.clone();
        let fuller =
            |number: usize, used: usize| number != from && (used, number) > (page.used, from);
        let mut plan = Vec::new();
        for (slot, len) in movable {
            let Some(to) = self.room_for(len, |number| {
                before[number].is_some_and(|page| fuller(number, page.used))
            }) else {
                break;
            };
            self.put_in(to, len);
            plan.push((slot, to));
        }
        self.pages = before;
        (plan.len() == page.objects).then_some(plan)
    }

    /// Finds the fullest of the allowed pages with room for an object.
    fn room_for(&self, len: usize, allowed: impl Fn(usize) -> bool) -> Option<usize> {
        let enough = |page: &Page| page.used + PLACES * len <= self.page_bytes;
        let with_room = self.numbered().filter(|(number, page)| enough(page) && allowed(*number));
        with_room.max_by_key(|(_, page)| page.used).map(|(number, _)| number)
    }

    fn numbered(&self) -> impl Iterator<Item = (usize, Page)> {
        self.pages.iter().enumerate().filter_map(|(number, page)| page.map(|page| (number, page)))
    }

    fn put_in(&mut self, page: usize, len: usize) {
        let page = self.pages[page].as_mut().expect("objects are in pages that are there");
        page.used += PLACES * len;
        page.objects += 1;
    }

    fn take_out(&mut self, page: usize, len: usize) {
        let page = self.pages[page].as_mut().expect("objects are in pages that are there");
        page.used -= PLACES * len;
        page.objects -= 1;
    }

    /// Counts everything again and compares.
    pub(super) fn check(&self) -> Result<(), Violation> {
        let mut counted = vec![Page::default(); self.pages.len()];
        let (mut objects, mut payload) = (0, 0);
        for (object, live) in self
            .entries
            .iter()
            .filter_map(|slot| slot.object.as_ref())
            .map(|object| (object, true))
            .chain(self.zombies.iter().map(|zombie| (zombie, false)))
        {
            objects += usize::from(live);
            payload += object.len();
            counted[object.page].used += PLACES * object.len();
            counted[object.page].objects += 1;
            if object.there.len() != object.len() || object.there.iter().any(|&byte| byte != WIPED)
            {
                return Err(Violation::new(format!(
                    "the other place of {} bytes is in use",
                    object.len()
                )));
            }
        }
        if (objects, payload) != (self.objects(), self.payload) {
            let booked = (self.objects(), self.payload);
            return Err(Violation::new(format!(
                "objects and bytes {:?} counted, {booked:?} booked",
                (objects, payload)
            )));
        }
        for (number, counted) in counted.into_iter().enumerate() {
            let booked = self.pages[number].unwrap_or_default();
            if (counted.used, counted.objects) != (booked.used, booked.objects)
                || booked.used > self.page_bytes
            {
                return Err(Violation::new(format!(
                    "page {number}: {counted:?} counted, {booked:?} booked"
                )));
            }
        }
        Ok(())
    }
}
