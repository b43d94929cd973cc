//! Reclaim: the page that is emptied, the order of evictions, and the frames that are released.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use zpool_core::page::{
    FaultPlan, FaultySource, HeapSource, ObservedSource, PageSource, SourceCall,
};
use zpool_core::{
    Evict, Handle, HandleId, NotEvicted, PoolConfig, PoolError, ReclaimError, ReclaimReport, ZPool,
    ZPoolDriver,
};
use zpool_zbud::ZbudDriver;

const PAGE: usize = 4096;
const CHUNK: usize = PAGE / 64;

/// An owner of objects that answers as its closure decides, and records the requests.
struct Owner<'a> {
    pool: &'a dyn ZPool,
    handles: Vec<Handle>,
    /// Numbers of the objects, in the order of their inserts.
    asked: Vec<usize>,
    ids: Vec<HandleId>,
}

impl<'a> Owner<'a> {
    fn new(pool: &'a dyn ZPool) -> Owner<'a> {
        Owner { pool, handles: Vec::new(), asked: Vec::new(), ids: Vec::new() }
    }

    /// Inserts an object. Returns its number.
    fn put(&mut self, len: usize) -> usize {
        let handle = self.pool.insert(&vec![self.ids.len() as u8; len]).unwrap();
        self.ids.push(handle.id());
        self.handles.push(handle);
        self.ids.len() - 1
    }

    fn put_many(&mut self, n: usize, len: usize) {
        for _ in 0..n {
            self.put(len);
        }
    }

    fn free(&mut self, number: usize) {
        let at = self
            .handles
            .iter()
            .position(|handle| handle.id() == self.ids[number])
            .expect("it is live");
        self.pool.free(self.handles.swap_remove(at)).unwrap();
    }

    /// Returns the page that an object is in, by its address.
    fn page_of(&self, number: usize) -> usize {
        let handle =
            self.handles.iter().find(|handle| handle.id() == self.ids[number]).expect("it is live");
        self.pool.read(handle).unwrap().as_ptr().addr() / PAGE
    }

    /// Reclaims; `answer` handles the request for an object's number.
    fn reclaim(
        &mut self,
        pages: usize,
        answer: impl FnMut(&mut Owner<'a>, usize) -> Result<(), NotEvicted>,
    ) -> Result<ReclaimReport, ReclaimError> {
        struct Answering<'o, 'a, F>(&'o mut Owner<'a>, F);
        impl<'a, F> Evict for Answering<'_, 'a, F>
        where
            F: FnMut(&mut Owner<'a>, usize) -> Result<(), NotEvicted>,
        {
            fn evict(&mut self, id: HandleId) -> Result<(), NotEvicted> {
                let number =
                    self.0.ids.iter().position(|&other| other == id).expect("an object of ours");
                self.0.asked.push(number);
                (self.1)(self.0, number)
            }
        }
        self.pool.reclaim(pages, &mut Answering(self, answer))
    }
}

fn agree(owner: &mut Owner<'_>, number: usize) -> Result<(), NotEvicted> {
    owner.free(number);
    Ok(())
}

fn refuse(_: &mut Owner<'_>, _: usize) -> Result<(), NotEvicted> {
    Err(NotEvicted)
}

fn pages_of(outcome: Result<ReclaimReport, ReclaimError>) -> usize {
    outcome.unwrap().pages
}

fn stopped_after(outcome: Result<ReclaimReport, ReclaimError>) -> usize {
    let ReclaimError { error, report } = outcome.unwrap_err();
    assert_eq!(error, PoolError::NothingToReclaim);
    report.pages
}

fn pool() -> (Box<dyn ZPool>, Arc<FaultySource>) {
    let source = Arc::new(FaultySource::new(Arc::new(HeapSource::new(PAGE)), FaultPlan::Never));
    (ZbudDriver.create(&PoolConfig::new(source.clone(), PAGE)).unwrap(), source)
}

/// The page whose newest buddy is the oldest is emptied first.
#[test]
fn page_with_oldest_newest_buddy_goes_first() {
    let (pool, _) = pool();
    let mut owner = Owner::new(&*pool);
    // Pages of two: 0 1, 2 3, 4 5, 6 7.
    owner.put_many(8, PAGE / 2);
    // Neither a read nor a free makes a page younger, ...
    owner.page_of(2);
    owner.free(3);
    // ... a new buddy does: 8 goes to page 0, where 1 was. (That hole is smaller than the one of
    // 3.)
    owner.free(1);
    assert_eq!(owner.page_of(0), {
        let new = owner.put(PAGE / 2);
        owner.page_of(new)
    });
    assert_eq!((pages_of(owner.reclaim(1, agree)), &*owner.asked), (1, &[2][..]));
    assert_eq!((pages_of(owner.reclaim(2, agree)), &*owner.asked), (2, &[2, 4, 5, 6, 7][..]));
    // The first buddy, then the last.
    assert_eq!((pages_of(owner.reclaim(1, agree)), &owner.asked[5..]), (1, &[0, 8][..]));
    assert_eq!((stopped_after(owner.reclaim(1, agree)), owner.asked.len()), (0, 7));
    pool.validate().unwrap();
}

/// The report counts the pages whose frames were released.
#[test]
fn report_counts_released_pages() {
    let (pool, source) = pool();
    let mut owner = Owner::new(&*pool);
    owner.put_many(200, PAGE / 2);
    for pages in [1, 2, 30] {
        let before = source.charged_frames();
        assert_eq!(pages_of(owner.reclaim(pages, agree)), pages);
        assert_eq!(source.charged_frames(), before - pages);
    }
    assert_eq!((stopped_after(owner.reclaim(1000, agree)), source.charged_frames()), (67, 0));
    assert_eq!(owner.asked, (0..200).collect::<Vec<_>>());
}

/// Empty pages are released first, and no object is evicted for them.
#[test]
fn empty_pages_go_first_without_eviction() {
    let (pool, source) = pool();
    let mut owner = Owner::new(&*pool);
    owner.put_many(20, PAGE);
    (5..15).for_each(|number| owner.free(number));
    assert_eq!((pages_of(owner.reclaim(4, agree)), &*owner.asked), (4, &[][..]));
    assert_eq!((source.charged_frames(), pool.stats().resident_frames), (16, 16));
    assert_eq!((pages_of(owner.reclaim(8, agree)), &*owner.asked), (8, &[0, 1][..]));
    assert_eq!(source.charged_frames(), 8);
}

/// B41: each try works on a page of its own, and eight are tried for each page wanted.
#[test]
fn b41_eight_pages_are_tried_per_page() {
    let (pool, source) = pool();
    let mut owner = Owner::new(&*pool);
    owner.put_many(40, PAGE / 2);
    // The owner is asked for the first buddy, and not for the last if the first one stays.
    assert_eq!(stopped_after(owner.reclaim(3, refuse)), 0);
    assert_eq!(owner.asked, [0, 2, 4, 6, 8, 10, 12, 14]);
    // Those are the youngest now. The last of the next eight is emptied, and eight more tries
    // follow for the second page.
    owner.asked.clear();
    let late = |owner: &mut Owner<'_>, number| {
        if number >= 30 { agree(owner, number) } else { refuse(owner, number) }
    };
    assert_eq!(pages_of(owner.reclaim(2, late)), 2);
    assert_eq!(owner.asked, [16, 18, 20, 22, 24, 26, 28, 30, 31, 32, 33]);
    assert_eq!(source.charged_frames(), 18);
    pool.validate().unwrap();
}

/// While the owner refuses, no page is tried twice.
#[test]
fn refused_page_is_not_tried_twice() {
    let (pool, _) = pool();
    let mut owner = Owner::new(&*pool);
    owner.put_many(3, PAGE);
    assert_eq!((stopped_after(owner.reclaim(2, refuse)), &*owner.asked), (0, &[0, 1, 2][..]));
}

/// B43: the callback frees the first buddy, and the owner keeps the last one.
#[test]
fn b43_half_emptied_page_stays_in_use() {
    let (pool, source) = pool();
    let mut owner = Owner::new(&*pool);
    owner.put_many(2, PAGE / 2);
    let half =
        |owner: &mut Owner<'_>, number| if number == 0 { agree(owner, 0) } else { Err(NotEvicted) };
    assert_eq!((stopped_after(owner.reclaim(1, half)), &*owner.asked), (0, &[0, 1][..]));
    let page = owner.page_of(1);
    let new = owner.put(PAGE / 2);
    assert_eq!((owner.page_of(new), source.charged_frames()), (page, 1));
    pool.validate().unwrap();
}

/// B43: asked for the first buddy, the owner frees both, or only the last one.
#[test]
fn b43_other_buddy_may_be_freed_first() {
    let (pool, source) = pool();
    let mut owner = Owner::new(&*pool);
    owner.put_many(4, PAGE / 2);
    let both = |owner: &mut Owner<'_>, number| {
        owner.free(number);
        owner.free(number + 1);
        Ok(())
    };
    assert_eq!((pages_of(owner.reclaim(1, both)), &*owner.asked), (1, &[0][..]));
    // The last one is freed and the first one refused: the page stays.
    let other = |owner: &mut Owner<'_>, number| {
        owner.free(number + 1);
        Err(NotEvicted)
    };
    assert_eq!((stopped_after(owner.reclaim(1, other)), &*owner.asked), (0, &[0, 2][..]));
    // Refused, but freed: only the empty page counts.
    let lie = |owner: &mut Owner<'_>, number| {
        owner.free(number);
        Err(NotEvicted)
    };
    assert_eq!((pages_of(owner.reclaim(1, lie)), source.charged_frames()), (1, 0));
    pool.validate().unwrap();
}

