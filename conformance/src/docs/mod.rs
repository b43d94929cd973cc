//! Writing a back end, step by step.
//!
//! - [`a_pool`]: a minimal pool in one short file, and then one that takes frames from a page
//!   source.
//! - [`a_compressor`]: deflate, from a library.
//! - [`an_executor`]: a foreign thread pool.
//! - [`backing_store_suite!`](crate::backing_store_suite) shows a whole backing store.
//!
//! All code shown is compiled, run, and passes its suite. The listings are the files in
//! `tests/tutorial` of this crate and in `examples` of zpool-manager. These modules contain nothing
//! to call.
//!
//! # The steps, for all of them
//!
//! 1. Read the trait. Its numbered bullets are the whole contract: [`ZPool`](zpool_core::ZPool),
//!    [`zpool_core::compress`], [`zpool_core::exec`], [`zpool_core::backing`].
//! 2. Start a crate that depends on `zpool-core`, and for its tests on this one:
//!
//! ```toml
//! [dependencies]
//! zpool-core = "0.1"
//!
//! [dev-dependencies]
//! zpool-conformance = "0.1"
//! ```
//!
//! 3. Write the suite's line in `tests/conformance.rs` before the back end does anything, and run
//!    `cargo test`. A failing case names its bullet.
//! 4. Make the cases pass one after the other. If a list of random actions fails, the shortest one
//!    is printed, with one [`Action`](crate::action::Action) per line. Save it to a file and repeat
//!    it with `ZPOOL_ACTIONS=FILE cargo test random_actions`.
//! 5. Register the driver where pools are made: `Registry::register_allocator` of zpool-manager,
//!    `StoreBuilder::allocator` of zswap. Its name is then valid in a [spec](zpool_core::spec).

pub mod a_compressor;
pub mod a_pool;
pub mod an_executor;
