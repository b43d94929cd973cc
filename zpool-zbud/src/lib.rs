//! zbud for user space: an allocator for compressed memory pools that keeps at most two objects per
//! page. It is simple and predictable.
//!
//! ```text
//!        chunks 0                                                63
//!   page A |#### first buddy ####|       free       |%% last buddy %%|   two objects: on no list
//!   page B |####### first buddy #######|             free            |   unbuddied[free chunks]
//!   page C |                                                         |   empty: kept or released
//!
//!   outside the pages:   buddies   one word per object: generation, pins, state, length
//!                        entries   chunks of both buddies, frames charged, list links
//! ```
//!
//! # The nouns
//!
//! - A *page* is divided into 64 *chunks*, all of them usable: one object may fill a page. The page
//!   size is a parameter, at least the longest object and at least a frame.
//! - Its two objects are *buddies*. The first one is left-justified and the last one
//!   right-justified, so that the hole is as large as possible when either is freed. An object goes
//!   into the smallest hole that is large enough, found in one step by a mask of 64 bits. Of equal
//!   holes the newest is used.
//! - A handle names a buddy: its index is the page's number and the side.
//!
//! # Density
//!
//! - There are at most two objects per page. So if a page is one frame, an object never takes less
//!   than half of it. In a page of several frames it takes at least the frames that it lies on.
//! - Objects of up to half a page (32 chunks) always pair, because any hole next to one takes any
//!   other.
//! - An object never takes more than a page: an empty page is used before another one is reserved.
//!   So compared to one object per page, only the tables are lost: some 50 bytes per page.
//! - zsmalloc is denser if objects are well below half a page. `zlab analyze` compares the two on
//!   your own data.
//!
//! zbud is the right choice in three cases:
//!
//! - Blocks shrink to about half and no more.
//! - A bound known beforehand matters more than bytes.
//! - Memory has to come back at once. A reclaim empties a page by evicting at most two objects, and
//!   a frame of zsmalloc may hold a hundred.
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
//! - Pages are reserved 64 at a time, as address space that stays reserved until the pool is
//!   dropped. A frame is charged when an object is first written to it, and uncharged when it is
//!   released. So a page of several frames costs only those that it needs.
//! - `free` only marks a page as empty. A few empty pages are kept. More than that are released in
//!   bulk: by the next inserts, by a job on the pool's executor (if it takes jobs in no-block
//!   sections), or by `trim`. `trim` releases all of them, and the unused frames of the others.
//! - `reclaim` releases empty pages first, which evicts no object. Then it asks the owner for the
//!   objects of the page that got its newest buddy longest ago. It tries eight pages for each one
//!   wanted, and leaves a page with a reader alone. Objects that the owner keeps stay, and their
//!   page becomes the youngest.
//! - Frames that the system does not take back stay charged, and their pages are used next.
//! - Entries and buddies take some 50 bytes per page, for the largest number of pages that the pool
//!   ever had: the tables do not shrink before it is dropped. They are counted in `bytes_held`.
//! - A pool has at most 2^31 - 65,536 pages, because a handle numbers a buddy with 32 bits. An
//!   insert that needs more fails with [`TooManyPages`](zpool_core::PoolError::TooManyPages).
//! - Heap memory is needed when the pool grows, and for the job. If the heap refuses, the insert
//!   fails and changes nothing, and a later insert makes the job.
//!
//! # Concurrency
//!
//! - There is one lock per pool, held for a few list steps, except by `validate`. No copy, heap
//!   call, page source call or eviction runs under it, except that the vector of runs may be
//!   reallocated. With `wipe_on_free`, the freed object is also overwritten under it. It is a leaf:
//!   no other lock is taken under it.
//! - A read takes no lock. One compare-exchange pins the buddy and returns the object's length, and
//!   one subtraction unpins it.
//!
//! # Features
//!
//! None.
//!
//! # Where to read next
//!
//! - `buddy`: the word of a buddy and its states;
//! - `state`: the lists, and all else that the lock protects;
//! - `reclaim`: the steps of a reclaim;
//! - `memory`, the one file with `unsafe`: who may touch which bytes.
//!
//! The contract is that of [`ZPool`](zpool_core::ZPool).

mod buddy;
mod geometry;
#[allow(unsafe_code, reason = "writes, lends and releases the bytes of pages")]
mod memory;
mod page_list;
mod pool_core;
mod reclaim;
mod release_job;
mod state;
mod stats;
mod table;
mod zbud;

pub use zbud::{Zbud, ZbudDriver};
