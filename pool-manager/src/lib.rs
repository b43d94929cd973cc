//! Makes compressed memory pools, switches between them while data lives in them, and destroys them
//! where blocking is allowed.
//!
//! ```text
//!    registry: zbud zsmalloc ... │ lz4 lzo zstd ...
//!                    │ switch("zsmalloc+zstd")
//!                    ▼
//!   readers ──► [ current ]     retired      retired        dying
//!               zsmalloc+zstd   zbud+lz4     zsmalloc+lz4   zbud+lzo ──► executor ──► destroyed
//!                               412 entries  1 entry        0 entries
//! ```
//!
//! # The nouns
//!
//! - A [`Pool`] is an allocator and a compressor with its contexts. A [`PoolRef`] is a counted
//!   reference to one; the owner of an object keeps one with the object's handle, so a pool lives
//!   as long as anything is stored in it.
//! - The *current* pool is where new objects go. A switch makes another one current and *retires*
//!   the old: it lives on until its last object goes, and is *revived* when a switch asks for the
//!   same spec before that.
//! - When the last reference of a retired pool goes, the thread that drops it only hands the pool's
//!   own, preallocated job to the *executor*; the job destroys the pool, with the objects that
//!   their owner left in it. The default executor is one thread that all managers of the process
//!   share. See [`WorkQueue`] for one of your own, shared by those you choose.
//! - A switch, flush or drop that would wait for a job runs it itself, if it has not begun. So
//!   these end whatever the executor does, in a forked child as well. If the thread that had begun
//!   a job is gone, that pool is given up and counted: [`pools_leaked`].
//! - The compression contexts of all pools together can be
//!   [bounded](PoolManager::set_max_context_bytes).
//!
//! # Example
//!
//! ```
//! use std::sync::Arc;
//! use zpool_conformance::ReferenceDriver;
//! use zpool_manager::{PoolManager, Registry};
//!
//! let registry = Arc::new(Registry::new());
//! registry.register_allocator(Arc::new(ReferenceDriver))?;
//! let manager = PoolManager::builder(registry).build_idle()?;
//!
//! // There is no compressor yet: the error says what is missing, and what there is.
//! let error = manager.switch(&"reference+lz4".parse()?).unwrap_err();
//! assert_eq!(error.to_string(), "unknown compressor `lz4` (known: none)");
//! assert!(manager.current().is_none());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The examples `no_block`, `rayon` and `tokio` store, switch and release.
//!
//! # Features
//!
//! - `tracing`: `TracingObserver`, which writes what happens to pools as tracing events. Off by
//!   default.
//!
//! # Lock order
//!
//! The switchers' mutex first; below it the hub's list, gate and executor locks, the registry's
//! tables and a queue's lists, each a leaf. Plug-ins' constructors run under the switchers' mutex
//! alone, destructors under none, but for what a constructor that fails destroys itself. Readers
//! and releasers take at most leaves.
//!
//! # Where to read next
//!
//! [`PoolManager`], then the modules `switch` and `release` in the source: the two halves of a
//! pool's life. The reference count is [`zpool_core::internal::Counted`].

#![forbid(unsafe_code)]

mod books;
mod contexts;
mod current;
mod doomed;
mod error;
mod gateway;
mod hub;
mod manager;
mod observe;
mod pending;
mod pool;
mod pool_list;
mod queue;
mod registry;
mod release;
mod stats;
mod switch;
mod walk;

pub use error::{RegistryError, SwitchError};
pub use manager::{
    BuildError, DEFAULT_BLOCK_LEN, DEFAULT_MAX_PENDING, ManagerBuilder, PoolManager,
};
#[cfg(feature = "tracing")]
pub use observe::TracingObserver;
pub use observe::{PoolEvent, PoolEventKind, PoolObserver};
pub use pool::{Pool, PoolLabel, PoolRef};
pub use queue::{Periodic, QueueStats, WorkQueue};
pub use registry::Registry;
pub use release::pools_leaked;
pub use stats::{ManagerStats, PoolInfo, PoolState};
pub use switch::Switched;
