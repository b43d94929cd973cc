//! The kernel's own compressed memory, as a yardstick. Needs root, and is left out without.

mod zram;
mod zswap;

pub use zram::KernelZram;
pub use zswap::{KernelSwitches, KernelZswap, Skipped};
