//! Entries: a key with its stamp, and what a stamp says.

pub(crate) mod options;
pub(crate) mod stamp;
pub(crate) mod stamped;
