//! Memory goes back: compaction, release, and when the pool does either by itself.

pub(crate) mod background;
pub(crate) mod compact;
mod merge;
mod plan;
#[allow(unsafe_code, reason = "promises that nothing refers to frames that go back")]
mod release;
#[allow(unsafe_code, reason = "copies an object it has pinned into a slot it has claimed")]
mod relocate;
