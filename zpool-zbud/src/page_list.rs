//! The entry of a page (the kernel's header, kept out of the page), and the lists that pages are
//! on.

use core::ops::{Index, IndexMut};

use zpool_core::PoolError;

use crate::geometry::{BuddySide, Chunks, FrameSet, PageIndex, SIDES};
use crate::table::{PAGES_PER_RUN, boxed};

/// A page as the pool knows it, under its lock.
#[derive(Debug)]
pub(crate) struct PageEntry {
    /// Chunks of the first and of the last buddy. None if there is no object.
    chunks: [Chunks; SIDES.len()],
    pub(crate) group: PageGroup,
    /// Whether the page is on the list by age.
    pub(crate) aged: bool,
    /// Frames that are charged.
    pub(crate) resident: FrameSet,
    links: [Link; LISTS],
}

const _: () = assert!(size_of::<PageEntry>() <= 32, "counts into the density of every pool");

/// The list that a page is on, in addition to the one by age.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PageGroup {
    /// No object, no frame charged.
    Vacant,
    /// No object, but frames.
    Empty,
    /// One object, and this many free chunks.
    Unbuddied(Chunks),
    /// Two objects, or one that leaves nothing: on no list.
    Buddied,
    /// On no list while a thread works on it without the lock, so that nothing is inserted into it.
    Isolated,
}

/// The links of a page that a list uses.
#[derive(Debug, Clone, Copy)]
pub(crate) enum LinkSet {
    Group = 0,
    Age = 1,
}
const LISTS: usize = 2;

const NIL: u32 = u32::MAX;

#[derive(Debug, Clone, Copy)]
struct Link {
    prev: u32,
    next: u32,
}

impl PageEntry {
    fn new() -> PageEntry {
        PageEntry {
            chunks: [Chunks::NONE; 2],
            group: PageGroup::Isolated,
            aged: false,
            resident: FrameSet::NONE,
            links: [Link { prev: NIL, next: NIL }; LISTS],
        }
    }

    pub(crate) fn chunks(&self, side: BuddySide) -> Chunks {
        self.chunks[side as usize]
    }

    pub(crate) fn set_chunks(&mut self, side: BuddySide, chunks: Chunks) {
        self.chunks[side as usize] = chunks;
    }

    /// Counts the objects in the page.
    pub(crate) fn buddies(&self) -> usize {
        self.chunks.iter().filter(|&&chunks| chunks != Chunks::NONE).count()
    }

    /// Returns the free chunks.
    pub(crate) fn free_chunks(&self) -> Chunks {
        Chunks::left_by(self.chunks(BuddySide::First), self.chunks(BuddySide::Last))
    }

    /// Returns the group where the page belongs unless it is isolated.
    pub(crate) fn proper_group(&self) -> PageGroup {
        match (self.buddies(), self.free_chunks()) {
            (0, _) if self.resident.is_empty() => PageGroup::Vacant,
            (0, _) => PageGroup::Empty,
            (1, free) if free > Chunks::NONE => PageGroup::Unbuddied(free),
            _ => PageGroup::Buddied,
        }
    }
}

/// The entries of all pages.
#[derive(Debug, Default)]
pub(crate) struct ZbudPages {
    #[expect(
        clippy::vec_box,
        reason = "growing happens under the pool's lock: it has to move pointers, not entries"
    )]
    runs: Vec<Box<[PageEntry; PAGES_PER_RUN]>>,
}

impl ZbudPages {
    /// Allocates the entries of one more run, to be [added](Self::add), before the lock is taken.
    ///
    /// # Errors
    ///
    /// [`PoolError::OutOfMemory`], if the heap refuses.
    pub(crate) fn entries() -> Result<Box<[PageEntry; PAGES_PER_RUN]>, PoolError> {
        let entries = boxed((0..PAGES_PER_RUN).map(|_| PageEntry::new()))?;
        Ok(entries.try_into().expect("as many as there are pages"))
    }

    /// Makes room for one more run.
    ///
    /// # Errors
    ///
    /// [`PoolError::OutOfMemory`], if the heap refuses.
    pub(crate) fn make_room(&mut self) -> Result<(), PoolError> {
        self.runs.try_reserve(1).map_err(|_| PoolError::OutOfMemory)
    }

    /// Adds a run, for which there is room. Its pages are isolated.
    pub(crate) fn add(&mut self, entries: Box<[PageEntry; PAGES_PER_RUN]>) {
        self.runs.push(entries);
    }

    pub(crate) fn runs(&self) -> usize {
        self.runs.len()
    }

    /// Iterates over the pages of run number `run`.
    pub(crate) fn of_run(run: usize) -> impl DoubleEndedIterator<Item = PageIndex> {
        (run * PAGES_PER_RUN..(run + 1) * PAGES_PER_RUN).map(|page| PageIndex(page as u32))
    }

    /// Iterates over all pages.
    pub(crate) fn all(&self) -> impl Iterator<Item = PageIndex> + use<> {
        (0..self.runs.len()).flat_map(ZbudPages::of_run)
    }

