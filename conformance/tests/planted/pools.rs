//! Pools with one bug each: reference pools with one bug or oddity, [`paged`] ones, [`pinned`]
//! ones, and [`renaming`] ones.

mod paged;
#[allow(
    unsafe_code,
    reason = "bugs of guards that show the pool's own bytes cannot be made without"
)]
mod pinned;
mod renaming;

use std::fmt::Debug;
use std::hint::black_box;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use zpool_conformance::ReferencePool;
use zpool_conformance::action::{from_text, run};
use zpool_conformance::pool::cases::random::{LIST, random_actions_agree_with_the_reference};
use zpool_conformance::pool::{POOL_CASES, PoolMaker, PoolModelRunner};
use zpool_core::CreateError;
use zpool_core::internal::sync::Mutex;
use zpool_core::page::{PageSource, default_source};
use zpool_core::{
    Capabilities, FreeError, Handle, HandleMint, PoolError, PoolId, PoolStats, ReadGuard,
    Violation, ZPool, might_block,
};

use zpool_testing::heap::Heap;

use crate::{Failed, Found, failure, try_each};
use paged::Paged;
use pinned::Pinned;
use renaming::Renaming;

const MAX_LEN: usize = 4096;

/// Collects the findings of the suite for all of these pools.
pub(crate) fn found() -> Found {
    let mut found = Found {
        what: "pools",
        bugs: try_each(BUGS, planted_failing),
        oddities: try_each(ODDITIES, planted_failing),
    };
    found.bugs.extend(try_each(paged::BUGS, paged_failing));
    found.oddities.extend(try_each(paged::ODDITIES, paged_failing));
    found.bugs.extend(try_each(pinned::BUGS, pinned_failing));
    found.oddities.extend(try_each(pinned::ODDITIES, pinned_failing));
    found.bugs.extend(try_each(renaming::BUGS, renaming_failing));
    found.oddities.extend(try_each(renaming::ODDITIES, renaming_failing));
    found
}

fn planted_failing(bug: Bug) -> Option<Failed> {
    let make = move |source| Ok(Box::new(Planted::new(bug, source)) as Box<dyn ZPool>);
    let maker = PoolMaker::new(make);
    // Allocations only, because the reference pool frees heap memory in `free`.
    first_failing(&maker.heap_calls(|| Heap::now().allocations), Planted::facts(bug), true)
}

/// The list that the case for random actions prints for a faulty pool can be read back. It fails
/// again on that pool, and passes on the reference.
#[test]
fn printed_list_fails_in_replay() {
    let make = |source| -> Result<_, CreateError> {
        Ok(Box::new(Paged::new(paged::Flaw::ForgetsWhereItMovedAnObject, source)) as Box<dyn ZPool>)
    };
    let case =
        POOL_CASES.iter().find(|case| case.name == "random_actions_agree_with_the_reference");
    let case = case.expect("a case of the suite");
    let failed =
        failure(case.name, || (case.run)(&PoolMaker::new(make))).expect("the bug is caught");
    let (_, list) = failed.why.split_once("that fails:\n").expect("a list at the end");
    let list = from_text(list).expect("a list of actions");
    assert!((2..60).contains(&list.len()), "not shrunk: {list:?}");

    let pool = make(default_source()).expect("a pool");
    assert!(
        catch_unwind(AssertUnwindSafe(|| run(&list, PoolModelRunner::new(&*pool, None))))
            .map_or(true, |run| run.is_err())
    );
    run(&list, PoolModelRunner::new(&ReferencePool::new(MAX_LEN), None))
        .expect("the reference is right");
}

/// The case for random actions, and no other, runs a list from a file.
#[test]
fn suite_runs_list_of_a_file() {
    let right = "insert 100 fill 1\nhold 0\nfree 0\ncompact all\nrelease 0\n";
    let wrong = "insert 2000 fill 1\ntrim\nswallow 3\n";
    for (list, expected) in [(right, None), (wrong, Some("line 3: `swallow 3` is not an action"))] {
        let file = std::env::temp_dir().join(format!("zpool-actions-{}", std::process::id()));
        std::fs::write(&file, list).expect("a file");
        let program = std::env::current_exe().expect("this program");
        let run = Command::new(program)
            .args(["--exact", "pools::random_actions_on_faulty_pool", "--ignored", "--nocapture"])
            .env(LIST, &file)
            .output();
        std::fs::remove_file(&file).expect("it was written");
        let run = run.expect("it runs");
        let told = String::from_utf8_lossy(&run.stderr);
        assert_eq!(run.status.success(), expected.is_none(), "{told}");
        assert!(expected.is_none_or(|expected| told.contains(expected)), "{told}");
    }
}

