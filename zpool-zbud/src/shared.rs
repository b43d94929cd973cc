//! What a pool is, behind its handle: shared with its job, and with the guards that borrow it.

use core::fmt;
use core::ops::{Deref, DerefMut};
use std::sync::{Arc, Weak};

use zpool_core::exec::{Executor, Job};
use zpool_core::page::PageSource;
use zpool_core::sync::atomic::{AtomicUsize, Ordering};
use zpool_core::sync::{Condvar, Mutex, MutexGuard};
use zpool_core::{HandleMint, Pins};

use crate::books::Books;
use crate::geometry::{Geometry, SlotIndex};
use crate::table::Table;

/// Bytes of empty pages that are kept for the next inserts. Beyond this a batch of them goes back ...
const KEPT_AT_MOST: usize = 128 << 10;

/// ... until so many are left.
const KEPT_AFTER: usize = 32 << 10;

/// What the heap adds to the pool itself: the counts of its `Arc`, and the node of its job.
const BESIDES: usize = 2 * size_of::<usize>() + 64;

pub(crate) struct Shared {
    pub(crate) mint: HandleMint,
    pub(crate) geometry: Geometry,
    pub(crate) source: Arc<dyn PageSource>,
    pub(crate) table: Table,
    books: Mutex<Books>,
    /// Signalled when `Books::working` falls to 0.
    quiet: Condvar,
    /// `Books::resident`, so that asking takes no lock.
    resident: AtomicUsize,
    /// Bytes of this and of the tables.
    metadata: AtomicUsize,
    /// One that takes jobs inside a no-block section: `free` promises never to block, so any other kind is of no use.
    executor: Option<Arc<dyn Executor>>,
    me: Weak<Shared>,
    /// Objects that are gone are overwritten.
    pub(crate) wipe: bool,
}

impl Shared {
    pub(crate) fn new(
        geometry: Geometry,
        source: Arc<dyn PageSource>,
        executor: Option<Arc<dyn Executor>>,
        wipe: bool,
    ) -> Arc<Shared> {
        let executor = executor.filter(|executor| executor.properties().submit_in_no_block);
        let shared = Arc::new_cyclic(|me| Shared {
            mint: HandleMint::new(),
            geometry,
            source,
            table: Table::new(),
            books: Mutex::new(Books::new()),
            quiet: Condvar::new(),
            resident: AtomicUsize::new(0),
            metadata: AtomicUsize::new(0),
            executor,
            me: me.clone(),
            wipe,
        });
        shared.count_metadata(&shared.lock());
        shared
    }

    pub(crate) fn lock(&self) -> Locked<'_> {
        Locked { books: self.books.lock(), shared: self }
    }

    pub(crate) fn bytes_held(&self) -> usize {
        // Relaxed: statistics only; as is the next.
        self.resident.load(Ordering::Relaxed) * self.geometry.frame() + self.metadata()
    }

    pub(crate) fn metadata(&self) -> usize {
        self.metadata.load(Ordering::Relaxed)
    }

    /// After the tables have grown.
    pub(crate) fn count_metadata(&self, books: &Books) {
        let bytes = size_of::<Shared>() + BESIDES + Table::bytes(books.pages.runs()) + books.pages.bytes();
        // Relaxed: statistics only.
        self.metadata.store(bytes, Ordering::Relaxed);
    }

    /// Are there more empty pages than are kept?
    pub(crate) fn too_many_empty(&self, books: &Books) -> bool {
        books.empty.len() > (KEPT_AT_MOST / self.geometry.page()).max(1)
    }

    /// Empty pages that are kept when some are given back.
    pub(crate) fn kept(&self) -> usize {
        KEPT_AFTER / self.geometry.page()
    }

    /// Ends a section in which pages may have become empty: hands the job over, if there is one and enough to do.
    pub(crate) fn unlock_and_hand_over(&self, mut books: Locked<'_>) {
        let job = if self.too_many_empty(&books) { books.job.take() } else { None };
        drop(books);
        let (Some(job), Some(executor)) = (job, &self.executor) else { return };
        if let Err(refused) = executor.submit(job) {
            // The next free tries again; inserts and trim do the work meanwhile.
            self.lock().job = Some(refused.job);
        }
    }

    /// The job that gives empty pages back, where there is somebody to run it. Allocates.
    pub(crate) fn new_job(&self) -> Option<Job> {
        self.executor.as_ref()?;
        let me = self.me.clone();
        let run = move || {
            if let Some(shared) = me.upgrade() {
                shared.run_job();
            }
        };
        Some(Job::new("zbud: give empty pages back", run))
    }

    fn run_job(&self) {
        let mut books = self.lock();
        if books.closing {
            return;
        }
        books.working += 1;
        drop(books);
        let at_work = AtWork(self);
        loop {
            while self.give_back_some(self.kept()) {}
            let job = self.new_job();
            let mut books = self.lock();
            // Pages that became empty meanwhile found no job to hand over.
            if !self.too_many_empty(&books) {
                books.job = job;
                break;
            }
        }
        drop(at_work);
    }

    /// Ends the pool: no job starts any more, and none runs. May wait for one that does.
    pub(crate) fn stop_jobs(&self) {
        let mut books = self.lock();
        books.closing = true;
        let job = books.job.take();
        while books.working > 0 {
            self.quiet.wait(&mut books.books);
        }
        drop(books);
        drop(job);
    }
}

impl Pins for Shared {
    fn unpin(&self, token: u64) {
        let index = SlotIndex::from_bits(token as u32);
        let Some((_, slot)) = self.table.slot(index) else {
            debug_assert!(false, "a guard of {index:?}, which is not there");
            return;
        };
        if slot.unpin() {
            let mut books = self.lock();
            let len = slot.bury();
            books.zombies -= 1;
            self.vacate(&mut books, index, len);
            self.unlock_and_hand_over(books);
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Zbud")
            .field("id", &self.mint.pool_id())
            .field("page", &self.geometry.page())
            .field("bytes_held", &self.bytes_held())
            .finish_non_exhaustive()
    }
}

/// A job inside the pool; leaves it also when the page source panics.
struct AtWork<'a>(&'a Shared);

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        let mut books = self.0.lock();
        books.working -= 1;
        if books.working == 0 {
            self.0.quiet.notify_all();
        }
    }
}

/// The books, while this thread has the pool's lock: the only lock there is, and none is taken under it.
pub(crate) struct Locked<'a> {
    books: MutexGuard<'a, Books>,
    shared: &'a Shared,
}

impl Deref for Locked<'_> {
    type Target = Books;
    fn deref(&self) -> &Books {
        &self.books
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut Books {
        &mut self.books
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        // Relaxed: statistics only.
        self.shared.resident.store(self.books.resident, Ordering::Relaxed);
    }
}
