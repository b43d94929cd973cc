//! The work of the fuzz targets: from input bytes to checked calls.
//!
//! ```text
//!   bytes ──► actions::decode ──► Actions ──► run on a pool (PoolModelRunner)
//!                                             or a store (StoreModelRunner), against the reference
//!   bytes ──► tier::on_tier   ──► a store whose backing store returns hostile records
//!   bytes ──► decoder::check  ──► a decoder that must survive them, and a round trip
//! ```
//!
//! `PRINT_ACTIONS=1 target INPUT` prints a failing input as a list of actions for `zlab replay`.
//! Such a list is also an input: `target FILE` runs what a suite printed, and a copy in
//! `fuzz/corpus` is a seed.

#![forbid(unsafe_code)]

pub mod actions;
pub mod decoder;
#[path = "../../zlab/src/replay/store.rs"]
pub mod store;
pub mod tier;
