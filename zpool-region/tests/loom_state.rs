//! S2, S3: models of the state byte, in every order of a fault, an eviction and a second access.
//!
//! Run by `ci/loom.sh`. The rest of the crate is system calls, which loom cannot model, so this
//! program has the module by itself.

#![cfg(zpool_loom)]
#![allow(unsafe_code, reason = "the cells that stand for memory")]

#[allow(dead_code, reason = "a part of a crate")]
#[path = "../src/state.rs"]
mod state;

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use loom::thread;

use state::{UnitState, UnitStates};

/// A unit with its page and its block. Cells stand for memory that only the owner touches.
struct UnitModel {
    states: UnitStates,
    /// The number in the page, if there is a page.
    page: UnsafeCell<Option<u32>>,
    /// The number in the block, if there is a block; 0 is none. The store has its own locks, so
    /// this is an atomic.
    block: AtomicU32,
    wakes: AtomicU32,
}

impl UnitModel {
    fn new(block: u32) -> UnitModel {
        let states = UnitStates::new(1, UnitState::Empty);
        assert!(states.claim(0, UnitState::Empty, UnitState::Loading));
        assert!(!states.settle(0, UnitState::Stored));
        UnitModel {
            states,
            page: UnsafeCell::new(None),
            block: AtomicU32::new(block),
            wakes: AtomicU32::new(0),
        }
    }

    fn settle(&self, to: UnitState) {
        if self.states.settle(0, to) {
            self.wakes.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Fills the page, and invalidates the block before or after the unit becomes evictable.
    fn fault(&self, late: bool) -> bool {
        if !self.states.claim(0, UnitState::Stored, UnitState::Loading) {
            return false;
        }
        let block = self.block.load(Ordering::Relaxed);
        // SAFETY: the owner alone touches the page.
        self.page.with_mut(|page| unsafe { *page = Some(block) });
        if !late {
            self.block.store(0, Ordering::Relaxed);
        }
        self.settle(UnitState::Resident);
        if late {
            self.block.store(0, Ordering::Relaxed);
        }
        true
    }

    /// Puts the page away, with what was written to it since.
    fn evict(&self) -> bool {
        if !self.states.claim(0, UnitState::Resident, UnitState::Evicting) {
            return false;
        }
        // SAFETY: the owner alone touches the page.
        let page = self.page.with_mut(|page| unsafe { (*page).take() });
        self.block.store(page.expect("a unit that is here has its page") + 1, Ordering::Relaxed);
        self.settle(UnitState::Stored);
        true
    }
}

/// Faults and evictions of two threads: one owner at a time, and no number is lost.
fn fault_and_evict(late: bool) {
    loom::model(move || {
        let model = Arc::new(UnitModel::new(1));
        let other = model.clone();
        let evictor = thread::spawn(move || u32::from(other.evict()));
        let mut faults = u32::from(model.fault(late));
        let evictions = evictor.join().unwrap();
        if model.states.get(0) == UnitState::Stored {
            faults += u32::from(model.fault(late));
        }
        assert!(faults >= 1);
        // SAFETY: the other thread has ended.
        let page = model.page.with(|page| unsafe { *page });
        assert_eq!(page, Some(1 + evictions), "each eviction adds one to what was there");
    });
}

#[test]
fn loom_fault_and_evict() {
    fault_and_evict(false);
}

/// The planted bug of this crate is found by the model.
#[test]
#[should_panic = "each eviction adds one"]
fn loom_late_invalidate_is_found() {
    fault_and_evict(true);
}

/// A thread that asked the owner for a wake gets one; one that did not ask finds the unit settled.
#[test]
fn loom_no_lost_wake() {
    loom::model(|| {
        let model = Arc::new(UnitModel::new(1));
        let asked = Arc::new(AtomicBool::new(false));
        let (other, other_asked) = (model.clone(), asked.clone());
        let waiter = thread::spawn(move || {
            if other.states.ask_for_wake(0) {
                other_asked.store(true, Ordering::Relaxed);
            }
        });
        assert!(model.fault(false));
        waiter.join().unwrap();
        let wakes = model.wakes.load(Ordering::Relaxed);
        assert_eq!(wakes, u32::from(asked.load(Ordering::Relaxed)));
        // No settled state keeps the bit, so the unit can be claimed.
        assert!(model.evict());
    });
}

/// Two threads that fault at once: one fills, and the other asks for a wake or sees the page.
#[test]
fn loom_two_faults() {
    loom::model(|| {
        let model = Arc::new(UnitModel::new(7));
        let other = model.clone();
        let second = thread::spawn(move || other.fault(false));
        let first = model.fault(false);
        let second = second.join().unwrap();
        assert!(first ^ second, "one of them is the owner");
        assert_eq!(model.states.get(0), UnitState::Resident);
        // SAFETY: the other thread has ended.
        assert_eq!(model.page.with(|page| unsafe { *page }), Some(7));
    });
}
