//! A job: a closure in a linkable node, which is allocated when the job is made and freed when it
//! has run.
//!
//! ```text
//!   Job / PreparedJob ──► +--------------------------+  Node<P, F>, #[repr(C)]
//!                         | Header  next  ───────────┼──► the next node of a JobList, or null
//!                         |         vtable ──────────┼──► run, discard: for this P and F
//!                         |         label            |
//!                         |         group            |
//!                         +--------------------------+
//!                         | payload  Option<P>       |  filled by PreparedJob::arm
//!                         | work     F               |
//!                         +--------------------------+
//! ```
//!
//! # Invariants
//!
//! 1. `Job.node` and `PreparedJob.node` point to the header of a live `Node<P, F>` that the value
//!    owns alone. It was made by `Node::allocate` or `Node::try_allocate`, and its `vtable` is that
//!    of the same `P` and `F`.
//! 2. The payload of a node owned by a `Job` is `Some`.

use core::fmt;
use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::ptr::{self, NonNull};
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::internal::{catch, take_panic_message};

pub(crate) struct Header {
    /// Not atomic: only the owner of the node writes it, and a list passes ownership on with its
    /// own orderings.
    pub(super) next: *mut Header,
    vtable: &'static VTable,
    label: &'static str,
    /// See [`Job::with_group`]. 0 is none.
    group: u64,
}

struct VTable {
    /// Moves payload and work out of the node, runs the work, and frees the node, even if the work
    /// panics. Consumes the node.
    run: unsafe fn(NonNull<Header>),
    /// Drops the work and the payload unrun and frees the node. Consumes the node.
    discard: unsafe fn(NonNull<Header>),
}

#[repr(C)]
struct Node<P, F> {
    header: Header,
    payload: Option<P>,
    work: F,
}

impl<P, F: FnOnce(P)> Node<P, F> {
    const VTABLE: VTable = VTable { run: Self::run, discard: Self::discard };

    fn allocate(label: &'static str, payload: Option<P>, work: F) -> NonNull<Header> {
        let header = Header { next: ptr::null_mut(), vtable: &Self::VTABLE, label, group: 0 };
        NonNull::from(Box::leak(Box::new(Node { header, payload, work }))).cast()
    }

    /// Allocates a node as `allocate` does, with the work that `make` builds once there is memory.
    /// Returns `None` if the heap refuses.
    fn try_allocate(
        label: &'static str,
        payload: Option<P>,
        make: impl FnOnce() -> F,
    ) -> Option<NonNull<Header>> {
        let mut nodes = Vec::new();
        nodes.try_reserve_exact(1).ok()?;
        let header = Header { next: ptr::null_mut(), vtable: &Self::VTABLE, label, group: 0 };
        nodes.push(Node { header, payload, work: make() });
        // A slice of one node has the layout of a node, so `run` and `discard` may free it as a
        // box.
        Some(NonNull::from(Box::leak(nodes.into_boxed_slice())).cast())
    }

    /// # Safety
    ///
    /// 1. `node` is the header of a live `Node<P, F>` made by `allocate` or `try_allocate`, owned
    ///    by the caller, who gives it up.
    unsafe fn run(node: NonNull<Header>) {
        // SAFETY: (1), and `Header` is the first field of a #[repr(C)] struct, so the pointers are
        // equal.
        let node = unsafe { Box::from_raw(node.cast::<Self>().as_ptr()) };
        let Node { payload, work, .. } = *node;
        work(payload.expect("only an armed node becomes a job"));
    }

    /// # Safety
    ///
    /// 1. As for `run`.
    unsafe fn discard(node: NonNull<Header>) {
        // SAFETY: as in `run`.
        let node = unsafe { Box::from_raw(node.cast::<Self>().as_ptr()) };
        let Node { payload, work, .. } = *node;
        // Foreign destructors, each in its own catch: two that panic at once would abort the
        // process.
        catch(|| drop(payload));
        catch(|| drop(work));
    }

    /// # Safety
    ///
    /// 1. `node` is the header of a live `Node<P, F>` that the caller owns.
    unsafe fn set_payload(node: NonNull<Header>, payload: P) {
        // SAFETY: (1); there is no other reference to a node that the caller owns.
        let node = unsafe { node.cast::<Self>().as_mut() };
        node.payload = Some(payload);
    }
}

/// Work to run once, on some executor. Handing it over allocates nothing.
///
/// Dropping a job drops its closure unrun. Its captures decide what that means: a pool's own job
/// then destroys the pool, as if it had run.
///
/// A panic of a capture's drop is caught and ignored, so dropping a list of jobs drops all of them.
/// (If two captures of one closure panic, the process aborts, as at any two panics at once.)
#[must_use = "a job that is dropped is not run"]
pub struct Job {
    node: NonNull<Header>,
}

