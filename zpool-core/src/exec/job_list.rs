//! The list that executors keep jobs in: any thread pushes with one exchange, and one thread takes
//! all.
//!
//! ```text
//!   head ──► newest ──► ... ──► oldest ──► null        open
//!   head ──► CLOSED                                   closed: every push returns its job
//! ```
//!
//! Push links a node in front by compare-exchange; `take_all` takes the whole chain out by
//! compare-exchange and reverses it. ABA is harmless: neither `push` nor `take_all` reads anything
//! behind `head` before its exchange succeeds, so a new node at an old address is as good as the
//! old one.
//!
//! # Invariants
//!
//! 1. Every node reachable from `head` came from `Job::into_node` and belongs to the list.
//! 2. Once `head` is CLOSED it stays so.

use core::fmt;
use core::ptr::{self, NonNull};

use super::job::{Header, Job};
use crate::internal::sync::atomic::{AtomicPtr, Ordering};

/// A lock-free list of jobs. First in, first out, per pushing thread and between pushes that do not
/// overlap.
pub struct JobList {
    head: AtomicPtr<Header>,
}

/// Returns the pointer of a closed list, which no node has. Never dereferenced.
fn closed() -> *mut Header {
    ptr::without_provenance_mut(1)
}

impl JobList {
    /// Makes an empty, open list.
    pub fn new() -> JobList {
        JobList { head: AtomicPtr::new(ptr::null_mut()) }
    }

    /// Appends `job`. Returns whether the list was empty, that is, whether its consumer may be
    /// asleep. Neither blocks nor allocates.
    ///
    /// # Errors
    ///
    /// Returns the job if the list is [closed](Self::close).
    pub fn push(&self, job: Job) -> Result<bool, Job> {
        let node = job.into_node();
        // Relaxed: a first guess, which the exchange checks.
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            if head == closed() {
                // SAFETY: `from_node`(1): it came from `into_node` above and was not linked.
                return Err(unsafe { Job::from_node(node) });
            }
            // SAFETY: the node is ours until the exchange succeeds, so no other thread reads
            // `next`.
            unsafe { (*node.as_ptr()).next = head };
            // Release: publishes the node and its link to the exchange in `take_all` and `close`.
            // Relaxed on failure: a new guess.
            match self.head.compare_exchange_weak(
                head,
                node.as_ptr(),
                Ordering::Release,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Ok(head.is_null()),
                Err(seen) => head = seen,
            }
        }
    }

    /// Takes all jobs, oldest first.
    pub fn take_all(&self) -> Jobs {
        // Relaxed: a first guess, which the exchange checks.
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            if head.is_null() || head == closed() {
                return Jobs::none();
            }
            // Acquire: pairs with the Release of every push in the chain, since the exchange of
            // each later push continues the release sequence.
            match self.head.compare_exchange_weak(
                head,
                ptr::null_mut(),
                Ordering::Acquire,
                Ordering::Relaxed,
            ) {
                Ok(chain) => return Jobs::from_newest(chain),
                Err(seen) => head = seen,
            }
        }
    }

    /// Closes the list for ever and takes its jobs. Every later push returns its job.
    pub fn close(&self) -> Jobs {
        // Acquire: as in `take_all`.
        let chain = self.head.swap(closed(), Ordering::Acquire);
        if chain == closed() { Jobs::none() } else { Jobs::from_newest(chain) }
    }

    /// Returns whether there is no job now. Another thread may push one at any moment.
    pub fn is_empty(&self) -> bool {
        // Relaxed: a hint; a caller that acts on it takes or pushes.
        let head = self.head.load(Ordering::Relaxed);
        head.is_null() || head == closed()
    }

    /// Returns whether the list is closed.
    pub fn is_closed(&self) -> bool {
        // Relaxed: a hint; a push checks for itself.
        self.head.load(Ordering::Relaxed) == closed()
    }
}

impl Default for JobList {
    fn default() -> Self {
        JobList::new()
    }
}

impl Drop for JobList {
    fn drop(&mut self) {
        drop(self.close());
    }
}

impl fmt::Debug for JobList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobList")
            .field("empty", &self.is_empty())
            .field("closed", &self.is_closed())
            .finish()
    }
}

/// Jobs taken out of a [`JobList`], oldest first. Its drop drops the remaining jobs unrun.
pub struct Jobs {
    /// The oldest node, linked to younger ones: a chain of `into_node` nodes that this value owns
    /// alone.
    next: *mut Header,
}

// SAFETY: the chain is owned alone, and jobs are Send.
unsafe impl Send for Jobs {}

impl Jobs {
    /// Returns an empty sequence.
    pub const fn none() -> Jobs {
        Jobs { next: ptr::null_mut() }
    }