/// Random actions on a pool with a bug.
#[test]
#[ignore = "run by the test above, with a list of actions: random ones fail"]
fn random_actions_on_faulty_pool() {
    let make = |source| -> Result<_, CreateError> {
        Ok(Box::new(Paged::new(paged::Flaw::ForgetsWhereItMovedAnObject, source)) as Box<dyn ZPool>)
    };
    random_actions_agree_with_the_reference(&PoolMaker::new(make));
}

fn paged_failing(flaw: paged::Flaw) -> Option<Failed> {
    let make = move |source| Ok(Box::new(Paged::new(flaw, source)) as Box<dyn ZPool>);
    first_failing(&PoolMaker::new(make), Paged::facts(flaw), false)
}

fn pinned_failing(flaw: pinned::Flaw) -> Option<Failed> {
    let make = move |source| Ok(Box::new(Pinned::new(flaw, source)?) as Box<dyn ZPool>);
    first_failing(&PoolMaker::new(make), Pinned::facts(flaw), false)
}

fn renaming_failing(flaw: renaming::Flaw) -> Option<Failed> {
    let make = move |source| Ok(Box::new(Renaming::new(flaw, source)) as Box<dyn ZPool>);
    let maker = PoolMaker::new(make);
    // As for the reference pool, which this is made of.
    first_failing(&maker.heap_calls(|| Heap::now().allocations), Renaming::facts(flaw), true)
}

/// Returns the first case that fails for these pools.
fn first_failing(maker: &PoolMaker, capabilities: Capabilities, counts: bool) -> Option<Failed> {
    let mut met = POOL_CASES.iter().filter(|case| case.needs.met_by(capabilities, counts));
    met.find_map(|case| failure(case.name, || (case.run)(maker)))
}

planted! {
    /// The bug or oddity of a [`Planted`] pool.
    enum Bug {
        bugs {
            // Contents.
            ForgetsTheLastByteOfOddPages,
            FlipsABitOfOneReadInAThousand,
            PadsShortObjectsToEightBytes,
            // Errors.
            TakesEmptyObjects,
            TakesObjectsOverTheMaximum,
            SaysStaleForForeign,
            SwallowsForeignHandles,
            FreesTwice,
            ReadsAfterFree,
            // Books.
            LosesFreesOfLongObjects,
            CountsPayloadTwice,
            CountsObjectsOnceTooOften,
            HoldsMoreThanItSays,
            ChargesAFrameAndKeepsIt,
            ChargesAndForgetsWhenRefused,
            LiesAboutTrim,
            // Guards and threads.
            RefusesEverySecondFree,
            LosesOneInAHundredOfMany,
            FreesManyInAVector,
            // Blocking.
            BlocksInFree,
            BlocksInRead,
            AllocatesInFree,
            DiesInSilence,
            // Facts.
            ChangesItsId,
            SaysItReclaims,
            SaysItCompacts,
            FindsItselfBroken,
        }
        oddities {
            Nothing,
            CopiesOnRead,
            ChargesAFrameAnObject,
            TrimsWithEachInsert,
        }
    }
}

use Bug::*;

/// A [`ReferencePool`] with a bug.
pub(crate) struct Planted {
    inner: ManuallyDrop<ReferencePool>,
    bug: Bug,
    source: Arc<dyn PageSource>,
    /// The number of calls of `read`, `id` or whatever the bug counts.
    calls: AtomicU64,
    /// Inserts that the page source refused.
    refused: AtomicU64,
    /// Frames charged by the bugs that charge: one per object.
    charged: Mutex<usize>,
    mint: HandleMint,
}

