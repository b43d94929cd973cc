//! All arenas of a source, with the free runs in them.
//!
//! ```text
//!   take(len)       a free run of that length, retained memory first; otherwise cut a new one
//!   put_back(run)   to the free runs of its length; an arena without runs becomes whole again
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
    some_are_whole: bool,
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
    /// [`next_surplus`](Self::next_surplus) when all are back. Needs no memory.
    pub(super) fn put_back(&mut self, addr: usize, len: usize, retained: usize) {
        let list = self.lists.binary_search_by_key(&len, |list| list.len);
        let list = &mut self.lists[list.expect("runs of this length are out")];
        list.out -= 1;
        debug_assert!(list.free.len() < list.free.capacity(), "room was made when it was taken");
        list.free.push(FreeRun { addr, retained });
        let arena = self.arena_of(addr);
        arena.runs -= 1;
        arena.retained += retained;
        self.some_are_whole |= arena.runs == 0;
        self.retained += retained;
    }

    /// Makes arenas without runs whole again. Returns one that the caller has to unmap without the
    /// lock, until there is none.
    pub(super) fn next_surplus(&mut self) -> Option<Arena> {
        if !self.some_are_whole {
            return None;
        }
        self.forget_runs_of_whole_arenas();
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
        self.some_are_whole = false;
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
    fn forget_runs_of_whole_arenas(&mut self) {
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
