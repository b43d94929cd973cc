//! Pools, and the list of those that are not destroyed.
//!
//! ```text
//!   current    the pointer that readers follow      table      slots, spec chains, bytes
//!   pool       allocator, codec, prepared jobs      pool_list  both, locked together
//! ```

pub(crate) mod current;
pub(crate) mod pool;
pub(crate) mod pool_list;
pub(crate) mod table;