/// B43: the page is isolated, so an object that would fit its hole goes elsewhere each time.
#[test]
fn b43_page_being_emptied_takes_no_insert() {
    let (pool, source) = pool();
    let mut owner = Owner::new(&*pool);
    owner.put_many(2, PAGE / 2);
    let page = owner.page_of(0);
    let insert = |owner: &mut Owner<'_>, number| {
        owner.free(number);
        for len in [1, CHUNK, PAGE / 2, PAGE] {
            let new = owner.put(len);
            assert_ne!(owner.page_of(new), page, "{len} bytes");
        }
        Ok(())
    };
    assert_eq!(pages_of(owner.reclaim(1, insert)), 1);
    assert_eq!((pool.stats().objects, pool.stats().resident_frames), (8, source.charged_frames()));
    pool.validate().unwrap();
}

/// A page with a reader is left alone.
#[test]
fn page_with_reader_is_left_alone() {
    let (pool, _) = pool();
    let mut owner = Owner::new(&*pool);
    owner.put_many(4, PAGE / 2);
    let guard = pool.read(&owner.handles[1]).unwrap();
    assert_eq!((pages_of(owner.reclaim(1, agree)), &*owner.asked), (1, &[2, 3][..]));
    assert_eq!(stopped_after(owner.reclaim(1, agree)), 0);
    // So is one with an object that was freed under its guard.
    owner.free(1);
    assert_eq!((stopped_after(owner.reclaim(1, agree)), owner.asked.len()), (0, 2));
    assert_eq!(*guard, [1; PAGE / 2]);
    drop(guard);
    assert_eq!((pages_of(owner.reclaim(1, agree)), &owner.asked[2..]), (1, &[0][..]));
}

