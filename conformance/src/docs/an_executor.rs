//! An executor over foreign threads, which is one method.
//!
//! An [`Executor`](zpool_core::exec::Executor) takes jobs and runs each once. Anything that can run
//! a closure elsewhere can be one:
//!
//! ```
//! use zpool_conformance::executor_suite;
//! use zpool_core::exec::{Executor, Job, Refused};
//!
//! /// Runs each job on a thread of its own.
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
//! The list is empty, because this executor promises neither order nor that submitting is legal in
//! a [no-block section](zpool_core::NoBlock), as starting a thread allocates. zpool-manager puts
//! its own queue in front of such an executor: `WorkQueue::relay`. Its folder `examples` has
//! examples with rayon and tokio, which pass the suite.
//!
//! # What to promise
//!
//! - `no_block`: `submit` neither blocks nor allocates. Jobs are linkable, so a
//!   [`JobList`](zpool_core::internal::JobList) can take them without either.
//! - `ordered`: jobs of one thread run in order, one after the other.
//! - `drain`: it can be waited for and ended, as a
//!   [`DrainExecutor`](zpool_core::exec::DrainExecutor). A wait from inside one of its own jobs is
//!   an error and no deadlock. A job submitted after the end is returned unrun, and a job pending
//!   at the end runs or is returned.
//!
//! [`Manual`](zpool_core::exec::Manual) promises all three without a thread, so read it first.
