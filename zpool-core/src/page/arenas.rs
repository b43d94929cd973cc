//! All arenas of a source, with the free runs in them.
//!
//! ```text
//!   take(len)       a free run of that length, retained memory first; otherwise cut a new one
//!   put_back(run)   to the free runs of its length; an arena without runs is reset
//! ```
//!
//! Runs are reused by exact length, and never split or merged: address space is plentiful, and
//! pools use few lengths.
//!
//! Taking a run makes room in the list that it will return to, so putting it back needs no memory.
//! Addresses are `usize` here. Each arena keeps the pointer from mmap, from which the pointers of
//! runs are derived.

use core::ptr::NonNull;

use super::OutOfFrames;
use super::arena::Arena;

/// Empty arenas that are kept, so that pools are made and destroyed without system calls.
pub(super) const IDLE_ARENAS: usize = 4;

/// Length of a list below which its unused capacity is ignored.
const SMALL: usize = 64;

/// The arenas of a source, with the free runs in them.
#[derive(Debug, Default)]
pub(super) struct Arenas {
    /// By base address.
    mapped: Vec<Arena>,
    /// The address of the arena that runs are cut from.
    current: Option<usize>,
    /// By length.
    lists: Vec<FreeList>,
    /// Frames for which the system holds memory: of free runs, and of arenas that it did not unmap.
    pub(super) retained: usize,
    /// Whether an arena may have no run out while its free runs are still listed.
    some_are_unused: bool,
    /// Whether new arenas are excluded from core dumps.
    pub(super) excluded_from_dumps: bool,
}

/// The runs of one length.
#[derive(Debug)]
struct FreeList {
    /// In bytes.
    len: usize,
    /// Runs handed out. `free` has capacity for all of them.
    out: usize,
    free: Vec<FreeRun>,
}

#[derive(Debug, Clone, Copy)]
struct FreeRun {
    addr: usize,
    /// Frames that the system holds memory for.
    retained: usize,
}

impl Arenas {
    /// Returns how many arenas are mapped.
    pub(super) fn len(&self) -> usize {
        self.mapped.len()
    }

    /// Takes a range of `len` bytes, which is not handed out again before `put_back`.
    ///
    /// # Errors
    ///
    /// [`OutOfFrames`] if there is no memory for the range or for the lists.
    pub(super) fn take(&mut self, len: usize) -> Result<NonNull<u8>, OutOfFrames> {
        let list = self.list_with_room(len)?;
        let taken = match self.take_free(list) {
            Some(base) => Ok(base),
            None => self.cut(len),
        };
        match taken {
            Ok(_) => self.lists[list].out += 1,
            Err(_) => self.drop_if_unused(list),
        }
        taken
    }

    /// Takes a range back, with the number of its frames for which the system holds memory. Call
    /// [`next_surplus`](Self::next_surplus) when all runs are back. Needs no memory.
    pub(super) fn put_back(&mut self, addr: usize, len: usize, retained: usize) {
        let list = self.lists.binary_search_by_key(&len, |list| list.len);
        let list = &mut self.lists[list.expect("runs of this length are out")];
        list.out -= 1;
        debug_assert!(list.free.len() < list.free.capacity(), "room was made when it was taken");
        list.free.push(FreeRun { addr, retained });
        let arena = self.arena_of(addr);
        arena.runs -= 1;
        arena.retained += retained;
        self.some_are_unused |= arena.runs == 0;
        self.retained += retained;
    }

    /// Resets arenas that have no run out. Returns a surplus one, which the caller has to unmap
    /// without the lock, or `None` if none is left.
    pub(super) fn next_surplus(&mut self) -> Option<Arena> {
        if !self.some_are_unused {
            return None;
        }
        self.forget_runs_of_unused_arenas();
        let mut idle = 0;
        for at in 0..self.mapped.len() {
            let arena = &mut self.mapped[at];
            if arena.runs > 0 {
                continue;
            }
            // Unmapping frees the memory that advice did not.
            let spoiled = arena.retained > 0;
            let is_current = self.current == Some(arena.addr());
            idle += usize::from(!is_current);
            if spoiled || (!is_current && idle > IDLE_ARENAS) {
                if is_current {
                    self.current = None;
                }
                return Some(self.mapped.remove(at));
            }
            arena.reset();
        }
        self.some_are_unused = false;
        self.fit();
        None
    }

    /// Notes that the system has unmapped a surplus arena with `retained` frames.
    pub(super) fn unmapped(&mut self, retained: usize) {
        self.retained -= retained;
    }

