//! Emptying pages with the help of whoever owns the objects.
//!
//! ```text
//!   by age   youngest ◄─ page ◄─ page ◄─ page   oldest
//!               ▲                          │ 1. isolated: on no list, so nothing is inserted and no other reclaim takes it
//!               │                          ▼
//!               │                        page    2. without the lock: evict(first), evict(last)
//!               │                          │
//!               └──── some are left ───────┴──── 3. none is left: its frames go back, one page of the report
//! ```

use zpool_core::{Evict, HandleId, NotEvicted, PoolError, ReclaimError, ReclaimReport};

use crate::books::Books;
use crate::geometry::{PageIndex, SIDES, SlotIndex};
use crate::memory::SetApart;
use crate::page::Place;
use crate::shared::Shared;
use crate::slot::State;

/// Pages that are tried for each page that is wanted, as in the kernel.
const TRIES: usize = 8;

/// A page that is set apart, and the objects in it.
struct Chosen<'a> {
    page: SetApart<'a>,
    objects: [Option<Resident>; SIDES.len()],
}

/// An object to be given up. Its name is taken under the lock: a free may come at any moment after that.
#[derive(Debug, Clone, Copy)]
struct Resident {
    slot: SlotIndex,
    generation: u16,
}

impl Shared {
    /// Gives back `pages` pages: empty ones as long as there are any, since they cost nobody an object, then the oldest.
    pub(crate) fn reclaim(
        &self,
        pages: usize,
        owner: &mut dyn Evict,
    ) -> Result<ReclaimReport, ReclaimError> {
        let mut report = ReclaimReport::default();
        while report.pages < pages {
            let empty = SetApart::empty_pages(self, 0, pages - report.pages);
            // If the system does not take pages back, no object is given up for nothing.
            let given = match empty.pages() {
                0 => usize::from(self.empty_one(owner)),
                _ => empty.give_back().pages,
            };
            if given == 0 {
                return Err(ReclaimError { error: PoolError::NothingToReclaim, report });
            }
            report.pages += given;
        }
        Ok(report)
    }

    /// Empties the oldest page whose owner gives up all that is in it, and gives it back. False when none of those that were tried was.
    fn empty_one(&self, owner: &mut dyn Evict) -> bool {
        // No page is tried twice while there are others, and each is younger afterwards.
        let tries = self.lock().by_age.len().min(TRIES);
        for _ in 0..tries {
            let Some(Chosen { mut page, objects }) = self.choose() else { continue };
            // Whether all were given up is seen by the page alone: others may have freed them as well.
            let _ = objects.into_iter().flatten().try_for_each(|object| self.ask(object, owner));
            if page.is_now_empty() {
                // If the system does not take this page, it takes no other one.
                return page.give_back().pages > 0;
            }
        }
        false
    }

    /// Sets the oldest page apart. None where it cannot be emptied now: that counts as a try, and it goes to the other end.
    fn choose(&self) -> Option<Chosen<'_>> {
        let mut books = self.lock();
        let page = books.by_age.last()?;
        books.rejuvenate(page);
        let objects = self.objects_to_evict(&books, page)?;
        books.unage(page);
        Some(Chosen { page: SetApart::one(self, &mut books, page), objects })
    }

    /// The objects of a page, if there is nothing else in it, and nobody works on it or reads it.
    ///
    /// An object under a guard would be lost to its owner for nothing: the page could not be given back before the guard has gone.
    fn objects_to_evict(
        &self,
        books: &Books,
        page: PageIndex,
    ) -> Option<[Option<Resident>; SIDES.len()]> {
        if books.pages[page].place == Place::Isolated {
            return None;
        }
        let mut objects = [None; SIDES.len()];
        for side in SIDES {
            let index = SlotIndex::new(page, side);
            let (_, slot) = self.table.slot(index).expect("every page has slots");
            let word = slot.word();
            match word.state {
                State::Free => {}
                State::Live if word.pins == 0 => {
                    objects[side as usize] =
                        Some(Resident { slot: index, generation: word.generation });
                }
                State::Live | State::Filling | State::Zombie => return None,
            }
        }
        Some(objects)
    }

    /// Asks the owner of an object for it, without the lock, unless it has gone meanwhile.
    fn ask(&self, object: Resident, owner: &mut dyn Evict) -> Result<(), NotEvicted> {
        let Resident { slot: index, generation } = object;
        let (_, slot) = self.table.slot(index).expect("every page has slots");
        let word = slot.word();
        // Nothing is inserted into an isolated page: a slot that is not live now is free, or a zombie of this very object.
        if word.state != State::Live || word.generation != generation {
            return Ok(());
        }
        let name: HandleId = self.mint.mint(index.bits(), generation).id();
        owner.evict(name)
    }
}
