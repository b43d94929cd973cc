//! Runs an unmodified program with its large anonymous memory in a compressed region.
//!
//! ```text
//!   zrun --limit 512MiB -- PROGRAM ARGS...
//!      │ can this process serve faults of the kernel? is the library there?
//!      ▼
//!   exec PROGRAM, with LD_PRELOAD=libzrun_preload.so and the settings in its environment
//! ```
//!
//! # The nouns
//!
//! - A [`Launch`] is the settings of a program to be started.
//! - The *library* is what the program preloads. Package `zrun-preload` builds it.
//!
//! # Example
//!
//! ```no_run
//! use zrun::Launch;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let launch = Launch::new(512 << 20).checked()?;
//! let status = launch.command("sort", ["-S", "2G", "file"])?.status()?;
//! # Ok(())
//! # }
//! ```
//!
//! # Where to read next
//!
//! `launch.rs`; the essay of `zrun-preload` for what happens in the program; docs/regions.md.

#![forbid(unsafe_code)]

mod launch;
mod size;

pub use launch::{Launch, LaunchError};
pub use size::parse_size;
