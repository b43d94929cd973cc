//! Size classes at work: which slots and frames are in use, and where the next object goes.

pub(crate) mod fullness;
#[allow(unreachable_pub, reason = "the loom models see this module")]
pub mod magazines;
pub(crate) mod state;