// SAFETY: a job owns its node alone (invariant 1), and `new` and `PreparedJob::new` require `Send`
// of its contents.
unsafe impl Send for Job {}

impl Job {
    /// Makes a job that runs `work`. `label` names it in logs and errors. Allocates once.
    pub fn new(label: &'static str, work: impl FnOnce() + Send + 'static) -> Job {
        Job { node: Node::allocate(label, Some(()), move |()| work()) }
    }

    /// Makes a job as [`new`](Self::new) does, of the work that `make` builds once there is memory.
    /// If the heap refuses, returns `None` without calling `make`.
    pub fn try_new<W: FnOnce() + Send + 'static>(
        label: &'static str,
        make: impl FnOnce() -> W,
    ) -> Option<Job> {
        let work = || {
            let work = make();
            move |()| work()
        };
        Some(Job { node: Node::try_allocate(label, Some(()), work)? })
    }

    /// Returns the label.
    pub fn label(&self) -> &'static str {
        // SAFETY: invariant 1.
        unsafe { self.node.as_ref() }.label
    }

    /// Marks the job as one of `group`, a number chosen by its submitter (default 0: none). A queue
    /// with several owners can then complete the jobs of one of them.
    pub fn with_group(self, group: u64) -> Job {
        let mut node = self.into_node();
        // SAFETY: invariant 1: the node was this job's alone, and is not linked.
        unsafe { node.as_mut() }.group = group;
        Job { node }
    }

    /// Returns the [group](Self::with_group), or 0.
    pub fn group(&self) -> u64 {
        // SAFETY: invariant 1.
        unsafe { self.node.as_ref() }.group
    }

    /// Runs the work on this thread, and catches a panic.
    ///
    /// # Errors
    ///
    /// [`JobPanic`] if the work panicked.
    pub fn run(self) -> Result<(), JobPanic> {
        let label = self.label();
        let node = self.into_node();
        // SAFETY: invariant 1.
        let run = unsafe { node.as_ref() }.vtable.run;
        let _inside = InJob::enter();
        // AssertUnwindSafe: the call consumes the closure's captures, and shared state is kept
        // consistent by its owners.
        catch_unwind(AssertUnwindSafe(|| {
            // SAFETY: `run`(1): invariant 1, and `into_node` gave up this job's ownership.
            unsafe { run(node) }
        }))
        .map_err(|panic| JobPanic { label, message: take_panic_message(panic) })
    }

    pub(super) fn into_node(self) -> NonNull<Header> {
        ManuallyDrop::new(self).node
    }

    /// # Safety
    ///
    /// 1. `node` came from `into_node`, and this is the only `Job` made of it since.
    pub(super) unsafe fn from_node(node: NonNull<Header>) -> Job {
        // Invariants 1 and 2: by (1) they held for the job that `node` came from.
        Job { node }
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        // SAFETY: invariant 1.
        let discard = unsafe { self.node.as_ref() }.vtable.discard;
        // SAFETY: `discard`(1): invariant 1; `self` is not used again.
        unsafe { discard(self.node) }
    }
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Job").field(&self.label()).finish()
    }
}

/// A job made ahead of time that still lacks its payload, such as the destruction of a pool, which
/// is made with the pool.
pub struct PreparedJob<P> {
    node: NonNull<Header>,
    set_payload: unsafe fn(NonNull<Header>, P),
    payload: PhantomData<fn(P)>,
}

// SAFETY: as for Job: sole owner of a node whose contents are Send.
unsafe impl<P: Send> Send for PreparedJob<P> {}
// SAFETY: a shared reference gives no access to the node at all.
unsafe impl<P: Send> Sync for PreparedJob<P> {}

impl<P: Send + 'static> PreparedJob<P> {
    /// Makes a job that will run `work` on a payload supplied later. Allocates once.
    pub fn new<F: FnOnce(P) + Send + 'static>(label: &'static str, work: F) -> PreparedJob<P> {
        let node = Node::<P, F>::allocate(label, None, work);
        PreparedJob { node, set_payload: Node::<P, F>::set_payload, payload: PhantomData }
    }

    /// Supplies the payload. Neither blocks nor allocates.
    pub fn arm(self, payload: P) -> Job {
        let this = ManuallyDrop::new(self);
        // SAFETY: `set_payload`(1): invariant 1, which `new` established with the function of the
        // same `P` and `F`.
        unsafe { (this.set_payload)(this.node, payload) };
        Job { node: this.node }
    }
}

impl<P> Drop for PreparedJob<P> {
    fn drop(&mut self) {
        // SAFETY: invariant 1.
        let discard = unsafe { self.node.as_ref() }.vtable.discard;
        // SAFETY: `discard`(1): invariant 1; `self` is not used again.
        unsafe { discard(self.node) }
    }
}

