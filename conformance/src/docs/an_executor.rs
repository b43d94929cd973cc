//! Somebody else's threads: one method.
//!
//! An [`Executor`](zpool_core::exec::Executor) takes jobs and runs each once. Anything that can run a closure elsewhere is one:
//!
//! ```
//! use zpool_conformance::executor_suite;
//! use zpool_core::exec::{Executor, Job, Refused};
//!
//! /// A thread a job.
//! #[derive(Debug, Default)]
//! pub struct Threads;
//!
//! impl Executor for Threads {
//!     fn submit(&self, job: Job) -> Result<(), Refused> {
//!         std::thread::spawn(move || {
//!             // `run` contains a panic, and says so.
//!             if let Err(panic) = job.run() {
//!                 eprintln!("{panic}");
//!             }
//!         });
//!         Ok(())
//!     }
//! }
//!
//! executor_suite!(threads, [], Threads::default);
//! ```
//!
//! The list is empty: it promises neither order nor that submitting is legal in a [no-block section](zpool_core::NoBlock) (starting a thread allocates). zpool-manager puts its
//! own queue in front of such an executor: `WorkQueue::relay`. Examples with rayon and tokio are in its `examples` folder, and pass the suite.
//!
//! # What to promise
//!
//! - `no_block`: `submit` neither blocks nor allocates. Jobs are linkable, so that a [`JobList`](zpool_core::internal::JobList) takes them without either.
//! - `ordered`: jobs of one thread run in order, one after the other.
//! - `drain`: it can be waited for and ended, [`DrainExecutor`](zpool_core::exec::DrainExecutor). A wait from inside one of its own jobs is an error and no deadlock; a job
//!   that comes after the end is given back, unrun; one that is pending at the end runs, or is given back.
//!
//! [`Manual`](zpool_core::exec::Manual) promises all three and has no thread: the first to read.
