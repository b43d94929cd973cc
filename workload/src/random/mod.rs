//! Random numbers, and what is drawn by them: ranks by Zipf's law, and samples of a large input.

mod rng;
mod sampling;
mod zipf;

pub use rng::Rng;
pub use sampling::{RUN_BLOCKS, sample_runs};
pub use zipf::Zipf;
