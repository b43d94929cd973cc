//! Writing a back end, step by step.
//!
//! - [`a_pool`]: the least a pool is, in forty lines, and then one that takes frames from a page source.
//! - [`a_compressor`]: deflate, from a library.
//! - [`an_executor`]: a thread pool of somebody else's.
//!
//! All that is shown is compiled, run, and passes its suite: the listings are the files in `tests/tutorial` of this crate and in `examples` of zpool-manager. There is
//! nothing to call here.
//!
//! # The way, for all three
//!
//! 1. Read the trait. Its bullets are numbered, and are the whole contract: [`ZPool`](zpool_core::ZPool), [`zpool_core::compress`], [`zpool_core::exec`].
//! 2. Start a crate that depends on `zpool-core` alone, and on this one for its tests:
//!
//! ```toml
//! [dependencies]
//! zpool-core = "0.1"
//!
//! [dev-dependencies]
//! zpool-conformance = "0.1"
//! ```
//!
//! 3. Write the suite's line in `tests/conformance.rs` before the back end does anything, and run `cargo test`. A case that fails names the bullet.
//! 4. Make the cases pass one after the other. When a list of random actions fails, the shortest one is printed: each line is an [`Action`](crate::action::Action).
//!    Saved to a file it is done again, alone, by `ZPOOL_ACTIONS=FILE cargo test random_actions`.
//! 5. Register the driver where pools are made: `Registry::register_allocator` of zpool-manager, `StoreBuilder::allocator` of zswap. From there on its name is good in a
//!    [spec](zpool_core::spec).

pub mod a_compressor;
pub mod a_pool;
pub mod an_executor;