    /// Returns the bytes on the heap.
    pub(crate) fn bytes(&self) -> usize {
        self.runs.capacity() * size_of::<usize>()
            + self.runs.len() * size_of::<[PageEntry; PAGES_PER_RUN]>()
    }

    fn link(&mut self, page: u32, by: LinkSet) -> &mut Link {
        &mut self[PageIndex(page)].links[by as usize]
    }
}

impl Index<PageIndex> for ZbudPages {
    type Output = PageEntry;
    fn index(&self, page: PageIndex) -> &PageEntry {
        &self.runs[page.0 as usize / PAGES_PER_RUN][page.0 as usize % PAGES_PER_RUN]
    }
}

impl IndexMut<PageIndex> for ZbudPages {
    fn index_mut(&mut self, page: PageIndex) -> &mut PageEntry {
        &mut self.runs[page.0 as usize / PAGES_PER_RUN][page.0 as usize % PAGES_PER_RUN]
    }
}

/// A doubly linked list through the pages' entries.
#[derive(Debug, Clone, Copy)]
pub(crate) struct List {
    head: u32,
    tail: u32,
    len: u32,
}

impl List {
    pub(crate) const fn new() -> List {
        List { head: NIL, tail: NIL, len: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.len as usize
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn first(&self) -> Option<PageIndex> {
        (self.head != NIL).then_some(PageIndex(self.head))
    }

    pub(crate) fn last(&self) -> Option<PageIndex> {
        (self.tail != NIL).then_some(PageIndex(self.tail))
    }

    pub(crate) fn push_front(&mut self, pages: &mut ZbudPages, by: LinkSet, page: PageIndex) {
        *pages.link(page.0, by) = Link { prev: NIL, next: self.head };
        match self.head {
            NIL => self.tail = page.0,
            old => pages.link(old, by).prev = page.0,
        }
        self.head = page.0;
        self.len += 1;
    }

    /// Removes `page` from this list, which it is on.
    pub(crate) fn unlink(&mut self, pages: &mut ZbudPages, by: LinkSet, page: PageIndex) {
        let Link { prev, next } = *pages.link(page.0, by);
        match prev {
            NIL => self.head = next,
            prev => pages.link(prev, by).next = next,
        }
        match next {
            NIL => self.tail = prev,
            next => pages.link(next, by).prev = prev,
        }
        self.len -= 1;
    }

    /// Iterates from front to back. Stops one step after the length of the list, whatever the links
    /// say.
    pub(crate) fn iter<'p>(
        &self,
        pages: &'p ZbudPages,
        by: LinkSet,
    ) -> impl Iterator<Item = PageIndex> + use<'p> {
        let mut at = self.head;
        let steps = core::iter::from_fn(move || {
            let page = (at != NIL).then_some(PageIndex(at))?;
            at = pages[page].links[by as usize].next;
            Some(page)
        });
        // One more than the length, so that a caller notices a list that is too long.
        steps.take(self.len as usize + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pages can be removed from the front, the middle and the back.
    #[test]
    fn pages_leave_list_from_every_end() {
        let mut pages = ZbudPages::default();
        pages.add(ZbudPages::entries().unwrap());
        let mut list = List::new();
        let order = |list: &List, pages: &ZbudPages| {
            list.iter(pages, LinkSet::Age).map(|p| p.0).collect::<Vec<_>>()
        };
        for page in 0..5 {
            list.push_front(&mut pages, LinkSet::Age, PageIndex(page));
        }
        assert_eq!(order(&list, &pages), [4, 3, 2, 1, 0]);
        for (page, left) in
            [(2, vec![4, 3, 1, 0]), (4, vec![3, 1, 0]), (0, vec![3, 1]), (1, vec![3])]
        {
            list.unlink(&mut pages, LinkSet::Age, PageIndex(page));
            assert_eq!(order(&list, &pages), left);
            assert_eq!(list.last(), left.last().map(|&page| PageIndex(page)));
        }
        list.unlink(&mut pages, LinkSet::Age, PageIndex(3));
        assert!(list.is_empty() && list.first().is_none() && list.last().is_none());
    }

    /// The list by group and the list by age use different links.
    #[test]
    fn lists_by_group_and_age_are_independent() {
        let mut pages = ZbudPages::default();
        pages.add(ZbudPages::entries().unwrap());
        let (mut group, mut age) = (List::new(), List::new());
        for page in 0..4 {
            group.push_front(&mut pages, LinkSet::Group, PageIndex(page));
            age.push_front(&mut pages, LinkSet::Age, PageIndex(3 - page));
        }
        group.unlink(&mut pages, LinkSet::Group, PageIndex(1));
        assert_eq!(age.iter(&pages, LinkSet::Age).map(|p| p.0).collect::<Vec<_>>(), [0, 1, 2, 3]);
        assert_eq!(group.iter(&pages, LinkSet::Group).map(|p| p.0).collect::<Vec<_>>(), [3, 2, 0]);
    }
}
