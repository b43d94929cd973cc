//! zbud for user space: an allocator for compressed memory pools that keeps at most two objects a page; simple and predictable.
//!
//! ```text
//!        chunks 0                                                     63
//!   page A |##### first buddy #####|        free         |%% last buddy %%|   two objects: on no list
//!   page B |######## first buddy ########|               free             |   unbuddied[free chunks]
//!   page C |                                                              |   empty: kept for the next insert, or given back
//!
//!   beside the pages:   slots     one word an object: generation, pins, state, length
//!                       entries   chunks of both buddies, frames charged, list links      (the kernel has these 64 bytes in the page)
//! ```
//!
//! # The nouns
//!
//! - A *page* is divided into 64 *chunks*, all of them usable: one object may fill a page. A page is a parameter, at least the longest object and at least a frame.
//! - Its two objects are *buddies*: the first one left-justified, the last one right-justified, so that when either goes the hole is as large as can be. An object goes into
//!   the smallest hole that is enough, found in one step by a mask of 64 bits; of equal holes, into the newest.
//! - A *slot* is the half of a page that a handle names: the handle's index is the page's number and the side.
//!
//! # Density
//!
//! Two objects a page at most, so memory is never less than half a page an object; and never more than a page an object, as if nothing had been
//! packed. Objects of up to half a page always pair: 2.0 a page. It is the right choice when blocks shrink to about half, when speed and a bound matter more than bytes, or
//! when whole pages have to be emptied by evicting at most two objects; where blocks shrink to less than half, zsmalloc holds far more.
//!
//! # Example
//!
//! ```
//! use zpool_core::page::default_source;
//! use zpool_core::{PoolConfig, ZPool, ZPoolDriver};
//! use zpool_zbud::ZbudDriver;
//!
//! let pool = ZbudDriver.create(&PoolConfig::new(default_source(), 4096))?;
//! let (long, short) = (pool.insert(&[7; 2500])?, pool.insert(&[9; 1000])?);
//! assert_eq!(pool.stats().resident_frames, 1);
//!
//! let guard = pool.read(&long)?;
//! pool.free(long)?; // at once; the guard keeps the bytes
//! assert_eq!(*guard, [7; 2500]);
//! # drop(guard);
//! # pool.free(short)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Where memory goes
//!
//! - Pages are reserved 64 at a time, as address space, which stays reserved until the pool is dropped. A frame is charged when an object is first written
//!   to it, and uncharged when it has gone back: so a page of several frames costs only those that it needs.
//! - `free` only marks a page as empty. A few empty pages are kept; more than that go back in bulk: by the next inserts, by a job on the pool's executor (if it takes
//!   jobs in no-block sections), or by `trim`, which gives back all of them, and the unused frames of the others.
//! - Entries and slots take some 50 bytes a page, for as many pages as there ever were at once. They are counted in `bytes_held`.
//!
//! # Concurrency
//!
//! - One lock a pool, held for a few list steps: no copy, no heap call and no call of the page source runs under it (but for one pointer's worth of a growing vector). It is a leaf:
//!   no other lock is taken under it.
//! - Reading takes no lock: one compare-and-exchange pins the slot and tells where the bytes are, one subtraction unpins it.
//!
//! # Features
//!
//! None.
//!
//! # Where to read next
//!
//! The slot's word and its states in `slot`, the lists in `books`, who may touch which bytes in `memory` (the one file with `unsafe`). The contract is
//! [`ZPool`](zpool_core::ZPool)'s.

mod books;
mod check;
mod geometry;
#[allow(unsafe_code, reason = "writes, lends and gives back the bytes of pages")]
mod memory;
mod page;
mod pool;
mod shared;
mod slot;
mod stats;
mod table;

pub use pool::{Zbud, ZbudDriver};
