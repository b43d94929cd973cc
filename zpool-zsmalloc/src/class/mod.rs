//! Size classes at work: which slots and frames are in use, and where the next object goes.
//!
//! [`Classes`] is the one way in. `locked` runs a closure under the lock of one class, and what the
//! closure may do is [`ClassState`]'s public part: bitmaps and links stay inside this folder.

mod classes;
mod counts;
mod fullness;
#[allow(unreachable_pub, reason = "the loom models see this module")]
pub mod magazines;
mod overflow;
mod pressure;
mod state;
mod transit;
mod validate;

pub(crate) use self::classes::{Class, Classes};
pub(crate) use self::counts::ClassCounts;
pub(crate) use self::pressure::Figures;
pub(crate) use self::state::{ClaimedSlot, ClassState, MemberStorage, PartialZspage, Shortage};
