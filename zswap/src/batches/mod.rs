//! Many blocks with one call, and blocks in their encoded form.

mod batch;
pub(crate) mod batch_results;
pub(crate) mod export;
mod import;
