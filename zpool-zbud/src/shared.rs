//! What a pool is, behind its handle: shared with its job, and with the guards that borrow it.

use core::fmt;
use core::ops::{Deref, DerefMut};
use std::sync::{Arc, Weak};

use zpool_core::exec::{Executor, Job};
use zpool_core::internal::catch;
use zpool_core::internal::sync::atomic::{AtomicUsize, Ordering};
use zpool_core::internal::sync::{Condvar, Mutex, MutexGuard};
use zpool_core::page::PageSource;
use zpool_core::{HandleMint, Pins};

use crate::books::{Books, JobState};
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
        {
            let mut books = shared.lock();
            if shared.executor.is_some() {
                books.job = JobState::Missing;
            }
            shared.count_metadata(&books);
        }
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
        let bytes =
            size_of::<Shared>() + BESIDES + Table::bytes(books.pages.runs()) + books.pages.bytes();
        // Relaxed: statistics only.
        self.metadata.store(bytes, Ordering::Relaxed);
    }

    /// Returns whether there are more empty pages than are kept. Those that the system refused to
    /// take do not count, so that it is not asked for them at every turn.
    pub(crate) fn too_many_empty(&self, books: &Books) -> bool {
        books.empty.len().saturating_sub(books.refused)
            > (KEPT_AT_MOST / self.geometry.page()).max(1)
    }

    /// Empty pages that are kept when some are given back.
    pub(crate) fn kept(&self) -> usize {
        KEPT_AFTER / self.geometry.page()
    }

    /// Ends a section in which pages may have become empty: if there is enough to do, submits the
    /// job. A panic of the executor goes no further: the caller's object is freed.
    pub(crate) fn unlock_and_hand_over(&self, mut books: Locked<'_>) {
        let job = if self.too_many_empty(&books) { books.take_job() } else { None };
        drop(books);
        let (Some(job), Some(executor)) = (job, &self.executor) else { return };
        match catch(|| executor.submit(job)) {
            Some(Ok(())) => {}
            // The next free tries again. Inserts and trim do the work meanwhile.
            Some(Err(refused)) => self.put_job(refused.job),
            // Unwinding has dropped the job, which made the next one. If it has not, the executor
            // keeps it or has leaked it, and another one does no harm.
            None => self.renew_job(),
        }
    }

    /// Makes the job, if it is missing: called where memory may be asked for.
    pub(crate) fn make_missing_job(&self) {
        let missing = matches!(self.lock().job, JobState::Missing);
        if missing && let Some(job) = self.new_job() {
            self.put_job(job);
        }
    }

    /// Makes the next job, after the last one has ended or was dropped. Without memory for it, one
    /// is missing until a later insert.
    fn renew_job(&self) {
        {
            let mut books = self.lock();
            if books.closing || !matches!(books.job, JobState::Out) {
                return;
            }
            books.job = JobState::Missing;
        }
        self.make_missing_job();
    }

    /// Puts the job where the next free finds it, unless there is one.
    fn put_job(&self, job: Job) {
        let surplus = {
            let mut books = self.lock();
            match books.job {
                JobState::Out | JobState::Missing if !books.closing => {
                    books.job = JobState::Ready(job);
                    return;
                }
                _ => job,
            }
        };
        // Not under the lock.
        drop(surplus);
    }

    fn new_job(&self) -> Option<Job> {
        let errand = Errand(self.me.clone());
        Job::try_new("zbud: give empty pages back", || move || errand.run())
    }

    fn run_job(&self) {
        let mut books = self.lock();
        if books.closing {
            return;
        }
        books.working += 1;
        drop(books);
        let at_work = AtWork(self);
        let mut next = self.new_job();
        loop {
            while self.give_back_some(self.kept()) {}
            let mut books = self.lock();
            // Pages that became empty meanwhile found no job to submit.
            if self.too_many_empty(&books) {
                continue;
            }
            if matches!(books.job, JobState::Out)
                && let Some(job) = next.take()
            {
                books.job = JobState::Ready(job);
            }
            break;
        }
        drop(at_work);
    }

    /// Ends the pool: no job starts any more, and none runs. May wait for one that does.
    pub(crate) fn stop_jobs(&self) {
        let mut books = self.lock();
        books.closing = true;
        let job = books.take_job();
        while books.working > 0 {
            self.quiet.wait(&mut books.books);
        }
        drop(books);
        drop(job);
    }
}

/// What the job carries. However it ends, the pool gets its next job: also when the page source
/// panics, and when an executor drops the job without running it.
struct Errand(Weak<Shared>);

impl Errand {
    fn run(self) {
        if let Some(shared) = self.0.upgrade() {
            shared.run_job();
        }
    }
}

impl Drop for Errand {
    fn drop(&mut self) {
        if let Some(shared) = self.0.upgrade() {
            shared.renew_job();
        }
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
