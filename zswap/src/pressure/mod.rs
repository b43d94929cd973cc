//! What a store does to stay below its limit: release unused memory, then evict or refuse.

pub(crate) mod evict;
mod release;
