//! The calls of a store, one file per kind.

pub(crate) mod batch_results;

mod batch;
pub(crate) mod export;
mod load;
mod scan;
mod store;
