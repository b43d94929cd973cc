//! Containers for what must go on without a lock, or without the heap. They know nothing of pools.

pub(crate) mod fallible;
#[allow(unsafe_code, reason = "follows a pointer to a chunk that it has made")]
pub(crate) mod grow_only_table;
