//! Clocks, latencies, and comparisons that a machine's drift does not spoil.

mod alternate;
mod clock;
mod interleave;
mod latency_histogram;
mod scaling;

pub use alternate::{ByClock, Contestant, Rounds, alternate};
pub use clock::{Elapsed, clocked, clocked_process};
pub use interleave::{PartWork, interleave};
pub use latency_histogram::{LatencyHistogram, Percentiles};
pub use scaling::{RateOn, rate, report_scaling, scaling_of, scaling_of_the_machine, xorshift};
