//! Containers that work without a lock or without the heap. They know nothing of pools.

pub(crate) mod fallible;
#[allow(unsafe_code, reason = "follows a pointer to a chunk that it has made")]
pub(crate) mod grow_only_table;
#[cfg(all(test, not(zpool_loom)))]
pub(crate) mod walk_counter;
