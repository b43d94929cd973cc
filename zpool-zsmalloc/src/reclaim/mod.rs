//! Releases memory: compaction, release of empty frames, and the background work that does either.
//!
//! | file | purpose |
//! |---|---|
//! | `policy` | decides: pure functions, without a clock |
//! | `background` | the job that carries decisions out |
//! | `compact` | one compaction: plan, find the handles, move, release |
//! | `plan`, `relocate`, `merge` | which objects move, the move of one, and moves between classes |
//! | `release` | releases empty zspages and empty frames to the page source |
//!
//! These files pin objects through `Handles` and claim slots through `Classes`. They cannot reach a
//! bitmap.

mod background;
mod compact;
mod merge;
mod plan;
mod policy;
mod reclaimer;
#[allow(unsafe_code, reason = "promises that nothing refers to frames that are released")]
mod release;
#[allow(unsafe_code, reason = "copies an object it has pinned into a slot it has claimed")]
mod relocate;

pub(crate) use self::reclaimer::Reclaimer;
