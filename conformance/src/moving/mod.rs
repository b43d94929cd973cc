//! A pool that moves its objects at every opportunity.
//!
//! ```text
//!   object   here  [bytes, which guards share]      a move copies to the other place, wipes
//!            there [wiped, of the same length]      `here`, and swaps both; a guard forbids it
//!
//!   page     room for 4 objects of the maximal length, with both places of each; charged to the
//!            page source, although the bytes come from the heap
//! ```

mod state;

use std::sync::Arc;

use zpool_core::internal::sync::Mutex;
use zpool_core::internal::sync::atomic::{AtomicBool, Ordering};
use zpool_core::page::PageSource;
use zpool_core::{
    Capabilities, CompactionBudget, CompactionReport, CreateError, FreeError, Handle, HandleMint,
    PoolConfig, PoolError, PoolId, PoolStats, ReadGuard, Violation, ZPool, ZPoolDriver,
    might_block,
};

use state::{MovingObject, MovingPoolState, PLACES};

/// Makes [`MovingPool`]s, under the name `moving`.
#[derive(Debug, Clone, Copy, Default)]
pub struct MovingDriver;

impl ZPoolDriver for MovingDriver {
    fn name(&self) -> &str {
        "moving"
    }

    fn create(&self, config: &PoolConfig) -> Result<Box<dyn ZPool>, CreateError> {
        self.canonical(&config.params)?;
        if config.max_object_len == 0 {
            return Err(CreateError::BadValue {
                name: "max_object_len".to_owned(),
                value: "0".to_owned(),
                expected: "at least 1".to_owned(),
            });
        }
        Ok(Box::new(MovingPool::new(config.source.clone(), config.max_object_len)))
    }
}

/// A pool in which every object moves unless a guard holds it.
///
/// Every insert and every free moves up to 64 objects in rotation, and [`compact`](ZPool::compact)
/// moves objects to empty pages. This exposes code that remembers an address for longer than its
/// guard lives, that expects the address from another handle, or that assumes that only `compact`
/// moves.
///
/// The page source is charged for its pages, but the bytes lie on the heap, each object twice.
/// `rounding_bytes` counts the second place. The pool is slow, with one lock and a search of all
/// pages per insert. It needs no `unsafe`, because an object's place is an `Arc`, which a guard
/// shares.
#[derive(Debug)]
pub struct MovingPool {
    mint: HandleMint,
    max_object_len: usize,
    source: Arc<dyn PageSource>,
    state: Mutex<MovingPoolState>,
    /// Whether a compaction runs.
    compacting: AtomicBool,
}

/// The most objects that an insert or a free moves. Moving all of them would make a test of
/// thousands quadratic.
const MOVES_PER_CALL: usize = 64;

/// The number of objects of the maximal length per page.
const LONGEST_PER_PAGE: usize = 4;

impl MovingPool {
    /// Creates a pool of objects of up to `max_object_len` bytes, charged to `source`.
    pub fn new(source: Arc<dyn PageSource>, max_object_len: usize) -> MovingPool {
        let frames_per_page =
            (LONGEST_PER_PAGE * PLACES * max_object_len).div_ceil(source.frame_size());
        let state = MovingPoolState::new(frames_per_page * source.frame_size());
        MovingPool {
            mint: HandleMint::new(),
            max_object_len,
            source,
            state: Mutex::new(state),
            compacting: AtomicBool::new(false),
        }
    }

    fn frames_per_page(&self) -> usize {
        self.state.lock().page_bytes() / self.source.frame_size()
    }

    /// Releases the frames of empty pages and returns their bytes.
    fn release_empty_pages(&self) -> usize {
        let mut state = self.state.lock();
        state.drop_unheld_zombies();
        let (pages, bytes) = (state.drop_empty_pages(), state.page_bytes());
        drop(state);
        // Unlock first, because the source is foreign code.
        self.source.uncharge(pages * bytes / self.source.frame_size());
        pages * bytes
    }

    fn stats_of(&self, state: &MovingPoolState) -> PoolStats {
        let mut stats = PoolStats::default();
        stats.objects = state.objects();
        stats.zombies = state.zombies();
        stats.payload_bytes = state.payload();
        stats.rounding_bytes = state.payload() * (PLACES - 1);
        let charged = state.pages() * state.page_bytes();
        stats.fragmentation_bytes = charged - PLACES * state.payload();
        stats.metadata_bytes = size_of::<MovingPool>() + state.metadata();
        stats.resident_frames = charged / self.source.frame_size();
        stats.failed_inserts = state.failed_inserts;
        stats.moved_objects = state.moved_by_compaction;
        stats
    }
}

impl ZPool for MovingPool {
    fn id(&self) -> PoolId {
        self.mint.pool_id()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::new(self.max_object_len).compacting()
    }

