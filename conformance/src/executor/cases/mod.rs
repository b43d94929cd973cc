//! The cases, by topic. Each doc comment names the bullets (X1 to X5) of [`zpool_core::exec`], or
//! the method, that it checks.
//!
//! Every function takes the maker of the executor under test. It returns if the executor keeps its
//! contract, and panics with the deviation otherwise.

#![expect(
    clippy::missing_panics_doc,
    reason = "a case fails by panicking, as stated above for all"
)]

pub mod drain;
pub mod jobs;
pub mod shutdown;
pub mod submit;
