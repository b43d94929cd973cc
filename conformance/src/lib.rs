//! Conformance suites for the plug-ins of a compressed memory pool: allocators, compressors,
//! executors and backing stores.
//!
//! ```text
//!   your tests/conformance.rs            this crate
//!   ┌─────────────────────────┐          ┌──────────────────────────────────────────────────────┐
//!   │ pool_suite!(mine, [],   │ ───────► │ *::cases       one #[test] a case, each names the     │
//!   │   |source| ...);        │          │                bullets of the contract it checks      │
//!   │ compressor_suite!(...); │          │   compares with ReferencePool   the oracle            │
//!   │ executor_suite!(...);   │          │   does random  Action lists     printed when they fail│
//!   └─────────────────────────┘          │ Generator      blocks like those of a live process    │
//!                                        └──────────────────────────────────────────────────────┘
//! ```
//!
//! # The nouns
//!
//! - A *case* is a plain function. It returns if the back end keeps its contract, and panics with
//!   the bullet that it broke otherwise.
//! - A *suite* is one macro line that makes a test of each case. Cases for a capability that the
//!   back end lacks are shown as ignored.
//! - A *reference* is the simplest back end that keeps the contract: [`ReferencePool`], a map;
//!   [`NullDriver`] and [`RleDriver`]; the manual executor of zpool-core. [`MovingPool`] moves its
//!   objects at every opportunity, which exercises pins.
//! - An [`Action`](action::Action) is one operation on a pool, with a text form. A failing list of
//!   actions is shrunk and printed in that form.
//!
//! # Example
//!
//! A pool of your own runs the whole suite with this in a file under `tests/`:
//!
//! ```
//! use zpool_conformance::{ReferenceDriver, pool_suite};
//! use zpool_core::{PoolConfig, ZPoolDriver};
//!
//! pool_suite!(reference, [], |source| ReferenceDriver.create(&PoolConfig::new(source, 4096)));
//! ```
//!
//! The same pool can run a list of actions that a test has printed:
//!
//! ```
//! use zpool_conformance::action::{from_text, run};
//! use zpool_conformance::pool::PoolModelRunner;
//! use zpool_conformance::ReferencePool;
//!
//! let list = from_text("insert 137 fill 5\nhold 0\nfree 0\ncompact all\nrelease 0\n")?;
//! run(&list, PoolModelRunner::new(&ReferencePool::new(4096), None))?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What a suite asks of the process
//!
//! - The cases set the [check policy](zpool_core::CheckPolicy) to `Panic` for the whole process, so
//!   that they find calls that block in a no-block section.
//! - They run in parallel as `cargo test` does, use a page source each, and measure no time. A pool
//!   that blocks readers hangs instead of failing.
//! - The rule that `free` and other calls make no heap call needs a global allocator that counts,
//!   which a library cannot bring. A suite's line takes the counter of the test program,
//!   `heap_calls = closure`, and without one the case is ignored.
//! - No case checks that metadata is right within 5 % (A2): that is left to the allocator's own
//!   tests.
//!
//! # Features
//!
//! None. The crate contains no `unsafe`.
//!
//! # Where to read next
//!
//! [`docs`] explains step by step how to write a back end. [`pool`], [`compressor`], [`executor`]
//! and [`backing`] have the suites and their cases. [`Generator`] makes blocks to compress.
//! [`action`] is for replay, which `zlab replay FILE` does. `tests/planted` shows that the suites
//! find bugs.

#![forbid(unsafe_code)]

pub mod action;
pub mod backing;
pub mod compressor;
pub mod docs;
pub mod executor;
mod generator;
mod heap_calls;
mod iterations;
mod moving;
mod null;
pub mod pool;
mod reference;
mod rle;
mod rng;
mod summary;

pub use generator::{Generator, Kind, MIX};
pub use moving::{MovingDriver, MovingPool};
pub use null::NullDriver;
pub use reference::{ReferenceDriver, ReferencePool};
pub use rle::RleDriver;

/// The program in README.md is a doctest.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
