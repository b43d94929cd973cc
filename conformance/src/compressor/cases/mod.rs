//! The cases, by topic. Each doc comment names the bullets (K1 to K10) of [`zpool_core::compress`]
//! that it checks.
//!
//! Every function takes the maker of the compressor under test. It returns if the compressor keeps
//! its contract, and panics with the deviation otherwise.

#![expect(
    clippy::missing_panics_doc,
    reason = "a case fails by panicking, as stated above for all"
)]

pub mod contents;
pub mod contexts;
pub mod destination;
pub mod facts;
pub mod hostile;
pub mod warm;
