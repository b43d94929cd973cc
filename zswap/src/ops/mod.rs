//! The calls of a store, one file per kind.

pub(crate) mod batch_results;

mod batch;
pub(crate) mod conditional;
mod decode;
mod encode;
pub(crate) mod export;
mod load;
pub(crate) mod pinned;
mod range;
mod sample;
mod scan;
mod store;
