//! The calls of a store, one file per kind, in the order in which rustdoc shows them.

mod store;

mod load;

mod range;

mod remove;

pub(crate) mod conditional;

mod sweep;

mod scan;

mod sample;

mod sample_cold;

pub(crate) mod ticket;

// Shared by these.
pub(crate) mod backed;
pub(crate) mod decode;
pub(crate) mod encode;
pub(crate) mod pinned;
pub(crate) mod stored_if;