    /// Takes a free run of a list, preferring one for which the system holds memory.
    fn take_free(&mut self, list: usize) -> Option<NonNull<u8>> {
        let free = &mut self.lists[list].free;
        let run = match self.retained {
            0 => free.pop()?,
            _ => match free.iter().position(|run| run.retained > 0) {
                Some(at) => free.swap_remove(at),
                None => free.pop()?,
            },
        };
        self.retained -= run.retained;
        let arena = self.arena_of(run.addr);
        arena.retained -= run.retained;
        arena.runs += 1;
        Some(arena.at(run.addr))
    }

    /// Cuts a run from the current or the next arena.
    fn cut(&mut self, len: usize) -> Result<NonNull<u8>, OutOfFrames> {
        let current = self.current.and_then(|addr| self.find(addr));
        let at = match current.filter(|&at| self.mapped[at].left() >= len) {
            Some(at) => at,
            None => self.next_arena(len)?,
        };
        let arena = &mut self.mapped[at];
        let base = arena.cut(len)?;
        arena.runs += 1;
        Ok(base)
    }

    /// Makes an idle or a new arena with room for `len` bytes the current one. Returns its
    /// position.
    fn next_arena(&mut self, len: usize) -> Result<usize, OutOfFrames> {
        let idle = |arena: &Arena| arena.runs == 0 && arena.left() >= len;
        let at = match self.mapped.iter().position(idle) {
            Some(at) => at,
            None => {
                self.mapped.try_reserve(1).map_err(|_| OutOfFrames)?;
                let arena = Arena::map(len, self.excluded_from_dumps)?;
                let at = self.mapped.partition_point(|other| other.addr() < arena.addr());
                self.mapped.insert(at, arena);
                at
            }
        };
        self.current = Some(self.mapped[at].addr());
        Ok(at)
    }

    /// Returns the position of the list for a length, with capacity for one more run.
    fn list_with_room(&mut self, len: usize) -> Result<usize, OutOfFrames> {
        let at = match self.lists.binary_search_by_key(&len, |list| list.len) {
            Ok(at) => at,
            Err(at) => {
                self.lists.try_reserve(1).map_err(|_| OutOfFrames)?;
                self.lists.insert(at, FreeList { len, out: 0, free: Vec::new() });
                at
            }
        };
        let list = &mut self.lists[at];
        if list.free.try_reserve(list.out + 1).is_err() {
            self.drop_if_unused(at);
            return Err(OutOfFrames);
        }
        Ok(at)
    }

    fn drop_if_unused(&mut self, list: usize) {
        if self.lists[list].out == 0 && self.lists[list].free.is_empty() {
            self.lists.remove(list);
        }
    }

    /// Removes the free runs of arenas that have no run out.
    fn forget_runs_of_unused_arenas(&mut self) {
        let Arenas { mapped, lists, .. } = self;
        for list in lists {
            list.free.retain(|run| mapped[place_of(mapped, run.addr)].runs > 0);
        }
    }

    /// Shrinks the lists to fit.
    fn fit(&mut self) {
        self.lists.retain(|list| list.out > 0 || !list.free.is_empty());
        for list in &mut self.lists {
            let needed = list.out + list.free.len();
            fit(&mut list.free, needed);
        }
        let (lists, mapped) = (self.lists.len(), self.mapped.len());
        fit(&mut self.lists, lists);
        fit(&mut self.mapped, mapped);
    }

    fn find(&self, addr: usize) -> Option<usize> {
        self.mapped.binary_search_by_key(&addr, Arena::addr).ok()
    }

    fn arena_of(&mut self, addr: usize) -> &mut Arena {
        let at = place_of(&self.mapped, addr);
        &mut self.mapped[at]
    }
}

/// Returns the position of the arena that contains an address.
fn place_of(mapped: &[Arena], addr: usize) -> usize {
    let after = mapped.partition_point(|arena| arena.addr() <= addr);
    let at = after.checked_sub(1).expect("a run lies in an arena");
    debug_assert!(mapped[at].contains(addr), "a run lies in an arena");
    at
}

/// Shrinks a list that uses less than 1/4 of its capacity. Without memory for that, leaves it.
fn fit<T>(entries: &mut Vec<T>, needed: usize) {
    if entries.capacity() <= SMALL || entries.capacity() / 4 <= needed {
        return;
    }
    let mut fitting = Vec::new();
    if fitting.try_reserve_exact(needed + needed / 4).is_ok() {
        fitting.append(entries);
        *entries = fitting;
    }
}

