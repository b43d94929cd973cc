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
//! - Two objects a page at most, so memory is never less than half a page an object. Objects of up to half a page (32 chunks) always pair, because any hole beside
//!   one takes any other: 2.0 a page.
//! - Never more than a page an object: a page without object is used before another one is taken, or goes back (a few are kept: see below). So nothing is lost
//!   against keeping objects unpacked, one a page, but the tables: some 50 bytes a page, 1.2 % of 4 KiB.
//! - zsmalloc holds more wherever objects are well below half a page. `zlab analyze` prints, as input / growth of resident memory, with blocks of 4 KiB:
//!
//! | input | codec | zbud | zsmalloc |
//! |---|---|--:|--:|
//! | memory of a Python process (the README's) | lz4 | 1.91 | 3.17 |
//! | the same | zstd | 1.90 | 6.42 |
//! | an executable (`zlab analyze target/release/zlab`), which lz4 halves | lz4 | 1.88 | 1.99 |
//! | the same | zstd | 1.89 | 2.65 |
//! | 32 MiB of `/dev/urandom`: every block is stored as it is | lz4 | 0.97 | 0.96 |
//!
//! It is the right choice when blocks shrink to about half and no more, when a bound known beforehand matters more than bytes, or when memory has to come back at
//! once: a reclaim empties a page by evicting two objects at most, where a frame of zsmalloc may hold a hundred.
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
//! - `reclaim` gives back empty pages first, which costs nobody an object, and then asks the owner for the objects of the page that got its newest buddy longest
//!   ago. Eight pages are tried for each one wanted; a page that somebody reads is left alone. What was not given up stays, in a page that is the youngest then.
//! - If the system does not take frames back, they stay charged, and their pages are the next to be
//!   used.
//! - Entries and slots take some 50 bytes a page, for as many pages as there ever were at once: the
//!   tables do not shrink before the pool is dropped. They are counted in `bytes_held`.
//! - Heap memory is asked for where the pool grows, and for the job. If the heap refuses, the
//!   insert is an error that changes nothing, and a job that could not be made is made by a later
//!   insert.
//!
//! # Concurrency
//!
//! - One lock a pool, held for a few list steps: no copy, no heap call and no call of the page source or of an owner that is asked to evict runs under it (but for one pointer's worth of a growing vector). It is a leaf:
//!   no other lock is taken under it.
//! - Reading takes no lock: one compare-and-exchange pins the slot and tells where the bytes are, one subtraction unpins it.
//!
//! # Features
//!
//! None.
//!
//! # Where to read next
//!
//! The slot's word and its states in `slot`, the lists in `books`, the steps of a reclaim in `reclaim`, who may touch which bytes in `memory` (the one file with `unsafe`). The contract is
//! [`ZPool`](zpool_core::ZPool)'s.

mod books;
mod check;
mod geometry;
#[allow(unsafe_code, reason = "writes, lends and gives back the bytes of pages")]
mod memory;
mod page;
mod pool;
mod reclaim;
mod shared;
mod slot;
mod stats;
mod table;

pub use pool::{Zbud, ZbudDriver};
