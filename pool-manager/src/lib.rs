//! Makes compressed memory pools, switches between them while data lives in them, and destroys them
//! where blocking is allowed.
//!
//! ```text
//!    registry: zbud zsmalloc ... │ lz4 lzo zstd ...
//!                    │ switch("zsmalloc+zstd")
//!                    ▼
//!   readers ──► [ current ]     retired      retired        dying
//!               zsmalloc+zstd   zbud+lz4     zsmalloc+lz4   zbud+lzo ──► executor ──► destroyed
//!                               412 objects  1 object       0 objects
//! ```
//!
//! # The nouns
//!
//! - A [`Pool`] is an allocator and a compressor with its contexts. A [`PoolRef`] is a counted
//!   reference to one; the owner of an object keeps one with the object's handle, so a pool lives
//!   as long as objects are stored in it.
//! - The *current* pool receives new objects. A switch makes another pool current and *retires* the
//!   previous one. A retired pool lives on until its last object is freed, and is *revived* if a
//!   switch requests its spec before that.
//! - The thread that drops the last reference to a retired pool only hands the pool's preallocated
//!   job to the *executor*. The job destroys the pool, with any objects that are left in it. The
//!   default executor is one thread that all managers of the process share. [`WorkQueue`] is one
//!   that you share between the managers you choose.
//! - A switch, flush or drop runs a job that has not begun instead of waiting for it. So these
//!   calls return whatever the executor does, even in a forked child. If the thread that had begun
//!   a job is gone, the pool is given up and counted by [`pools_leaked`].
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
//! assert!(error.to_string().starts_with("unknown compressor `lz4` (known: none): "));
//! assert!(manager.current().is_none());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The examples `no_block`, `rayon` and `tokio` store, switch and release.
//!
//! # Features
//!
//! - `tracing`: `TracingObserver`, which writes the events of pools to `tracing`. Off by default.
//!
//! # Lock order
//!
//! The switch mutex comes first. All other locks are leaves: those of the pool list, the release
//! gate, the registry and the queues. Constructors of plug-ins run under the switch mutex alone.
//! Destructors run under no lock, except for what a failing constructor destroys itself. Readers
//! and releasers take only leaves.
//!
//! # Where to read next
//!
//! [`PoolManager`], then the modules `switch` and `release` in the source: the two halves of a
//! pool's life. References are counted by `zpool_core::internal::Counted`.

#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod accounting;
mod builder;
mod cold;
mod error;
mod manager;
mod observe;
mod pools;
mod queue;
mod registry;
mod release;
mod shared;
mod stats;
mod switch;

pub use builder::{BuildError, DEFAULT_BLOCK_SIZE, DEFAULT_MAX_PENDING, ManagerBuilder};
pub use error::{RegistryError, SwitchError};
pub use manager::PoolManager;
#[cfg(feature = "tracing")]
pub use observe::TracingObserver;
pub use observe::{PoolEvent, PoolEventKind, PoolObserver};
pub use pools::pool::{Pool, PoolLabel, PoolRef};
pub use queue::{Periodic, QueueStats, WorkQueue};
pub use registry::Registry;
pub use release::pools_leaked;
pub use stats::{ManagerStats, PoolInfo, PoolState};
pub use switch::Switched;
