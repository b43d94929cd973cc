//! Suites that the plug-ins of a compressed memory pool must pass, allocators, compressors and executors, and what they are made of.
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
//! - A *case* is a plain function that returns when the back end behaves and panics with the bullet it broke when it does not.
//! - A *suite* is a macro line that makes a test of each case. Cases that need what the back end cannot do are ignored, visibly.
//! - The *reference* is the simplest back end that keeps the contract: [`ReferencePool`], a map; [`NullDriver`] and [`RleDriver`]; the manual executor of
//!   zpool-core. [`MovingPool`] moves its objects at every chance, so that pins are exercised.
//! - An [`Action`](action::Action) is something done to a pool, with a text form; a failing list is shrunk and printed in that form.
//!
//! # Example
//!
//! A pool of one's own passes all there is with this much in a file under `tests/`:
//!
//! ```
//! use zpool_conformance::{ReferenceDriver, pool_suite};
//! use zpool_core::{PoolConfig, ZPoolDriver};
//!
//! pool_suite!(reference, [], |source| ReferenceDriver.create(&PoolConfig::new(source, 4096)));
//! ```
//!
//! and the same pool can be driven by hand, or by a list somebody else saw fail:
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
//! - The cases set the [check policy](zpool_core::CheckPolicy) to `Panic` for the whole process, so that whatever blocks where it must not is found.
//! - They run in parallel as `cargo test` does, use a page source each, and measure no time. A pool that blocks readers hangs; it does not fail.
//! - That `free` and others make no heap call needs a global allocator that counts, which a library cannot bring: a suite's line takes the counter of the test
//!   program, `heap_calls = closure`, and the case is ignored without. That metadata is right within 5 % (A2) is left to the back end's own tests.
//!
//! # Features
//!
//! None. The crate contains no `unsafe`.
//!
//! # Where to read next
//!
//! [`docs`] for how a back end is written, step by step; [`pool`], [`compressor`] and [`executor`] for the suites and their cases; [`Generator`] for blocks to
//! compress; [`action`] for replay, which `zlab replay FILE` does. That the suites find bugs is shown by `tests/planted`.

#![forbid(unsafe_code)]

pub mod action;
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