impl Planted {
    pub(crate) fn new(bug: Bug, source: Arc<dyn PageSource>) -> Planted {
        let inner = ManuallyDrop::new(ReferencePool::new(MAX_LEN + 1));
        let (calls, refused, charged) = (AtomicU64::new(0), AtomicU64::new(0), Mutex::new(0));
        Planted { inner, bug, source, calls, refused, charged, mint: HandleMint::new() }
    }

    pub(crate) fn facts(bug: Bug) -> Capabilities {
        let facts = Capabilities::new(MAX_LEN);
        match bug {
            SaysItReclaims => facts.reclaiming(),
            SaysItCompacts => facts.compacting(),
            _ => facts,
        }
    }

    fn is(&self, bug: Bug) -> bool {
        self.bug == bug
    }

    /// Returns true once in this many calls.
    fn each(&self, n: u64) -> bool {
        self.calls.fetch_add(1, Ordering::Relaxed) % n == n - 1
    }

    fn charges(&self) -> bool {
        let charging = [
            ChargesAFrameAnObject,
            ChargesAFrameAndKeepsIt,
            ChargesAndForgetsWhenRefused,
            HoldsMoreThanItSays,
        ];
        charging.contains(&self.bug)
    }

    /// This bug charges two frames at a time and releases one of them.
    fn charge(&self) -> Result<(), PoolError> {
        self.source.charge(1)?;
        let first = Charged(&*self.source);
        let second = self.source.charge(1);
        if second.is_err() && self.is(ChargesAndForgetsWhenRefused) {
            std::mem::forget(first);
        }
        Ok(second?)
    }

    /// Returns the state after the frames of freed objects were uncharged.
    fn settle(&self) -> PoolStats {
        let mut charged = self.charged.lock();
        let mut stats = self.inner.stats();
        if self.charges() {
            let wanted = stats.objects + stats.zombies;
            let surplus = std::mem::replace(&mut *charged, wanted) - wanted;
            drop(charged);
            self.source.uncharge(surplus);
            stats.resident_frames = wanted;
            stats.fragmentation_bytes = wanted * self.source.frame_size() - stats.payload_bytes;
        }
        stats
    }

    fn insert_in_inner(&self, object: &[u8]) -> Result<Handle, PoolError> {
        match object {
            [most @ .., _] if self.is(ForgetsTheLastByteOfOddPages) && object.len() == 4095 => {
                self.inner.insert(most)
            }
            short if self.is(PadsShortObjectsToEightBytes) && (1..8).contains(&short.len()) => {
                let mut padded = [0; 8];
                padded[..short.len()].copy_from_slice(short);
                self.inner.insert(&padded)
            }
            object => self.inner.insert(object),
        }
    }

    fn read_copy(&self, handle: &Handle) -> Result<ReadGuard<'_>, PoolError> {
        let mut copy = self.inner.read(handle)?.to_vec();
        if self.is(FlipsABitOfOneReadInAThousand) && self.each(1000) {
            copy[0] ^= 0x10;
        }
        Ok(ReadGuard::shared(copy.into()))
    }
}

/// A frame that is released, even if its source panics.
struct Charged<'a>(&'a dyn PageSource);

impl Drop for Charged<'_> {
    fn drop(&mut self) {
        self.0.uncharge(1);
    }
}

impl ZPool for Planted {
    fn id(&self) -> PoolId {
        if self.is(ChangesItsId) && self.each(2) { self.mint.pool_id() } else { self.inner.id() }
    }

    fn capabilities(&self) -> Capabilities {
        Planted::facts(self.bug)
    }

    fn insert(&self, object: &[u8]) -> Result<Handle, PoolError> {
        match object.len() {
            0 if self.is(TakesEmptyObjects) => return self.inner.insert(b"?"),
            len if len > MAX_LEN && !self.is(TakesObjectsOverTheMaximum) => {
                return Err(PoolError::TooLarge { len, max: MAX_LEN });
            }
            _ => {}
        }
        might_block("Planted::insert");
        if self.is(TrimsWithEachInsert) {
            self.inner.trim();
        }
        if !self.charges() || object.is_empty() {
            return self.insert_in_inner(object);
        }
        // Before the lock, because no pool may hold one while the page source works.
        self.charge().inspect_err(|_| {
            self.refused.fetch_add(1, Ordering::Relaxed);
        })?;
        let mut charged = self.charged.lock();
        *charged += 1;
        self.insert_in_inner(object)
    }

