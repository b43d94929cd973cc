//! The operations of a pool.

pub(crate) mod core;
mod exchange;
#[allow(unsafe_code, reason = "overwrites an object that is gone")]
mod free;
mod free_many;
#[allow(unsafe_code, reason = "writes the bytes of a slot it has claimed")]
mod insert;
#[allow(unsafe_code, reason = "makes a slice of an object it has pinned")]
mod read;
mod stats;
pub(crate) mod survey;
mod validate;
