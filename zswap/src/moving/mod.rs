//! Moving entries between pools while everything runs.
//!
//! ```text
//!   background   steps of a drain, on the executor
//!   cold         a clock that moves what has cooled down to a pool of its own, and back
//!   drain        choose a batch ─► relocate each ─► next batch, until no retired pool has a block
//!   batch        which entries: pinned, with their identities
//!   room         copies below the limit
//!   relocate     one entry in three phases: pin, copy, exchange
//! ```

pub(crate) mod background;
mod batch;
pub(crate) mod cold;
mod drain;
mod relocate;
mod room;