    fn read(&self, handle: &Handle) -> Result<ReadGuard<'_>, PoolError> {
        if self.is(BlocksInRead) {
            might_block("Planted::read");
        }
        match self.bug {
            CopiesOnRead | FlipsABitOfOneReadInAThousand => self.read_copy(handle),
            SaysStaleForForeign => self.inner.read(handle).map_err(|_| PoolError::StaleHandle),
            ReadsAfterFree => self.inner.read(handle).or_else(|e| match e {
                PoolError::StaleHandle => Ok(ReadGuard::shared(Arc::from(&b"what was there"[..]))),
                e => Err(e),
            }),
            _ => self.inner.read(handle),
        }
    }

    fn free(&self, handle: Handle) -> Result<(), FreeError> {
        if self.is(BlocksInFree) {
            might_block("Planted::free");
        }
        if self.is(AllocatesInFree) {
            drop(black_box(vec![0_u8; black_box(32)]));
        }
        match self.bug {
            LosesFreesOfLongObjects
                if self.inner.read(&handle).is_ok_and(|object| object.len() > 4000) =>
            {
                return Ok(());
            }
            RefusesEverySecondFree if self.each(2) => {
                // As if the count of its readers were wrong.
                return Err(FreeError::new(PoolError::TooManyReaders, handle));
            }
            _ => {}
        }
        match self.inner.free(handle) {
            Err(e) if self.is(FreesTwice) && *e.error() == PoolError::StaleHandle => Ok(()),
            Err(e) if self.is(SwallowsForeignHandles) => {
                Err(FreeError::new(e.error().clone(), self.mint.mint(0, 0)))
            }
            other => {
                self.settle();
                other
            }
        }
    }

    fn free_many(&self, handles: &mut dyn Iterator<Item = Handle>) -> usize {
        let mut vector = Vec::new();
        let free = |handle| usize::from(self.free(handle).is_err());
        match self.bug {
            LosesOneInAHundredOfMany => handles
                .enumerate()
                .filter(|(at, _)| at % 100 != 99)
                .map(|(_, handle)| free(handle))
                .sum(),
            FreesManyInAVector => {
                vector.extend(handles);
                vector.drain(..).map(free).sum()
            }
            _ => handles.map(free).sum(),
        }
    }

    fn bytes_held(&self) -> usize {
        self.stats().pool_bytes() - if self.is(HoldsMoreThanItSays) { 64 } else { 0 }
    }

    fn stats(&self) -> PoolStats {
        let mut stats = self.settle();
        stats.failed_inserts = self.refused.load(Ordering::Relaxed);
        match self.bug {
            CountsPayloadTwice => stats.payload_bytes *= 2,
            CountsObjectsOnceTooOften => stats.objects += 1,
            _ => {}
        }
        stats
    }

    fn validate(&self) -> Result<(), Violation> {
        if self.is(FindsItselfBroken) && self.inner.stats().objects > 10 {
            return Err(Violation::new("more than ten objects"));
        }
        self.inner.validate()
    }

    fn trim(&self) -> usize {
        self.settle();
        self.inner.trim() + if self.is(LiesAboutTrim) { 4096 } else { 0 }
    }
}

impl Drop for Planted {
    fn drop(&mut self) {
        let kept = usize::from(self.is(ChargesAFrameAndKeepsIt));
        self.source.uncharge(self.charged.lock().saturating_sub(kept));
        let inner = std::mem::replace(&mut self.inner, ManuallyDrop::new(ReferencePool::new(1)));
        let inner = ManuallyDrop::into_inner(inner);
        if self.is(DiesInSilence) {
            // Outside of a section, so that nothing is reported.
            std::thread::scope(|scope| drop(scope.spawn(|| drop(inner))));
        }
    }
}

impl Debug for Planted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Planted({:?})", self.bug)
    }
}
