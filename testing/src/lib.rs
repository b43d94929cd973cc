//! Fakes that the tests of this workspace share.
//!
//! ```text
//!   backing      a backing store in memory, and one that fails when it should
//!   blocks       blocks of bytes that identify themselves
//!   child        runs a test again in a process of its own
//!   heap         a global allocator that counts calls and refuses memory, per thread
//!   executors    executors that refuse, panic, spawn a thread per job, or run a script
//!   codecs       a compressor that copies, and checks of real ones
//!   files        checks that pipes and directories are refused
//!   processors   moves a thread from processor to processor
//!   random       a seeded generator of numbers
//!   system       a system that refuses calls, or keeps memory resident
//! ```
//!
//! Only a dev-dependency: the crate is not published, and nothing published depends on it. A third
//! party that tests a back end of its own uses zpool-conformance instead.
//!
//! # Example
//!
//! ```
//! use zpool_testing::heap::{CountingAllocator, Heap, Refusal, refusing};
//!
//! #[global_allocator]
//! static ALLOCATOR: CountingAllocator = CountingAllocator;
//!
//! let before = Heap::now();
//! drop(std::hint::black_box(vec![0_u8; 100]));
//! assert_eq!(Heap::since(before).calls(), 2);
//!
//! let refused = refusing(Refusal::All, || Vec::<u8>::new().try_reserve(1).is_err());
//! assert!(refused);
//! ```
//!
//! # Where to read next
//!
//! `heap`, which most tests use.

pub mod backing;
pub mod blocks;
pub mod child;
pub mod codecs;
pub mod executors;
#[cfg(unix)]
pub mod files;
#[allow(unsafe_code, reason = "implements a global allocator")]
pub mod heap;
pub mod processors;
pub mod random;
#[cfg(target_os = "linux")]
#[allow(unsafe_code, reason = "system calls")]
pub mod system;
