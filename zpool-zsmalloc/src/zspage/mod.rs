//! Zspages: where they are, whose their frames are, and who may touch their bytes.
//!
//! [`Zspages`] is the table, the page source and the geometry together. The rest of the crate
//! reaches bytes through a [`SlotRef`] only.

#[allow(unsafe_code, reason = "turns a zspage's entry into memory")]
mod memory;
mod table;
#[allow(unsafe_code, reason = "passes duties about whole zspages on to `memory`")]
mod zspages;

pub(crate) use self::memory::{ChargedFrames, OwnedRun, SlotRef};
pub(crate) use self::table::Zspage;
pub(crate) use self::zspages::{NewZspage, Zspages};
