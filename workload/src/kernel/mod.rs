//! The kernel's own compressed memory, as a yardstick. Without root, it is left out.

mod swap;
mod zram;
mod zswap;

pub use swap::{KernelSwap, MemoryCgroup};
pub use zram::KernelZram;
pub use zswap::{KernelSwitches, KernelZswap, Skipped};
