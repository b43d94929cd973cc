//! The cases, by topic. Each doc comment names the bullets (X1 to X5) of [`zpool_core::exec`] that it checks, or the method whose doc it holds to its word.
//!
//! Every function here takes the maker of the executor under test, returns when it behaves, and panics with what was wrong when it does not.

#![expect(
    clippy::missing_panics_doc,
    reason = "to panic is how a case fails: said above, once for all"
)]

pub mod drain;
pub mod jobs;
pub mod shutdown;
pub mod submit;
