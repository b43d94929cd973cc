//! Moving entries between pools while everything runs.
//!
//! ```text
//!   background   steps of a drain, on the executor
//!   drain        choose a batch ─► relocate each ─► next batch, until no retired pool has a block
//!   batch        which entries: pinned, with their identities
//!   relocate     one entry in three phases: pin, copy, exchange
//! ```

pub(crate) mod background;
mod batch;
mod drain;
mod relocate;
