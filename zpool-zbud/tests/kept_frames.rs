//! A system that does not take frames back: they stay charged, are used first, and the pool does
//! not try for ever.

use std::sync::Arc;

use zpool_core::exec::Manual;
use zpool_core::page::{FaultPlan, FaultySource, MmapSource, PageSource};
use zpool_core::{
    Evict, Handle, HandleId, NotEvicted, PoolConfig, PoolError, ReclaimReport, ZPool, ZPoolDriver,
};
use zpool_zbud::ZbudDriver;

const PAGE: usize = 4096;
const PAGES: usize = 200;

type Rig = (Box<dyn ZPool>, Arc<FaultySource>, Arc<Manual>);

fn pool(page: usize) -> Rig {
    let source = Arc::new(FaultySource::new(Arc::new(MmapSource::new()), FaultPlan::Never));
    let manual = Arc::new(Manual::new());
    let mut config = PoolConfig::new(source.clone(), page).with_executor(manual.clone());
    config.params.set("page", page.to_string());
    (ZbudDriver.create(&config).unwrap(), source, manual)
}

fn fill(pool: &dyn ZPool, pages: usize) -> Vec<Handle> {
    (0..pages).map(|page| pool.insert(&[page as u8; PAGE]).unwrap()).collect()
}

fn free_all(pool: &dyn ZPool, handles: impl IntoIterator<Item = Handle>) {
    handles.into_iter().for_each(|handle| pool.free(handle).unwrap());
}

fn frames_in_books(pool: &dyn ZPool) -> usize {
    pool.validate().unwrap();
    pool.stats().resident_frames
}

/// Trim returns 0, the frames stay charged, and inserts use them before they charge others.
#[test]
fn trim_kept_frames_stay_charged_and_are_reused() {
    let (pool, source, _) = pool(PAGE);
    let handles = fill(&*pool, PAGES);
    free_all(&*pool, handles);
    source.keep_frames(true);
    assert_eq!((pool.trim(), source.charged_frames(), frames_in_books(&*pool)), (0, PAGES, PAGES));
    let calls = source.calls();
    let handles = fill(&*pool, PAGES);
    assert_eq!((source.calls(), source.charged_frames()), (calls, PAGES), "nothing new is charged");
    free_all(&*pool, handles);
    source.keep_frames(false);
    assert_eq!(
        (pool.trim(), source.charged_frames(), frames_in_books(&*pool)),
        (PAGES * PAGE, 0, 0)
    );
}

/// The job ends, is not submitted again for the same pages, and continues when the system takes
/// frames again.
#[test]
fn job_with_kept_frames_ends_and_is_resubmitted() {
    let (pool, source, manual) = pool(PAGE);
    let handles = fill(&*pool, PAGES);
    free_all(&*pool, handles);
    source.keep_frames(true);
    manual.run_all();
    assert_eq!((source.charged_frames(), manual.pending(), manual.jobs_panicked()), (PAGES, 0, 0));
    // Some pages are freed and used again: no reason to try again.
    for _ in 0..100 {
        let handles = fill(&*pool, 20);
        free_all(&*pool, handles);
    }
    assert_eq!(manual.pending(), 0);
    source.keep_frames(false);
    let handles = fill(&*pool, 2 * PAGES);
    free_all(&*pool, handles);
    assert_eq!(manual.pending(), 1);
    manual.run_all();
    assert_eq!((source.charged_frames(), frames_in_books(&*pool)), (8, 8));
}

/// Without an executor, an insert succeeds although its release is in vain.
#[test]
fn insert_with_kept_frames_succeeds() {
    let source = Arc::new(FaultySource::new(Arc::new(MmapSource::new()), FaultPlan::Never));
    let pool = ZbudDriver.create(&PoolConfig::new(source.clone(), PAGE)).unwrap();
    let handles = fill(&*pool, PAGES);
    free_all(&*pool, handles);
    source.keep_frames(true);
    let handles = fill(&*pool, PAGES + 1);
    assert_eq!((source.charged_frames(), frames_in_books(&*pool)), (PAGES + 1, PAGES + 1));
    free_all(&*pool, handles);
}

/// Frames of pages with an object are kept like those of empty pages.
#[test]
fn trim_kept_frames_beside_an_object_stay() {
    let (pool, source, _) = pool(4 * PAGE);
    let (long, short) =
        (pool.insert(&[1; 3 * PAGE]).unwrap(), pool.insert(&[2; PAGE / 2]).unwrap());
    pool.free(long).unwrap();
    let charged = source.charged_frames();
    source.keep_frames(true);
    assert_eq!(
        (pool.trim(), source.charged_frames(), frames_in_books(&*pool)),
        (0, charged, charged)
    );
    let long = pool.insert(&[3; 3 * PAGE]).unwrap();
    assert_eq!(
        (source.charged_frames(), *pool.read(&long).unwrap() == [3; 3 * PAGE]),
        (charged, true)
    );
    assert_eq!(*pool.read(&short).unwrap(), [2; PAGE / 2]);
    pool.free(long).unwrap();
    source.keep_frames(false);
    assert!(pool.trim() > 0 && source.charged_frames() == frames_in_books(&*pool));
}

/// An owner that frees every object it is asked to evict.
struct Owner<'a> {
    pool: &'a dyn ZPool,
    handles: Vec<Handle>,
    asked: usize,
}

impl Evict for Owner<'_> {
    fn evict(&mut self, id: HandleId) -> Result<(), NotEvicted> {
        self.asked += 1;
        let at = self.handles.iter().position(|handle| handle.id() == id).ok_or(NotEvicted)?;
        self.pool.free(self.handles.swap_remove(at)).map_err(|_| NotEvicted)
    }
}

/// Reclaim reports no page that the system kept, and evicts at most the objects of one page in
/// vain.
#[test]
fn reclaim_of_kept_frames_evicts_one_page() {
    let (pool, source, _) = pool(PAGE);
    let mut owner = Owner { pool: &*pool, handles: fill(&*pool, PAGES), asked: 0 };
    source.keep_frames(true);
    let error = pool.reclaim(10, &mut owner).unwrap_err();
    assert_eq!(
        (error.error, error.report),
        (PoolError::NothingToReclaim, ReclaimReport::default())
    );
    assert_eq!((owner.asked, source.charged_frames()), (1, PAGES));
    // There is an empty page now, and no other one is emptied before that is released.
    let again = pool.reclaim(10, &mut owner).unwrap_err();
    assert_eq!((again.report.pages, owner.asked, frames_in_books(&*pool)), (0, 1, PAGES));
    source.keep_frames(false);
    assert_eq!((pool.reclaim(10, &mut owner).unwrap().pages, owner.asked), (10, 10));
}