    fn insert(&self, object: &[u8]) -> Result<Handle, PoolError> {
        match object.len() {
            0 => return Err(PoolError::EmptyObject),
            len if len > self.max_object_len => {
                return Err(PoolError::TooLarge { len, max: self.max_object_len });
            }
            _ => {}
        }
        let mut new = MovingObject::new(object);
        loop {
            let mut state = self.state.lock();
            state.drop_unheld_zombies();
            match state.add(new) {
                Ok((index, generation)) => {
                    state.move_some(MOVES_PER_CALL);
                    return Ok(self.mint.mint(index, generation));
                }
                Err(full) => new = full,
            }
            if state.is_at_its_limit() {
                return Err(PoolError::OutOfMemory);
            }
            drop(state);
            might_block("MovingPool::insert");
            if let Err(refused) = self.source.charge(self.frames_per_page()) {
                self.state.lock().failed_inserts += 1;
                return Err(refused.into());
            }
            self.state.lock().add_page();
        }
    }

    fn read(&self, handle: &Handle) -> Result<ReadGuard<'_>, PoolError> {
        let opened = self.mint.open(handle)?;
        let state = self.state.lock();
        let here = state.find(opened.index, opened.generation).ok_or(PoolError::StaleHandle)?;
        Ok(ReadGuard::shared(here.clone()))
    }

    fn free(&self, handle: Handle) -> Result<(), FreeError> {
        let opened = match self.mint.open(&handle) {
            Ok(opened) => opened,
            Err(error) => return Err(FreeError::new(error, handle)),
        };
        let mut state = self.state.lock();
        if !state.remove(opened.index, opened.generation) {
            return Err(FreeError::new(PoolError::StaleHandle, handle));
        }
        state.move_some(MOVES_PER_CALL);
        Ok(())
    }

    fn bytes_held(&self) -> usize {
        self.stats().pool_bytes()
    }

    fn stats(&self) -> PoolStats {
        let mut state = self.state.lock();
        state.drop_unheld_zombies();
        self.stats_of(&state)
    }

    fn validate(&self) -> Result<(), Violation> {
        self.state.lock().check()
    }

    fn compact(&self, budget: CompactionBudget) -> CompactionReport {
        might_block("MovingPool::compact");
        let mut report = CompactionReport::default();
        // Acquire and Release: a lock that no thread waits for.
        if self.compacting.swap(true, Ordering::Acquire) {
            return report;
        }
        let _running = CompactionFlag(&self.compacting);
        let mut state = self.state.lock();
        state.drop_unheld_zombies();
        state.compact(budget.max_moves, &mut report);
        drop(state);
        report.freed_bytes = self.release_empty_pages();
        report
    }

    fn trim(&self) -> usize {
        might_block("MovingPool::trim");
        self.release_empty_pages()
    }
}

/// Clears the flag of a compaction, even if the page source panics.
struct CompactionFlag<'a>(&'a AtomicBool);

impl Drop for CompactionFlag<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl Drop for MovingPool {
    fn drop(&mut self) {
        let state = self.state.get_mut();
        let frames = state.pages() * state.page_bytes() / self.source.frame_size();
        self.source.uncharge(frames);
        might_block("MovingPool::drop");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zpool_core::page::HeapSource;

    /// An insert and a free move the objects that no guard holds.
    #[test]
    fn calls_move_unpinned_objects() {
        let pool = MovingPool::new(Arc::new(HeapSource::new(4096)), 4096);
        let (held, loose) = (pool.insert(&[1; 100]).unwrap(), pool.insert(&[2; 100]).unwrap());
        let guard = pool.read(&held).unwrap();
        let at = |handle: &Handle| pool.read(handle).unwrap().as_ptr();
        let (before, stays) = (at(&loose), guard.as_ptr());
        let third = pool.insert(&[3; 100]).unwrap();
        let between = at(&loose);
        assert_ne!(between, before, "moved by the insert");
        pool.free(third).unwrap();
        assert_ne!(at(&loose), between, "moved by the free");
        assert_eq!((at(&held), guard.as_ptr()), (stays, stays), "a guard holds it");
        drop(guard);
        pool.free(loose).unwrap();
        assert_ne!(at(&held), stays, "the guard has gone");
        assert_eq!(*pool.read(&held).unwrap(), [1; 100]);
    }

    /// Compaction empties the page with the fewest bytes.
    #[test]
    fn compaction_empties_emptiest_page() {
        let source = Arc::new(HeapSource::new(4096));
        let pool = MovingPool::new(source.clone(), 4096);
        // Four objects per page of eight frames.
        let mut handles: Vec<_> = (0..12).map(|_| pool.insert(&[9; 4096]).unwrap()).collect();
        assert_eq!(source.charged_frames(), 24);
        for at in [9, 8, 5, 4] {
            pool.free(handles.swap_remove(at)).unwrap();
        }
        let report = pool.compact(CompactionBudget::UNLIMITED);
        assert_eq!(
            (report.moved_objects, report.freed_bytes, source.charged_frames()),
            (2, 8 * 4096, 16)
        );
    }
}
