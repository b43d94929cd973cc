//! The cases, by topic. Each doc comment names the bullets of [`ZPool`](zpool_core::ZPool)'s
//! contract that it checks.
//!
//! Every function takes the maker of the pool under test. It returns if the pool keeps its
//! contract, and panics with the deviation otherwise.

#![expect(
    clippy::missing_panics_doc,
    reason = "a case fails by panicking, as stated above for all"
)]

pub mod accounts;
pub mod bulk;
pub mod calling_out;
pub mod compaction;
pub mod contents;
pub mod errors;
pub mod eviction;
pub mod exchange;
pub mod guards;
pub mod memory;
pub mod noblock;
pub mod random;
pub mod reclaim;
pub mod threads;
