//! Staying below the limit: release unused memory, then evict or refuse.

mod candidates;
pub(crate) mod evict;
pub(crate) mod release;
mod steps;
pub(crate) mod writeback;
