//! The reserve of this process with its range table, and what is done to both at once.

use std::ffi::{c_int, c_void};
use std::mem::ManuallyDrop;
use std::ops::Range;
use std::path::PathBuf;
use std::ptr;
// Not the project's locks: parking_lot queues waiters in a global table that another thread may
// hold locked at the fork. std's mutex is one futex word.
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use zpool_core::exec::Inline;
use zpool_core::internal::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use zpool_region::{Region, RegionReserve};

use crate::calls::{self, AllSignalsBlocked};
use crate::range_table::{RangeState, RangeTable};
use crate::settings::Settings;

/// Address space per byte of the limit. It costs a byte per page.
const SPACE_PER_LIMIT: usize = 64;

/// The lowest number of a descriptor that the program does not know.
const FIRST_HIDDEN_DESCRIPTOR: c_int = 700;

/// Least and most bytes of address space.
const SPACE_BOUNDS: (usize, usize) = (4 << 30, 4 << 40);

/// The address space of this process, once there is one. Before that, and in a process that failed
/// to make one, everything passes through.
static SPACE: OnceLock<Space> = OnceLock::new();

/// Start and length of the reserve, for the fast path of every call.
static BASE: AtomicUsize = AtomicUsize::new(0);
static LEN: AtomicUsize = AtomicUsize::new(0);

/// The reserve, and which parts of it are used.
#[derive(Debug)]
pub(crate) struct Space {
    pub(crate) reserve: RegionReserve,
    table: Mutex<RangeTable>,
    /// A word that is 1 in the process that has the memory, and 0 in a child of a bare fork.
    marker: &'static AtomicU32,
    pub(crate) page: usize,
    pub(crate) at_least: usize,
    pub(crate) limit: usize,
    pub(crate) report: Option<PathBuf>,
    /// The descriptor that figures are printed to if the program has closed its standard error.
    pub(crate) standard_error: Option<c_int>,
}

/// The locked range table. Signals are blocked while this lives, and the error number is kept.
#[derive(Debug)]
pub(crate) struct Entered {
    // The lock is released first.
    pub(crate) table: ManuallyDrop<MutexGuard<'static, RangeTable>>,
    _signals: AllSignalsBlocked,
    errno: c_int,
}

impl Drop for Entered {
    fn drop(&mut self) {
        // SAFETY: the field is not used again.
        unsafe { ManuallyDrop::drop(&mut self.table) };
        calls::set_errno(self.errno);
    }
}

