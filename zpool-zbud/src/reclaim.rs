//! Reclaim: pages are emptied with the help of the objects' owner.
//!
//! ```text
//!   by age   youngest ◄─ page ◄─ page ◄─ page   oldest
//!               ▲                          │ 1. isolated: on no list, so no insert and no other
//!               │                          ▼    reclaim takes it
//!               │                        page    2. without the lock: evict(first), evict(last)
//!               │                          │
//!               └──── some are left ───────┴──── 3. none is left: its frames are released, which
//!                                                   counts as one page of the report
//! ```

use zpool_core::{Evict, HandleId, NotEvicted, PoolError, ReclaimError, ReclaimReport};

use crate::buddy::BuddyState;
use crate::geometry::{BuddyIndex, PageIndex, SIDES};
use crate::memory::IsolatedPages;
use crate::page_list::PageGroup;
use crate::pool_core::ZbudCore;
use crate::state::ZbudState;

/// Pages that are tried for each page wanted, as in the kernel.
const TRIES: usize = 8;

/// An isolated page, and the objects in it.
struct Candidate<'a> {
    page: IsolatedPages<'a>,
    objects: [Option<Victim>; SIDES.len()],
}

/// An object to be evicted. Its name is taken under the lock: a free may come at any moment after
/// that.
#[derive(Debug, Clone, Copy)]
struct Victim {
    buddy: BuddyIndex,
    generation: u16,
}

impl ZbudCore {
    /// Releases `pages` pages: empty ones first, because they evict no object, then the oldest.
    pub(crate) fn reclaim(
        &self,
        pages: usize,
        owner: &mut dyn Evict,
    ) -> Result<ReclaimReport, ReclaimError> {
        let mut report = ReclaimReport::default();
        while report.pages < pages {
            let empty = IsolatedPages::empty_pages(self, 0, pages - report.pages);
            // If the system does not take pages back, no object is evicted in vain.
            let released = match empty.pages() {
                0 => usize::from(self.reclaim_one(owner)),
                _ => empty.release().pages,
            };
            if released == 0 {
                return Err(ReclaimError { error: PoolError::NothingToReclaim, report });
            }
            report.pages += released;
        }
        Ok(report)
    }

    /// Empties and releases the oldest page whose owner evicts all objects in it. Returns `false`
    /// if none of the pages tried was.
    fn reclaim_one(&self, owner: &mut dyn Evict) -> bool {
        // No page is tried twice while there are others, because each is younger afterwards.
        let tries = self.lock().pages_by_age().min(TRIES);
        for _ in 0..tries {
            let Some(Candidate { mut page, objects }) = self.choose() else { continue };
            // The page alone shows whether all are gone: other threads may have freed them as well.
            let _ = objects.into_iter().flatten().try_for_each(|object| self.evict(object, owner));
            if page.refresh() {
                // If the system does not take this page, it takes no other one.
                return page.release().pages > 0;
            }
        }
        false
    }

    /// Isolates the oldest page. Returns `None` if it cannot be emptied now. That counts as a try,
    /// and the page becomes the youngest.
    fn choose(&self) -> Option<Candidate<'_>> {
        let mut state = self.lock();
        let page = state.oldest()?;
        state.make_youngest(page);
        let objects = self.victims(&state, page)?;
        state.unlink_from_age(page);
        Some(Candidate { page: IsolatedPages::one(self, &mut state, page), objects })
    }

    /// Returns the objects of a page, if no thread works on it or reads it.
    ///
    /// The owner would lose an object under a guard in vain: the page cannot be released before the
    /// guard is dropped.
    fn victims(&self, state: &ZbudState, page: PageIndex) -> Option<[Option<Victim>; SIDES.len()]> {
        if state.page(page).group == PageGroup::Isolated {
            return None;
        }
        let mut objects = [None; SIDES.len()];
        for side in SIDES {
            let index = BuddyIndex::new(page, side);
            let (_, buddy) = self.table.buddy(index).expect("every page has buddies");
            let word = buddy.word();
            match word.state {
                BuddyState::Free => {}
                BuddyState::Live if word.pins == 0 => {
                    objects[side as usize] =
                        Some(Victim { buddy: index, generation: word.generation });
                }
                BuddyState::Live | BuddyState::Claimed | BuddyState::Zombie => return None,
            }
        }
        Some(objects)
    }

    /// Requests the eviction of an object from its owner, without the lock, unless it is gone by
    /// now.
    fn evict(&self, object: Victim, owner: &mut dyn Evict) -> Result<(), NotEvicted> {
        let Victim { buddy: index, generation } = object;
        let (_, buddy) = self.table.buddy(index).expect("every page has buddies");
        let word = buddy.word();
        // Nothing is inserted into an isolated page: a buddy that is not live now is free, or a
        // zombie of this very object.
        if word.state != BuddyState::Live || word.generation != generation {
            return Ok(());
        }
        let name: HandleId = self.mint.mint(index.bits(), generation).id();
        owner.evict(name)
    }
}
