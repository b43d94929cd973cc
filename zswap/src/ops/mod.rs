//! The calls of a store, one file per kind.

pub(crate) mod batch_results;

mod batch;
mod decode;
mod encode;
pub(crate) mod export;
mod load;
mod pinned;
mod sample;
mod scan;
mod store;