/// All frames of a page are released.
#[test]
fn page_of_several_frames_is_released_whole() {
    let source = Arc::new(HeapSource::new(PAGE));
    let mut config = PoolConfig::new(source.clone(), 16 << 10);
    config.params.set("page", "16384");
    let pool = ZbudDriver.create(&config).unwrap();
    let mut owner = Owner::new(&*pool);
    for len in [1, 5000, 16 << 10] {
        owner.put(len);
    }
    assert_eq!(source.charged_frames(), 3 + 4);
    assert_eq!((pages_of(owner.reclaim(1, agree)), &*owner.asked), (1, &[0, 1][..]));
    assert_eq!(source.charged_frames(), 4);
    assert_eq!((pages_of(owner.reclaim(1, agree)), source.charged_frames()), (1, 0));
    pool.validate().unwrap();
}

/// A reclaim runs while an insert has taken its room and calls the page source.
#[test]
fn object_being_inserted_is_not_evicted() {
    let stage: Arc<OnceLock<&'static dyn ZPool>> = Arc::default();
    let (seen, storing) = (stage.clone(), Arc::new(AtomicBool::new(false)));
    let armed = storing.clone();
    let observe = move |call| {
        let SourceCall::Charge(_) = call else { return };
        let Some(pool) = seen.get().filter(|_| armed.load(Ordering::Relaxed)) else { return };
        struct Uncalled;
        impl Evict for Uncalled {
            fn evict(&mut self, id: HandleId) -> Result<(), NotEvicted> {
                panic!("asked for {id:?}, of which there is no handle yet")
            }
        }
        assert_eq!(stopped_after(pool.reclaim(1, &mut Uncalled)), 0);
        pool.validate().unwrap();
    };
    let source = Arc::new(ObservedSource::new(Arc::new(HeapSource::new(PAGE)), observe));
    // The closure needs a pool that outlives the source: the memory of one test is leaked.
    let pool: &'static dyn ZPool =
        Box::leak(ZbudDriver.create(&PoolConfig::new(source.clone(), PAGE)).unwrap());
    stage.set(pool).expect("set once");
    storing.store(true, Ordering::Relaxed);
    let handle = pool.insert(&[7; 3000]).unwrap();
    storing.store(false, Ordering::Relaxed);
    assert_eq!(*pool.read(&handle).unwrap(), [7; 3000]);
    pool.free(handle).unwrap();
    assert_eq!((pool.trim(), source.charged_frames()), (PAGE, 0));
}

