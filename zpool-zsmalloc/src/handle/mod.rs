//! From a handle to the place of its object: entries, and what keeps an object in its place.
//!
//! ```text
//!   Handle ─► mint ─► EntryRef ─► HandleEntry: one word per handle          entry, entries
//!                                   │ kept in place by a published hazard   hazards
//!                                   │ or by a pin in the word               entry, shared_pins
//!                                   ▼
//!                                 Location: zspage, slot
//! ```
//!
//! [`Handles`] puts these together. It knows nothing of zspages and classes: a location is a pair
//! of numbers here.

mod entries;
#[allow(unreachable_pub, reason = "the loom models see this module")]
pub mod entry;
mod handles;
#[allow(unreachable_pub, reason = "the loom models see this module")]
pub mod hazards;
#[allow(unreachable_pub, reason = "the loom models see this module")]
pub mod shared_pins;

pub(crate) use self::entry::Location;
pub(crate) use self::handles::{GuardHold, Handles, MovePin, Protection};