impl Drop for Arenas {
    fn drop(&mut self) {
        while let Some(arena) = self.mapped.pop() {
            // An arena whose runs are out stays mapped, since there may be references into it: a
            // leak, but no fault.
            if arena.runs == 0 {
                arena.unmap();
            }
        }
    }
}

#[cfg(all(test, not(zpool_loom), not(miri)))]
mod tests {
    use super::*;
    use crate::page::arena::ARENA_LEN;

    const RUN: usize = ARENA_LEN / 64;

    /// Takes `count` runs, in the order of their addresses.
    fn take(arenas: &mut Arenas, count: usize) -> Vec<usize> {
        let mut runs: Vec<_> =
            (0..count).map(|_| arenas.take(RUN).unwrap().as_ptr().addr()).collect();
        runs.sort_unstable();
        runs
    }

    fn put_back(arenas: &mut Arenas, runs: impl IntoIterator<Item = usize>) {
        runs.into_iter().for_each(|addr| arenas.put_back(addr, RUN, 0));
        while let Some(surplus) = arenas.next_surplus() {
            assert!(surplus.unmap());
        }
    }

    /// A list that is shrunk keeps room for the runs that are out, so that no release needs memory.
    #[test]
    fn shrunk_list_has_room_for_all_runs() {
        // How many of the first arena's runs stay out.
        for stay in [1, 20, 40, 63] {
            let mut arenas = Arenas::default();
            let mut runs = take(&mut arenas, 64 * 10);
            let first = place_of(&arenas.mapped, runs[0]);
            let in_first = |addr: &usize| arenas.mapped[first].contains(*addr);
            let out: Vec<_> = runs.iter().copied().filter(in_first).take(stay).collect();
            runs.retain(|addr| !out.contains(addr));
            let before = arenas.lists[0].free.capacity();
            put_back(&mut arenas, runs);
            let list = &arenas.lists[0];
            assert_eq!((list.out, list.free.len()), (stay, 64 - stay), "of the first arena");
            let room = list.free.capacity();
            assert!((64..before).contains(&room), "room for {room} of 64, before for {before}");
            put_back(&mut arenas, out);
            assert!(arenas.lists.is_empty(), "no run is out, and none is free");
        }
    }

    /// A list of few runs, or one that uses more than 1/4 of its capacity, stays as it is.
    #[test]
    fn fit_shrinks_long_sparse_lists_only() {
        for (capacity, needed, shrinks) in
            [(SMALL, 0, false), (SMALL + 1, 0, true), (400, 100, false), (400, 99, true)]
        {
            let mut list: Vec<u8> = Vec::with_capacity(capacity);
            assert_eq!(list.capacity(), capacity);
            fit(&mut list, needed);
            assert_eq!(list.capacity() < capacity, shrinks, "{needed} of {capacity}");
            assert!(list.capacity() >= needed);
        }
    }

    /// The current arena and [`IDLE_ARENAS`] others stay mapped when they have no runs.
    #[test]
    fn few_idle_arenas_stay_mapped() {
        let mut arenas = Arenas::default();
        let runs = take(&mut arenas, 64 * (IDLE_ARENAS + 4));
        assert_eq!(arenas.len(), IDLE_ARENAS + 4);
        put_back(&mut arenas, runs);
        assert_eq!(arenas.len(), IDLE_ARENAS + 1);
        let again = take(&mut arenas, 64 * (IDLE_ARENAS + 1));
        assert_eq!(arenas.len(), IDLE_ARENAS + 1, "these are used again");
        put_back(&mut arenas, again);
    }

    /// Only arenas that the system could not empty are unmapped at once; their frames stay counted
    /// until then.
    #[test]
    fn arena_with_retained_frames_is_surplus() {
        let mut arenas = Arenas::default();
        let runs = take(&mut arenas, 2);
        arenas.put_back(runs[0], RUN, 3);
        assert!(arenas.next_surplus().is_none(), "a run is out");
        assert_eq!(arenas.retained, 3);
        let reused = arenas.take(RUN).unwrap().as_ptr().addr();
        assert_eq!((reused, arenas.retained), (runs[0], 0), "handed out with its memory");
        arenas.put_back(reused, RUN, 2);
        arenas.put_back(runs[1], RUN, 0);
        let surplus = arenas.next_surplus().expect("it has retained frames");
        assert_eq!((surplus.retained, arenas.retained, arenas.len()), (2, 2, 0));
        assert!(surplus.unmap());
        arenas.unmapped(2);
        assert_eq!(arenas.retained, 0);
        assert!(arenas.next_surplus().is_none());
    }
}