/// If the page source panics during a reclaim, only that call fails.
#[test]
fn source_panic_in_reclaim_loses_nothing() {
    let broken = Arc::new(AtomicBool::new(false));
    let breaks = broken.clone();
    let observe = move |call| {
        if let SourceCall::Discard(_) = call {
            assert!(!breaks.load(Ordering::Relaxed), "on purpose");
        }
    };
    let source = Arc::new(ObservedSource::new(Arc::new(HeapSource::new(PAGE)), observe));
    let pool = ZbudDriver.create(&PoolConfig::new(source.clone(), PAGE)).unwrap();
    let mut owner = Owner::new(&*pool);
    owner.put_many(6, PAGE / 2);
    broken.store(true, Ordering::Relaxed);
    assert!(catch_unwind(AssertUnwindSafe(|| owner.reclaim(1, agree))).is_err());
    broken.store(false, Ordering::Relaxed);
    pool.validate().unwrap();
    // Both objects were evicted; their page is an empty one like others.
    assert_eq!((pool.stats().objects, source.charged_frames()), (4, 3));
    assert_eq!((pages_of(owner.reclaim(2, agree)), owner.asked.len()), (2, 4));
    assert_eq!(source.charged_frames(), 1);
}

/// A reclaim in a no-block section is reported as a violation.
#[test]
fn reclaim_in_no_block_section_is_reported() {
    zpool_core::set_check_policy(zpool_core::CheckPolicy::Panic);
    let (pool, _) = pool();
    let mut owner = Owner::new(&*pool);
    owner.put(1);
    let _section = zpool_core::NoBlock::enter();
    assert!(catch_unwind(AssertUnwindSafe(|| owner.reclaim(1, refuse))).is_err());
    assert!(owner.asked.is_empty(), "before anything is done");
}
