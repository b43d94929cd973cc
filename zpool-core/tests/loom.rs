//! Models of the protocols in zpool-core, explored by loom: `ci/loom.sh` runs them.
//!
//! loom tries every interleaving of the atomic operations, up to a bound on preemptions, and every
//! value that a load may return. A cell that two threads access without order is an error. The
//! bound is stated at each model.
#![cfg(zpool_loom)]
#![allow(unsafe_code, reason = "reads and writes loom's cell, which is how loom sees them")]

use std::sync::Arc;

use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;
use zpool_core::exec::Job;
use zpool_core::internal::JobList;
use zpool_core::internal::{Counted, Dying, Ref, Released, set_loom_cpu};

/// A value whose use and release loom sees: users read the cell, and the release writes it.
struct Watched {
    bytes: UnsafeCell<u32>,
    released: Arc<AtomicUsize>,
}

// SAFETY: the cell is loom's, which checks at run time what this promises.
unsafe impl Sync for Watched {}

impl Watched {
    fn new(released: &Arc<AtomicUsize>) -> Arc<Counted<Watched>> {
        Counted::new(Watched { bytes: UnsafeCell::new(7), released: released.clone() })
    }

    fn used(&self) {
        // SAFETY: loom checks that no other thread writes meanwhile.
        assert_eq!(self.bytes.with(|bytes| unsafe { *bytes }), 7);
    }
}

impl Released for Watched {
    fn released(dying: Dying<Self>) {
        let value = dying.into_value();
        // SAFETY: loom checks that no other thread reads meanwhile.
        value.bytes.with_mut(|bytes| unsafe { *bytes = 0 });
        value.released.fetch_add(1, Ordering::Relaxed);
    }
}

fn model(preemptions: usize, f: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(f);
}

/// Two references, taken on one processor and dropped on others, during the retirement: the value
/// is released once, after the last use. Preemption bound 3.
#[test]
fn last_reference_against_retirement_releases_once() {
    model(3, || {
        let released = Arc::new(AtomicUsize::new(0));
        let block = Watched::new(&released);
        let (a, b) = (block.try_ref().unwrap(), block.try_ref().unwrap());
        let first = thread::spawn(move || {
            set_loom_cpu(1);
            a.used();
            drop(a);
        });
        let second = thread::spawn(move || {
            b.used();
            drop(b);
        });
        assert!(block.retire());
        first.join().unwrap();
        second.join().unwrap();
        assert_eq!(released.load(Ordering::Relaxed), 1);
        assert!(block.try_ref().is_none());
    });
}

/// A reader with the block but no reference takes one during the retirement: it gets a live value
/// or none. Preemption bound 3.
#[test]
fn reference_during_retirement_is_live_or_refused() {
    model(3, || {
        let released = Arc::new(AtomicUsize::new(0));
        let block = Watched::new(&released);
        let seen = block.clone();
        let reader = thread::spawn(move || {
            set_loom_cpu(1);
            if let Some(reference) = seen.try_ref() {
                reference.used();
                let again = reference.clone();
                drop(reference);
                again.used();
            }
        });
        assert!(block.retire());
        reader.join().unwrap();
        assert_eq!(released.load(Ordering::Relaxed), 1);
    });
}

/// B38: a retired value is revived, or found dead, while its last entry is dropped. It is retired
/// again and released exactly once. Preemption bound 3.
#[test]
fn b38_revival_against_the_last_reference() {
    model(3, || {
        let released = Arc::new(AtomicUsize::new(0));
        let block = Watched::new(&released);
        let entry = block.try_ref().unwrap();
        assert!(block.retire());
        let dropper = thread::spawn(move || {
            set_loom_cpu(1);
            entry.used();
            drop(entry);
        });
        let revived = match block.try_ref() {
            None => false,
            Some(reference) => {
                assert!(Counted::revive(&reference));
                drop(reference);
                true
            }
        };
        dropper.join().unwrap();
        if revived {
            assert_eq!(
                released.load(Ordering::Relaxed),
                0,
                "current, so its identity reference keeps it"
            );
            let later: Ref<Watched> = block.try_ref().unwrap();
            later.used();
            drop(later);
            assert!(block.retire());
        }
        assert_eq!(released.load(Ordering::Relaxed), 1);
        assert_eq!(block.references(), 0);
    });
}

/// Two threads push while a third takes all and then closes: every job runs once or is returned.
/// Preemption bound 3.
#[test]
fn jobs_taken_once_or_given_back() {
    model(3, || {
        let (list, ran) = (Arc::new(JobList::new()), Arc::new(AtomicUsize::new(0)));
        let pushers: Vec<_> = (0..2)
            .map(|_| {
                let (list, ran) = (list.clone(), ran.clone());
                thread::spawn(move || {
                    let mark = ran.clone();
                    let job = Job::new("mark", move || {
                        mark.fetch_add(1, Ordering::Relaxed);
                    });
                    if let Err(job) = list.push(job) {
                        job.run().unwrap();
                    }
                })
            })
            .collect();
        list.take_all().for_each(|job| job.run().unwrap());
        list.close().for_each(|job| job.run().unwrap());
        for pusher in pushers {
            pusher.join().unwrap();
        }
        assert_eq!(ran.load(Ordering::Relaxed), 2);
    });
}

/// A codec frees its contexts when its pool is retired, while threads return theirs: none is left
/// in a cell.
///
/// This models the argument and not the code. A cell is crossbeam's `AtomicCell`, which `TakeCell`
/// replaces by a mutex under loom, and a mutex is stronger than what is to be shown. So plain
/// exchanges stand for it here, Acquire and Release as in the code. No bound.
#[test]
fn exchanges_of_a_cell_order_a_flag() {
    const EMPTY: usize = 0;
    loom::model(|| {
        let slot = Arc::new(AtomicUsize::new(EMPTY));
        let retired = Arc::new(AtomicUsize::new(0));
        let users: Vec<_> = (1..=2)
            .map(|context| {
                let (slot, retired) = (slot.clone(), retired.clone());
                thread::spawn(move || {
                    // A displaced value is dropped by the thread that displaced it.
                    slot.swap(context, Ordering::AcqRel);
                    if retired.load(Ordering::Relaxed) == 1 {
                        slot.swap(EMPTY, Ordering::AcqRel);
                    }
                })
            })
            .collect();
        retired.store(1, Ordering::Relaxed);
        slot.swap(EMPTY, Ordering::AcqRel);
        for user in users {
            user.join().unwrap();
        }
        assert_eq!(slot.load(Ordering::Relaxed), EMPTY);
    });
}
