//! Measuring: real pages to work on, and repeatable ways to measure.
//!
//! ```text
//!     files ───────┐                                      ┌─► LatencyHistogram  mean, p50, p99
//!                  ├─► Pages ──► the program under test ──┼─► Growth            bytes held
//!     processes ───┘     │       (an allocator, a codec,  ├─► alternate         ratios with ranges
//!                        │        a store)                └─► churn             fill and free
//!                        │                                           │
//!                        └─► Isolated: the same program again,       ▼
//!                            one process per measurement         Report: one JSON object
//! ```
//!
//! # The nouns
//!
//! * [`Pages`] are blocks of one size in one allocation. They come from files ([`read_files`]) or
//!   from the resident anonymous memory of processes ([`sample_process`], [`sample_own_uid`]). This
//!   crate never prints, logs or writes bytes of a process to a file; `Debug` shows counts only.
//! * [`LatencyHistogram`] counts nanoseconds in buckets of fixed number, so that recording neither
//!   allocates nor grows.
//! * [`Growth`] and [`Isolated`] answer how many bytes something costs. The first asks the kernel
//!   to walk the page tables of this process. The second runs each measurement in a process of its
//!   own, so that none inherits another's heap.
//! * [`Objects`] are compressed pages. An [`AllocatorUnderTest`] keeps them, as a pool or as a box
//!   each, and [`density`] is the bytes it holds over the bytes of the objects.
//! * A [`Figure`] is a named value with its range. A [`Report`] is a list of them, printed as JSON.
//!
//! # Example
//!
//! ```
//! use std::num::NonZeroUsize;
//! use workload::{LatencyHistogram, Pages};
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
//! let mut latencies = LatencyHistogram::new();
//! for page in pages.iter() {
//!     latencies.time(|| page.iter().map(|&b| u64::from(b)).sum::<u64>());
//! }
//! assert_eq!(latencies.count(), 1);
//! ```
//!
//! # Rules of measurement that are built in
//!
//! * A sample is short runs of neighbouring blocks, spread over the whole input by a fixed seed
//!   ([`sample_runs`]). Two runs of a program on one file see the same blocks.
//! * Contestants alternate, and the result is the median of the ratios with their range
//!   ([`alternate`]), because a shared machine drifts by more than most differences. If that is not
//!   enough, passes over the same data are cut into parts that alternate ([`interleave`]), and the
//!   thread's own clock counts as well ([`Elapsed`]).
//! * The OS is asked for the bytes held. An allocator's own count is not used.
//!
//! # Features
//!
//! None. Processes and resident bytes are read from `/proc` of Linux. On other systems those calls
//! return an error.
//!
//! # Where to read next
//!
//! The folders are layers, and a folder uses only those before it: `random`, `report`, `timing`,
//! `pages`, `files`, `memory`, `processes`, `density`, `undo`, `kernel`, `terminal`.
//! Start with `pages` and `processes` for the data, with `timing` and `memory` for the method.

#![forbid(unsafe_code)]

mod density;
mod files;
mod kernel;
mod memory;
mod pages;
mod processes;
mod random;
mod report;
mod terminal;
mod timing;
mod undo;

pub use density::{
    AllocatorUnderTest, BoxAllocator, ChurnError, ChurnStage, DENSITY_SEED, Density, DensityError,
    DensityRow, Objects, PoolAllocator, SlotContents, Slots, churn, density,
};
pub use files::{
    FilesError, Input, OutputError, OutputFile, check_input, check_standard_streams, input_path,
    read_files, read_first_blocks,
};
pub use kernel::{KernelSwap, KernelSwitches, KernelZram, KernelZswap, MemoryCgroup, Skipped};
pub use memory::{
    Archive, Growth, Isolated, IsolatedError, ResidentBytes, ResidentError, anonymous_bytes,
    print_result, refuse_huge_pages, resident_bytes,
};
pub use pages::{Pages, SeededBlocks, is_same_filled};
pub use processes::{
    DEFAULT_SAMPLE_BYTES, MAX_SAMPLED_PROCESSES, ProcessError, ProcessSample, SampledProcess,
    own_uid_processes, sample_own_uid, sample_process, sample_processes,
};
pub use random::{RUN_BLOCKS, Rng, Zipf, sample_runs};
pub use report::{Figure, Report, Spread, format_bytes, format_ns};
pub use terminal::{LiveEvent, LiveScreen};
pub use timing::{
    ByClock, Contestant, Elapsed, LatencyHistogram, PartWork, Percentiles, RateOn, Rounds,
    alternate, clocked, clocked_process, interleave, rate, report_scaling, scaling_of,
    scaling_of_the_machine, xorshift,
};
