//! What the fuzz targets do with the bytes they are given.
//!
//! ```text
//!   bytes ──► actions::decode ──► Actions ──► run on a pool (PoolModelRunner) or a store (StoreModelRunner), compared with the reference
//!   bytes ──► decoder::check  ──► a decoder that must not mind them, and a round trip
//! ```
//!
//! An input that fails is a list of actions, too: `PRINT_ACTIONS=1 target INPUT` prints it, and `zlab replay` takes it. And the other way round: a list in text form is an
//! input, so `target FILE` does what a suite printed, and a copy in `fuzz/corpus` is a seed.

#![forbid(unsafe_code)]

pub mod actions;
pub mod decoder;
#[path = "../../zlab/src/replay/store.rs"]
pub mod store;