    /// Returns whether no job is left.
    pub fn is_empty(&self) -> bool {
        self.next.is_null()
    }

    /// Reverses a chain that begins with its newest node.
    fn from_newest(mut chain: *mut Header) -> Jobs {
        let mut oldest = ptr::null_mut();
        while let Some(node) = NonNull::new(chain) {
            // SAFETY: invariant 1 of the list, whose chain the caller took out whole, so no other
            // thread can reach it.
            let header = unsafe { &mut *node.as_ptr() };
            chain = core::mem::replace(&mut header.next, oldest);
            oldest = node.as_ptr();
        }
        Jobs { next: oldest }
    }
}

impl Iterator for Jobs {
    type Item = Job;

    fn next(&mut self) -> Option<Job> {
        let node = NonNull::new(self.next)?;
        // SAFETY: the chain is ours.
        self.next = unsafe { core::mem::replace(&mut (*node.as_ptr()).next, ptr::null_mut()) };
        // SAFETY: `from_node`(1): pushed by way of `into_node`, and unlinked just now.
        Some(unsafe { Job::from_node(node) })
    }
}

impl Drop for Jobs {
    fn drop(&mut self) {
        // Drops all: a job's drop catches the panics of its captures.
        self.for_each(drop);
    }
}

impl fmt::Debug for Jobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jobs").field("empty", &self.next.is_null()).finish()
    }
}

#[cfg(all(test, not(zpool_loom)))]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    /// Jobs come out in order, and `push` reports whether the list was empty.
    #[test]
    fn jobs_come_out_in_order_and_push_reports_empty() {
        let (list, seen) = (JobList::new(), Arc::new(Mutex::new(Vec::new())));
        for i in 0..5 {
            let seen = seen.clone();
            let was_empty =
                list.push(Job::new("nth", move || seen.lock().unwrap().push(i))).unwrap();
            assert_eq!(was_empty, i == 0);
        }
        list.take_all().for_each(|job| job.run().unwrap());
        assert_eq!(*seen.lock().unwrap(), [0, 1, 2, 3, 4]);
        assert!(list.is_empty());
    }

    /// A closed list returns pushed jobs and drops none.
    #[test]
    fn closed_list_returns_jobs_and_drops_none() {
        let list = JobList::new();
        list.push(Job::new("pending", || {})).unwrap();
        assert_eq!(list.close().map(|j| j.label()).collect::<Vec<_>>(), ["pending"]);
        assert_eq!(list.push(Job::new("late", || {})).unwrap_err().label(), "late");
        assert!(
            list.is_closed() && list.take_all().next().is_none() && list.close().next().is_none()
        );
    }

    /// Dropping the list frees its jobs.
    #[test]
    fn dropped_list_frees_its_jobs() {
        let (list, shared) = (JobList::new(), Arc::new(()));
        for _ in 0..3 {
            let held = shared.clone();
            list.push(Job::new("held", move || drop(held))).unwrap();
        }
        drop(list);
        assert_eq!(Arc::strong_count(&shared), 1);
    }

    /// A job whose captures panic when dropped keeps no other job from being dropped.
    #[test]
    fn dropped_list_drops_jobs_behind_a_panic() {
        struct Bad;
        impl Drop for Bad {
            fn drop(&mut self) {
                std::panic::resume_unwind(Box::new("dropped"));
            }
        }
        let (list, shared) = (JobList::new(), Arc::new(()));
        for n in 0..6 {
            let (bad, held) = ((n % 2 == 0).then(|| Bad), shared.clone());
            list.push(Job::new("held", move || drop((bad, held)))).unwrap();
        }
        drop(list);
        assert_eq!(Arc::strong_count(&shared), 1);
    }

    /// Jobs that many threads push are each taken once, in each thread's order.
    #[test]
    fn concurrent_pushes_are_each_taken_once() {
        let (list, seen) = (Arc::new(JobList::new()), Arc::new(Mutex::new(Vec::new())));
        std::thread::scope(|s| {
            for t in 0..3 {
                let (list, seen) = (&list, &seen);
                s.spawn(move || {
                    for i in 0..500 {
                        let seen = seen.clone();
                        list.push(Job::new("mark", move || seen.lock().unwrap().push((t, i))))
                            .unwrap();
                    }
                });
            }
            while seen.lock().unwrap().len() < 1500 {
                list.take_all().for_each(|job| job.run().unwrap());
            }
        });
        for t in 0..3 {
            let mine: Vec<_> =
                seen.lock().unwrap().iter().filter(|m| m.0 == t).map(|m| m.1).collect();
            assert_eq!(mine, (0..500).collect::<Vec<_>>(), "in the order thread {t} pushed them");
        }
    }
}
