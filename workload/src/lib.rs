//! What the programs of this workspace measure with: real pages to work on, and ways to measure that can be repeated.
//!
//! ```text
//!     files ───────┐                                       ┌─► Latencies     mean, p50, p99, p999, max
//!                  ├─► Pages ──► the program under test ───┼─► Growth        bytes the OS counts
//!     processes ───┘     │       (an allocator, a codec,   ├─► alternate     ratios with their range
//!                        │        a store)                 └─► churn         fill, replace, free half
//!                        │                                            │
//!                        └─► Isolated: the same program again,        ▼
//!                            one process a measurement            Report: one JSON object
//! ```
//!
//! # The nouns
//!
//! * [`Pages`] are blocks of one size, owned, in one allocation. They come from files ([`read_files`]) or from the resident
//!   anonymous memory of processes ([`sample_process`], [`sample_own_uid`]). Bytes of a process are never printed, logged
//!   or written to a file by this crate: the `Debug` forms show counts only.
//! * [`Latencies`] is a histogram of nanoseconds of fixed size, so that recording neither allocates nor grows.
//! * [`Growth`] and [`Isolated`] answer "how many bytes did that cost": the first asks the kernel to walk this process'
//!   page tables, the second gives each measurement a process of its own, so that none inherits another's heap.
//! * [`Objects`] are pages compressed; a [`Keeper`] is an allocator that keeps them: a pool, or a box each; [`density`] is what that holds.
//! * A [`Figure`] is a named value with its range; a [`Report`] is a list of them, printed as JSON.
//!
//! # Example
//!
//! ```
//! use std::num::NonZeroUsize;
//! use workload::{Latencies, Pages};
//!
//! let block = NonZeroUsize::new(4096).unwrap();
//! let mut bytes = vec![0_u8; 4096];                        // same-filled
//! bytes.extend((0..4096_u32).map(|i| (i % 251) as u8));    // not
//! let pages = Pages::from_bytes(block, bytes);
//! assert_eq!(pages.len(), 2);
//!
//! let pages = pages.without_same_filled();
//! assert_eq!(pages.len(), 1);
//!
//! let mut latencies = Latencies::new();
//! for page in pages.iter() {
//!     latencies.time(|| page.iter().map(|&b| u64::from(b)).sum::<u64>());
//! }
//! assert_eq!(latencies.count(), 1);
//! ```
//!
//! # Rules of measurement that are built in
//!
//! * A sample is runs of neighbouring blocks spread over the whole input, chosen by a fixed seed ([`spread_runs`]): two
//!   runs of a program on the same file see the same blocks.
//! * What is compared is measured in alternating order and reported as the median of the ratios with their range
//!   ([`alternate`]), because a shared machine drifts by more than most differences.
//!   Where even that is not enough, passes over the same data are cut into parts that take turns ([`interleave`]), and
//!   timed by the thread's own clock as well ([`Elapsed`]).
//! * Bytes held are asked of the OS, not summed up from what an allocator believes.
//!
//! # Features
//!
//! None. Processes and resident bytes are read from Linux' `/proc`; elsewhere those calls return an error.
//!
//! # Where to read next
//!
//! Each file may use only what is listed above it: `units`, `rng`, `zipf`, `spread`, `pages`,
//! `variants`, `input`, `files`, `first_blocks`, `regions`, `presence`, `target`, `process`,
//! `resident`, `archive`, `isolated`, `percentile`, `figure`, `alternate`, `clock`, `interleave`,
//! `scaling`, `churn`, `objects`, `keeper`, `density`, `output_file`, `undo`, `kernel`, `zram`.
//! Start with `pages` and `process` for the data, with `alternate` and `resident` for the method.

#![forbid(unsafe_code)]

mod alternate;
mod archive;
mod churn;
mod clock;
mod density;
mod figure;
mod files;
mod first_blocks;
mod input;
mod interleave;
mod isolated;
mod keeper;
mod kernel;
mod objects;
mod output_file;
mod pages;
mod percentile;
mod presence;
mod process;
mod regions;
mod resident;
mod rng;
mod scaling;
mod spread;
mod target;
mod undo;
mod units;
mod variants;
mod zipf;
mod zram;

pub use alternate::{ByClock, Contestant, Rounds, alternate};
pub use archive::Archive;
pub use churn::{ChurnError, Contents, Slots, Stage, churn};
pub use clock::{Elapsed, clocked, clocked_process};
pub use density::{DENSITY_SEED, Density, DensityError, DensityRow, density};
pub use figure::{Figure, Report, Spread};
pub use files::read_files;
pub use first_blocks::read_first_blocks;
pub use input::{FilesError, Input, check_input, input_path};
pub use interleave::{PartWork, interleave};
pub use isolated::{Isolated, IsolatedError, answer};
pub use keeper::{BoxKeeper, Keeper, PoolKeeper};
pub use kernel::{KernelSwitches, KernelZswap, Skipped};
pub use objects::Objects;
pub use output_file::{OutputError, OutputFile, check_standard_streams};
pub use pages::{Pages, is_same_filled};
pub use percentile::{Latencies, Summary};
pub use process::{
    DEFAULT_SAMPLE_BYTES, MAX_SAMPLED_PROCESSES, Sample, SampledProcess, own_uid_processes,
    sample_own_uid, sample_process, sample_processes,
};
pub use resident::{
    Growth, Resident, ResidentError, anonymous_bytes, refuse_huge_pages, resident_bytes,
};
pub use rng::Rng;
pub use scaling::{RateOn, rate, report_scaling, scaling_of, scaling_of_the_machine, xorshift};
pub use spread::{RUN_BLOCKS, spread_runs};
pub use target::ProcessError;
pub use units::{format_bytes, format_ns};
pub use variants::Variants;
pub use zipf::Zipf;
pub use zram::KernelZram;
