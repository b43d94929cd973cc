//! A pool that moves its objects at every chance.
//!
//! ```text
//!   object   here  [bytes, which guards share]      a move copies them to the other place, wipes the one they leave, and swaps the two;
//!            there [wiped, of the same length]      a guard on `here` forbids it
//!
//!   page     8 frames' worth of objects, both places of each; charged to the page source, though the bytes come from the heap
//! ```

mod books;

use std::sync::Arc;

use zpool_core::internal::sync::Mutex;
use zpool_core::internal::sync::atomic::{AtomicBool, Ordering};
use zpool_core::page::PageSource;
use zpool_core::{
    Capabilities, CompactionBudget, CompactionReport, CreateError, FreeError, Handle, HandleMint,
    PoolConfig, PoolError, PoolId, PoolStats, ReadGuard, Violation, ZPool, ZPoolDriver,
    might_block,
};

use books::{Books, Object, PLACES};

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

/// A pool in which an object that no guard holds does not stay where it is.
///
/// Every insert and every free moves up to 64 others, in turn; [`compact`](ZPool::compact) moves what empties pages. Whoever remembers an address for longer
/// than a guard lives, or expects it from another handle, is found out, and so is a caller who takes for granted that only `compact` moves.
///
/// It charges the page source for its pages and keeps the bytes on the heap, each object twice: `rounding_bytes` is the other place. It is slow
/// (one lock for everything, and a search of all pages an insert) and contains no `unsafe`: an object's place is an `Arc`, which a guard shares.
#[derive(Debug)]
pub struct MovingPool {
    mint: HandleMint,
    max_object_len: usize,
    source: Arc<dyn PageSource>,
    books: Mutex<Books>,
    /// A compaction runs.
    compacting: AtomicBool,
}

/// Objects that an insert or a free moves at most: all of them would make a test of thousands quadratic.
const MOVED_BY_THE_WAY: usize = 64;

/// Objects of the maximal length that a page takes.
const LONGEST_A_PAGE: usize = 4;

impl MovingPool {
    /// A pool of objects of up to `max_object_len` bytes, charged to `source`.
    pub fn new(source: Arc<dyn PageSource>, max_object_len: usize) -> MovingPool {
        let frames_per_page =
            (LONGEST_A_PAGE * PLACES * max_object_len).div_ceil(source.frame_size());
        let books = Books::new(frames_per_page * source.frame_size());
        MovingPool {
            mint: HandleMint::new(),
            max_object_len,
            source,
            books: Mutex::new(books),
            compacting: AtomicBool::new(false),
        }
    }

    fn frames_per_page(&self) -> usize {
        self.books.lock().page_bytes() / self.source.frame_size()
    }

    /// Gives the frames of empty pages back; returns their bytes.
    fn give_back(&self) -> usize {
        let mut books = self.books.lock();
        books.bury();
        let (pages, bytes) = (books.drop_empty_pages(), books.page_bytes());
        drop(books);
        // Without the lock: the source is somebody else's code.
        self.source.uncharge(pages * bytes / self.source.frame_size());
        pages * bytes
    }

    fn stats_of(&self, books: &Books) -> PoolStats {
        let mut stats = PoolStats::default();
        stats.objects = books.objects();
        stats.zombies = books.zombies();
        stats.payload_bytes = books.payload();
        stats.rounding_bytes = books.payload() * (PLACES - 1);
        let charged = books.pages() * books.page_bytes();
        stats.fragmentation_bytes = charged - PLACES * books.payload();
        stats.metadata_bytes = size_of::<MovingPool>() + books.metadata();
        stats.resident_frames = charged / self.source.frame_size();
        stats.failed_inserts = books.failed_inserts;
        stats.moved_objects = books.moved_by_compaction;
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
        let mut new = Object::new(object);
        loop {
            let mut books = self.books.lock();
            books.bury();
            match books.add(new) {
                Ok((index, generation)) => {
                    books.move_some(MOVED_BY_THE_WAY);
                    return Ok(self.mint.mint(index, generation));
                }
                Err(full) => new = full,
            }
            if books.is_at_its_limit() {
                return Err(PoolError::OutOfMemory);
            }
            drop(books);
            might_block("MovingPool::insert");
            if let Err(refused) = self.source.charge(self.frames_per_page()) {
                self.books.lock().failed_inserts += 1;
                return Err(refused.into());
            }
            self.books.lock().add_page();
        }
    }

    fn read(&self, handle: &Handle) -> Result<ReadGuard<'_>, PoolError> {
        let opened = self.mint.open(handle)?;
        let books = self.books.lock();
        let here = books.find(opened.index, opened.generation).ok_or(PoolError::StaleHandle)?;
        Ok(ReadGuard::shared(here.clone()))
    }

    fn free(&self, handle: Handle) -> Result<(), FreeError> {
        let opened = match self.mint.open(&handle) {
            Ok(opened) => opened,
            Err(error) => return Err(FreeError::new(error, handle)),
        };
        let mut books = self.books.lock();
        if !books.remove(opened.index, opened.generation) {
            return Err(FreeError::new(PoolError::StaleHandle, handle));
        }
        books.move_some(MOVED_BY_THE_WAY);
        Ok(())
    }

    fn bytes_held(&self) -> usize {
        self.stats().pool_bytes()
    }

    fn stats(&self) -> PoolStats {
        let mut books = self.books.lock();
        books.bury();
        self.stats_of(&books)
    }

    fn validate(&self) -> Result<(), Violation> {
        self.books.lock().check()
    }

    fn compact(&self, budget: CompactionBudget) -> CompactionReport {
        might_block("MovingPool::compact");
        let mut report = CompactionReport::default();
        // Acquire and Release: a lock that nobody waits for.
        if self.compacting.swap(true, Ordering::Acquire) {
            return report;
        }
        let _running = Running(&self.compacting);
        let mut books = self.books.lock();
        books.bury();
        books.compact(budget.max_moves, &mut report);
        drop(books);
        report.freed_bytes = self.give_back();
        report
    }

    fn trim(&self) -> usize {
        might_block("MovingPool::trim");
        self.give_back()
    }
}

/// Ends a compaction, also when the page source panics.
struct Running<'a>(&'a AtomicBool);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl Drop for MovingPool {
    fn drop(&mut self) {
        let books = self.books.get_mut();
        let frames = books.pages() * books.page_bytes() / self.source.frame_size();
        self.source.uncharge(frames);
        might_block("MovingPool::drop");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zpool_core::page::HeapSource;

    #[test]
    fn an_insert_and_a_free_move_what_no_guard_holds() {
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

    #[test]
    fn compaction_empties_the_page_with_the_least_in_it() {
        let source = Arc::new(HeapSource::new(4096));
        let pool = MovingPool::new(source.clone(), 4096);
        // Four a page of eight frames.
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
