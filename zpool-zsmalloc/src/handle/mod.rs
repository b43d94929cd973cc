//! From a handle to the place of its object: entries, and what keeps an object in its place.

#[allow(unreachable_pub, reason = "the loom models see this module")]
pub mod entry;
#[allow(unreachable_pub, reason = "the loom models see this module")]
pub mod hazards;
#[allow(unreachable_pub, reason = "the loom models see this module")]
pub mod shared_pins;
pub(crate) mod table;