impl Space {
    /// Makes the address space of this process.
    pub(crate) fn make(settings: Settings) -> Result<&'static Space, String> {
        let (least, most) = SPACE_BOUNDS;
        let len = settings.limit.saturating_mul(SPACE_PER_LIMIT).clamp(least, most);
        let mut builder = Region::builder().len(len).limit_bytes(settings.limit);
        if let Some(spec) = settings.spec {
            builder = builder.spec(spec);
        }
        // A thread of the store's would not be there in a forked child.
        let builder = builder.store(|store| store.executor(Arc::new(Inline::new())));
        let reserve = builder.reserve().map_err(|error| error.to_string())?;
        if !reserve.serves_kernel_faults() {
            return Err("this process may not serve page faults of system calls: run as root, or \
                        set the sysctl vm.unprivileged_userfaultfd=1"
                .to_owned());
        }
        let marker = calls::map_page_wiped_on_fork().map_err(|error| error.to_string())?;
        let marker: *const AtomicU32 = ptr::with_exposed_provenance(marker);
        // SAFETY: a page that is never unmapped, and holds a word that is only accessed by this.
        let marker = unsafe { &*marker };
        marker.store(1, Ordering::Relaxed);
        let len = reserve.len();
        // The program gets addresses in here as numbers, by pointers that are derived from it.
        let base = reserve.base().expose_provenance();
        let page = calls::page_size();
        let space = Space {
            table: Mutex::new(RangeTable::new(len)),
            reserve,
            marker,
            page,
            at_least: settings.at_least.max(page),
            limit: settings.limit,
            standard_error: settings
                .report
                .is_none()
                .then(|| calls::second_standard_error(FIRST_HIDDEN_DESCRIPTOR))
                .flatten(),
            report: settings.report,
        };
        let space = SPACE.get_or_init(|| space);
        BASE.store(base, Ordering::Relaxed);
        // Release: pairs with the Acquire in `get` and `base_and_len`. A thread that sees
        // the length sees base and space.
        LEN.store(len, Ordering::Release);
        Ok(space)
    }

    /// Returns the address space, if this process has one.
    pub(crate) fn get() -> Option<&'static Space> {
        // Acquire: pairs with `make`.
        if LEN.load(Ordering::Acquire) == 0 {
            return None;
        }
        SPACE.get().filter(|space| space.marker.load(Ordering::Relaxed) != 0)
    }

    /// Notes that a forked child has the memory.
    pub(crate) fn adopt() {
        if let Some(space) = SPACE.get() {
            space.marker.store(1, Ordering::Relaxed);
        }
    }

    /// Returns the offset of an address in the reserve, also in a process that does not have its
    /// memory.
    pub(crate) fn offset_of(address: usize) -> Option<usize> {
        let (base, all) = Space::base_and_len();
        let offset = address.wrapping_sub(base);
        (offset < all).then_some(offset)
    }

    /// Returns the part of a range of addresses that is in the reserve, as offsets.
    pub(crate) fn overlap(address: usize, len: usize) -> Option<Range<usize>> {
        let (base, all) = Space::base_and_len();
        let start = address.max(base);
        let end = address.saturating_add(len).min(base.saturating_add(all));
        (start < end).then(|| start - base..end - base)
    }

    /// Returns start and length of the reserve. The length is 0 if there is none.
    fn base_and_len() -> (usize, usize) {
        // Acquire: pairs with `make`. Loaded first, so that the base is the one of this length.
        let all = LEN.load(Ordering::Acquire);
        (BASE.load(Ordering::Relaxed), all)
    }

    /// Returns the pointer to an offset.
    pub(crate) fn at(offset: usize) -> *mut c_void {
        ptr::with_exposed_provenance_mut(BASE.load(Ordering::Relaxed) + offset)
    }

    /// Locks the range table.
    pub(crate) fn enter(&'static self) -> Entered {
        let errno = calls::errno();
        let signals = AllSignalsBlocked::enter();
        // A panic in here ends the process, so no lock is left behind.
        let table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        Entered { table: ManuallyDrop::new(table), _signals: signals, errno }
    }

    /// Rounds a length to whole pages.
    pub(crate) fn whole_pages(&self, len: usize) -> Option<usize> {
        len.checked_next_multiple_of(self.page)
    }

    /// Opens a free part for `len` bytes. Returns `None` if there is none.
    pub(crate) fn allocate(&'static self, len: usize, align: usize) -> Option<Range<usize>> {
        let len = self.whole_pages(len)?;
        let mut entered = self.enter();
        let base = BASE.load(Ordering::Relaxed);
        let range = entered.table.find(len, align.max(self.page), base)?;
        self.reserve.open(range.clone()).ok()?;
        entered.table.set(&range, RangeState::Used);
        Some(range)
    }

    /// Opens the free bytes behind a part that ends at `range.start`. Returns whether that was
    /// possible.
    pub(crate) fn grow(&self, entered: &mut Entered, range: &Range<usize>) -> bool {
        let fits = range.end <= self.reserve.len() && entered.table.is_all(range, RangeState::Free);
        let grown = fits && self.reserve.open(range.clone()).is_ok();
        if grown {
            entered.table.extend(range);
        }
        grown
    }

    /// Closes the open pieces of a range. Returns an error number if the system refuses.
    ///
    /// # Safety
    ///
    /// 1. The program gives up what is in the range.
    pub(crate) unsafe fn close(
        &self,
        entered: &mut Entered,
        range: &Range<usize>,
    ) -> Result<(), c_int> {
        for (piece, state) in entered.table.pieces(range) {
            if state.is_open() {
                // SAFETY: (1).
                let closed = unsafe { self.reserve.close(piece.clone()) };
                closed.map_err(|error| error.raw_os_error().unwrap_or(libc::ENOMEM))?;
                entered.table.set(&piece, RangeState::Free);
            }
        }
        Ok(())
    }

    /// Takes a range out of the reserve, for another mapping. Returns an error number if the system
    /// refuses.
    ///
    /// # Safety
    ///
    /// 1. The program gives up what is in the range.
    pub(crate) unsafe fn give_up(
        &self,
        entered: &mut Entered,
        range: &Range<usize>,
    ) -> Result<(), c_int> {
        // SAFETY: (1).
        unsafe { self.close(entered, range) }?;
        for (piece, state) in entered.table.pieces(range) {
            if state == RangeState::Free {
                self.reserve.give_up(piece.clone());
                entered.table.set(&piece, RangeState::GivenUp);
            }
        }
        Ok(())
    }
}
