//! Media for a tier below memory: a file of this machine, and encryption above any medium.
//!
//! ```text
//!   a store's tier ──► SealedStore, if bytes must not leave memory in the clear
//!                        └──► FileTier, or a backing store of another crate
//! ```
//!
//! Nothing here knows of blocks or keys: a medium keeps the segments that the tier writes.

#[cfg(unix)]
pub(crate) mod file;
#[cfg(unix)]
mod file_io;
pub(crate) mod seal;
pub(crate) mod sealed;
#[cfg(unix)]
mod temporary;
