//! The cases, by topic. Each doc comment names the bullets (W1 to W10) of
//! [`zpool_core::backing::BackingStore`], or the method, that it checks.
//!
//! Every function takes the maker of the backing store under test. It returns if the backing store
//! keeps its contract, and panics with the deviation otherwise.

#![expect(
    clippy::missing_panics_doc,
    reason = "a case fails by panicking, as stated above for all"
)]

pub mod contents;
pub mod misuse;
pub mod threads;