impl<P> fmt::Debug for PreparedJob<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PreparedJob")
    }
}

/// The error of a job whose work panicked. The panic was caught.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobPanic {
    /// The job's label.
    pub label: &'static str,
    /// The panic's message.
    pub message: String,
}

impl fmt::Display for JobPanic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "job `{}` panicked: {}", self.label, self.message)
    }
}

impl core::error::Error for JobPanic {}

std::thread_local! {
    /// Jobs on this thread's stack.
    static JOBS: core::cell::Cell<u32> = const { core::cell::Cell::new(0) };
}

/// Returns whether this thread is inside a job. Waiting for other jobs could then be waiting for
/// itself.
pub fn in_job() -> bool {
    JOBS.with(core::cell::Cell::get) > 0
}

struct InJob;

impl InJob {
    fn enter() -> InJob {
        JOBS.with(|jobs| jobs.set(jobs.get() + 1));
        InJob
    }
}

impl Drop for InJob {
    fn drop(&mut self) {
        JOBS.with(|jobs| jobs.set(jobs.get() - 1));
    }
}

#[cfg(all(test, not(zpool_loom)))]
mod tests {
    use super::*;
    use std::sync::Arc;

    /// A job runs once and frees what it captured.
    #[test]
    fn job_runs_once_and_frees_captures() {
        let (shared, done) = (Arc::new(()), std::sync::mpsc::channel());
        let held = shared.clone();
        let job = Job::new("count", move || done.0.send(Arc::strong_count(&held)).unwrap());
        job.run().unwrap();
        assert_eq!(done.1.recv().unwrap(), 2);
        assert_eq!(Arc::strong_count(&shared), 1);
    }

    /// A job made by `try_new` runs once or is dropped unrun, and its memory is freed either way.
    #[test]
    fn try_new_runs_once_or_is_dropped() {
        for run in [true, false] {
            let ran = Arc::new(crate::internal::sync::atomic::AtomicU32::new(0));
            let seen = ran.clone();
            let job = Job::try_new("fallible", || {
                move || {
                    seen.fetch_add(1, crate::internal::sync::atomic::Ordering::Relaxed);
                }
            });
            let job = job.expect("memory");
            if run {
                job.run().unwrap()
            } else {
                drop(job)
            }
            assert_eq!(ran.load(crate::internal::sync::atomic::Ordering::Relaxed), u32::from(run));
            assert_eq!(Arc::strong_count(&ran), 1);
        }
    }

    /// A job dropped unrun frees its closure and its payload.
    #[test]
    fn job_dropped_unrun_frees_closure_and_payload() {
        let shared = Arc::new(());
        let held = shared.clone();
        let job = PreparedJob::new("never", move |payload: Arc<()>| drop((payload, held)));
        drop(job.arm(shared.clone()));
        assert_eq!(Arc::strong_count(&shared), 1);
        let held = shared.clone();
        drop(PreparedJob::new("never", move |(): ()| drop(held)));
        assert_eq!(Arc::strong_count(&shared), 1);
    }

    /// Panics with a payload that panics as well when it is dropped.
    struct Bad {
        _shared: Arc<()>,
    }

    impl Drop for Bad {
        fn drop(&mut self) {
            struct Payload;
            impl Drop for Payload {
                fn drop(&mut self) {
                    std::panic::resume_unwind(Box::new("a payload's drop"));
                }
            }
            std::panic::resume_unwind(Box::new(Payload));
        }
    }

    /// A job dropped unrun catches the panics of its payload and of its closure separately.
    #[test]
    fn dropped_job_catches_panics_of_both_parts() {
        let shared = Arc::new(());
        let bad = || Bad { _shared: shared.clone() };
        let armed = || {
            let held = bad();
            PreparedJob::new("armed", move |payload: Bad| drop((payload, held))).arm(bad())
        };
        drop(armed());
        // A vector's drop would abort at the second panic.
        drop((0..3).map(|_| armed()).collect::<Vec<_>>());
        let held = bad();
        drop(PreparedJob::new("unarmed", move |(): ()| drop(held)));
        assert_eq!(Arc::strong_count(&shared), 1);
    }

    /// A job's group is kept in its node.
    #[test]
    fn group_is_kept_in_node() {
        for job in [Job::new("grouped", || ()), Job::try_new("grouped", || || ()).unwrap()] {
            assert_eq!(job.group(), 0);
            assert_eq!(job.with_group(7).group(), 7);
        }
    }

    /// `run` returns a panic with the job's label and the message.
    #[test]
    fn run_returns_panic_with_label_and_message() {
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| {}));
        let panic = Job::new("bad", || panic!("no {}", 7)).run().unwrap_err();
        std::panic::set_hook(hook);
        assert_eq!(panic, JobPanic { label: "bad", message: "no 7".into() });
    }
}
