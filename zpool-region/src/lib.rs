//! Memory larger than RAM: a `&mut [u8]` of any length whose cold pages lie compressed in a store.
//!
//! ```text
//!     program:  region[at] = 7          ┌────────────── limit ──────────────┐
//!        │ page is there: no cost       │ resident pages  +  store's bytes  │
//!        ▼                              └───────────────────────────────────┘
//!   ┌─ region ───────────────────┐   fault: load, UFFDIO_COPY   ┌─ store ──────────────┐
//!   │ here │ stored │ here │ ... │ ◄─────────────────────────── │ unit ─► block, lz4   │
//!   └────────────────────────────┘ ───────────────────────────► └──────────────────────┘
//!                                reclaim: UFFDIO_MOVE, store
//! ```
//!
//! # The nouns
//!
//! - A [`Region`] is a slice of bytes. Structures in it need no change: whatever works on a slice
//!   is compressed without knowing.
//! - A *unit* is a page of the operating system, the piece that comes and goes.
//! - A *fault* is an access to a unit that is not resident. It is served by a *handler thread*, or
//!   in [signal mode](RegionBuilder::fault_in_signal_handler) by the thread itself.
//! - *Reclaim* puts cold units away when resident pages and the store's bytes exceed the *limit*.
//! - A *clean copy* is the block of a resident unit that stays in the store. If the unit is equal
//!   to it when it goes again, nothing is compressed.
//! - *Readahead* brings in up to 16 units at once, while faults follow each other.
//!
//! # Example
//!
//! ```
//! use zpool_region::{Region, RegionError};
//!
//! # fn main() -> Result<(), RegionError> {
//! let built = Region::builder().len(64 << 20).limit_bytes(16 << 20).build();
//! let mut region = match built {
//!     Err(error) if error.is_unsupported() => return Ok(println!("skipped: {error}")),
//!     built => built?,
//! };
//! for (at, page) in region.chunks_mut(4096).enumerate() {
//!     page.fill(at as u8);
//! }
//! assert!(region.chunks(4096).enumerate().all(|(at, page)| page[17] == at as u8));
//! let stats = region.stats();
//! assert!(stats.resident_bytes + stats.store_bytes < 32 << 20);
//! # Ok(())
//! # }
//! ```
//!
//! # What soundness rests on
//!
//! `&mut [u8]` in safe Rust allows no surprise. These statements are each answered by a test, which
//! has the number.
//!
//! - **S1 Contents are exact.** What is read is what was last written, whatever reclaim, readahead,
//!   prefetch and switches do meanwhile, and however many threads access a unit at once. A page is
//!   put away by `UFFDIO_MOVE` only. Then a thread that writes to it faults, and a device that
//!   writes to it has a pin that makes the move fail. (Write protection, a copy and
//!   `MADV_DONTNEED` would lose what a device writes.)
//! - **S2 No unit has two owners.** A unit that is being filled or put away belongs to the thread
//!   whose compare-exchange of its state byte made it so. See the drawing in `state.rs`.
//! - **S3 No stale block.** A block in the store that is not compared with the page at its eviction
//!   is invalidated before the unit becomes evictable.
//! - **S4 No accidental zeros.** The descriptor is private and close-on-exec, and it is closed
//!   after the region is unmapped. A forked child does not have the memory (`MADV_DONTFORK`). There
//!   are no huge pages (`MADV_NOHUGEPAGE`).
//! - **S5 No lost bytes.** If the store refuses a unit, its page moves back. If a block cannot be
//!   read, accesses raise `SIGBUS` (`UFFDIO_POISON`), which is counted.
//! - **S6 Progress.** Serving a fault touches no memory of a region and, once warm, makes no heap
//!   call, except where a table of the store's allocator has to grow. It waits only for owners,
//!   which never wait for a fault. A handler never unwinds: a panic would be a bug of this crate,
//!   and ends the process, because a dead handler would hang every accessor.
//! - **S7 The drop has no access in flight**, because it needs the region to itself.
//! - **S8 Locked memory is refused, or stays.** A program that locks all future memory cannot build
//!   a region. Parts that are locked later are not put away. (`mlock` of a part that is not
//!   resident may fail: hold it first.)
//! - **S9 Nothing of it is in a core dump**, neither the region nor its store.
//!
//! # What is not allowed
//!
//! - A `GlobalAlloc` over a region: serving a fault may need the heap before everything is warm.
//! - A plug-in of the region's own store that touches the region.
//! - With unsafe code: unmapping, protecting or advising the region's memory (`munmap`, `mprotect`,
//!   `madvise`), or an access after the drop.
//!
//! # System calls
//!
//! A system call that meets a missing page is served where the process may handle faults of the
//! kernel ([`Region::serves_kernel_faults`]). Elsewhere it fails with `EFAULT`, or ends early:
//! [hold](Region::hold) the part first. Buffers registered with io_uring, and those of `O_DIRECT`,
//! stay resident as long as they are in use.
//!
//! # Limit
//!
//! Before it reclaims, each handler thread may exceed the limit by 16 faults of up to 16 units
//! each. In signal mode, each faulting thread may exceed it by one window. What is held, pinned or
//! does not compress exceeds it for longer: [`RegionStats::over_limit_bytes`]. Reclaim leaves 64
//! units resident, whatever the limit is. The store never evicts.
//!
//! # Features
//!
//! - `zbud`, `pagelz`, `zstd`: passed on to zswap. zsmalloc and lz4 are always there.
//!
//! # Where to read next
//!
//! [`Region`] and [`RegionBuilder`]; the example `sort_join`. In the source, `state.rs` has the
//! states, `fault.rs` brings units in, `reclaim.rs` puts them away, and `residents.rs` decides
//! which one goes. docs/decisions/0043 has the reasons.

// With loom there is only the state byte, in a test of its own.
#![cfg(all(target_os = "linux", not(zpool_loom)))]

#[allow(unsafe_code, reason = "lends buffers of a mapping")]
mod buffers;
#[allow(unsafe_code, reason = "starts signal mode, and offers it")]
mod builder;
mod chunked_queue;
mod control;
#[allow(unsafe_code, reason = "changes the table of descriptors of a thread")]
mod descriptors;
#[allow(unsafe_code, reason = "discards pages of units that it owns")]
mod discard;
#[allow(unsafe_code, reason = "registers the region")]
mod engine;
mod error;
#[allow(unsafe_code, reason = "fills pages of units that it owns")]
mod fault;
mod fingerprint;
#[allow(unsafe_code, reason = "adopts a mapping in a forked child")]
mod fork;
mod handler;
mod held;
#[allow(unsafe_code, reason = "maps memory and lends it")]
mod mapping;
mod readahead;
#[allow(unsafe_code, reason = "moves pages of units that it owns")]
mod reclaim;
#[allow(unsafe_code, reason = "lends the region as a slice")]
mod region;
#[allow(unsafe_code, reason = "opens and closes parts of a mapping")]
mod reserve;
mod residents;
#[allow(unsafe_code, reason = "a signal handler has no safe interface")]
mod signal;
mod state;
mod stats;
#[allow(unsafe_code, reason = "the ioctls of userfaultfd")]
mod uffd;

pub use builder::RegionBuilder;
pub use control::RegionControl;
#[cfg(feature = "testing")]
#[doc(hidden)]
pub use engine::PlantedBug;
pub use error::RegionError;
pub use held::{Held, HeldMut};
pub use region::{FaultMode, Region};
pub use reserve::RegionReserve;
pub use stats::RegionStats;
pub use zswap::PoolSpec;

/// The program in README.md runs as a doctest.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
