//! The operations of a pool, and [`PoolCore`], which they are methods of.

mod core;
mod exchange;
#[allow(unsafe_code, reason = "overwrites an object that is gone")]
mod free;
mod free_many;
mod growth;
#[allow(unsafe_code, reason = "writes the bytes of a slot it has claimed")]
mod insert;
mod job_slot;
#[allow(unsafe_code, reason = "makes a slice of an object it has pinned")]
mod read;
mod stats;
mod survey;
mod validate;

pub(crate) use self::core::PoolCore;
pub(crate) use self::job_slot::JobReason;
