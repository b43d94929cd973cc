//! zsmalloc for user space: a compressed memory pool (zswap's zpool) that packs objects by size into runs of page frames, and may move them closer together.
//!
//! ```text
//!   Handle ─► slot word of 8 bytes                handles, slot, readers     found and kept in place without a lock
//!               │ zspage, object, slack | generation, pins
//!               ▼
//!             zspage entry: base, class                    zspages           read without a lock
//!               │
//!               ▼
//!   frame  |    0      |    1      |    2      | ... |     memory            contiguous, filled from the front
//!   slot   |  0  |  1  |  2  |  3  |  4  |     ...         shape, class      objects only: no header, no free list
//!
//!   under the lock of the class: a bit a slot, a bit a resident frame, fullness groups      class_state, fullness
//! ```
//!
//! # The nouns
//!
//! - A *size class* is a slot size; a *zspage* is a run of frames cut into slots of one class, up to [`ClassConfig::DEFAULT_CHAIN`] frames long.
//! - A *frame* is resident (charged to the page source) from the first object that reaches into it until it is given back. What is reserved costs nothing.
//! - A *handle* names a slot of the handle table, which says where its object is; so an object moves by one exchange of that word, and objects that
//!   are replaced under handles that stay do not move at all.
//!
//! # Example
//!
//! ```
//! use zpool_core::page::default_source;
//! use zpool_core::{CompactionBudget, PoolConfig, ZPoolDriver};
//! use zpool_zsmalloc::ZsmallocDriver;
//!
//! let pool = ZsmallocDriver.create(&PoolConfig::new(default_source(), 4096))?;
//! let handles: Vec<_> = (1..1000).map(|len| pool.insert(&vec![7; len])).collect::<Result<_, _>>()?;
//! for handle in handles.into_iter().step_by(2) {
//!     pool.free(handle)?;
//! }
//! let report = pool.compact(CompactionBudget::UNLIMITED);
//! assert!(report.freed_bytes > 0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Density
//!
//! What a pool holds beyond its payload: rounding to [`ClassConfig::DEFAULT_STEP`] (on average half
//! of it an object), the tails of zspages (0.1 %), the open end of each class (half a frame), and
//! metadata: 8 bytes a handle, 1 to 2 bytes an object for its zspage, about 220 a class in use, and
//! 16 a processor for every class of the table. The handle table is on average 1/16 larger than
//! used. Two things keep the open ends small: an object whose class would need a new frame takes an
//! open slot of a class up to 1/64 frame larger, until its class owes 1/16 frame
//! ([`insert`](ZsmallocDriver)); and compaction empties last frames in the same way. There is no
//! reverse table from objects to handles (4 bytes an object): compaction walks the handle table
//! instead.
//!
//! Bytes held over payload with lz4, on pages of a Python process, once (16 MiB of payload) and eight times (132 MiB), by the longest chain:
//!
//! | chain | fill | churn | compacted | fill, large | churn, large | compacted, large |
//! |---|---|---|---|---|---|---|
//! | 16 | 1.031 | 1.035 | 1.052 | 1.020 | 1.022 | 1.033 |
//! | 32 | 1.029 | 1.032 | 1.047 | 1.016 | 1.023 | 1.026 |
//! | 64 | 1.027 | 1.033-1.040 | 1.041-1.047 | 1.015 | 1.016-1.021 | 1.024 |
//!
//! `cargo run --release -p zlab -- density PAGES [--repeat 8] [--allocator 'zsmalloc(chain=16)']` measures that, from
//! what the operating system says. `zlab classes` prints the geometry: rounding and tail together are 2.0 % in the mean over all lengths up to 4096 bytes (less
//! on real ones, which are longer), and at most 2.9 % from 512 bytes up.
//!
//! # Limits
//!
//! - A handle's entry names a zspage in the bits that slots and lengths leave, so a pool has only
//!   so many zspages. With the defaults and frames of 4 KiB these are 2^28 - 64, which is 1 TiB of
//!   objects of a whole frame, one a zspage. With `chain=1` they are 2^24, or 64 GiB of such
//!   objects; with objects of up to 64 KiB they are 2^25, and with frames of 64 KiB 2^21. The
//!   fewest, 2^14, have `step=8,chain=1`, frames of 64 KiB and the longest objects.
//!   [`Zsmalloc::max_zspages`] says how many. An insert beyond that fails with
//!   [`TooManyPages`](zpool_core::PoolError::TooManyPages), however much memory there is.
//! - A pool has at most 2^28 - 64 objects. An insert beyond that fails with
//!   [`OutOfMemory`](zpool_core::PoolError::OutOfMemory).
//! - Any number of guards may hold an object: see `overflow`.
//! - Compaction holds at most 128 KiB of frames more than it began with, or twice what the longest
//!   object may lie in.
//!
//! # Memory that stays
//!
//! The tables of handles, zspages and classes keep what they have grown to, since readers look into
//! them without a lock. They are used again before they grow, count as metadata, and go with the
//! pool. So a program that gives up most of a large pool for good should move what is left to a new
//! one. What belongs to one class shrinks with `trim`.
//!
//! # When memory ends
//!
//! `read`, `free`, `free_many`, `exchange`, `trim` and the drop of a pool need no heap. An insert
//! whose tables cannot grow fails with [`OutOfMemory`](zpool_core::PoolError::OutOfMemory) and
//! leaves nothing behind. Compaction moves less, or nothing, where it cannot note what to move, and
//! gives back all the same. The background job is made again later. Frames that the system does not
//! take back stay resident and charged, and the next objects go there.
//!
//! # Locks
//!
//! One mutex a class, and leaf locks that are held for a few instructions: free lists of handle slots (another shard's is only tried), ids of zspages, the job's place
//! and gate.
//! No two classes are locked at once, but by `validate`, in order of size. The page source and the executor are called under none of them.
//! A read or an exchange takes no lock, and a read writes to no cache line that readers on other processors write to: see `readers`, and `slot` for its atomics. `free`, and the
//! drop of a guard, take one class lock and a leaf lock at most, and leave the rest to a job, the next insert, or `trim`. Each class keeps a few spare slots a processor, which frees leave and inserts take by one exchange and no lock: see `spares`.
//!
//! # Features and where to read next
//!
//! No features: parameters are those of [`ZsmallocDriver`]. Read `class` for the geometry, `slot` and `readers` for handles and pins, `class_state` for what
//! the class lock protects, then `insert`, `read`, `free`, and `compact`. The contract is that of [`ZPool`](zpool_core::ZPool).

mod class;
mod collections;
mod driver;
mod geometry;
mod handle;
mod pool;
mod reclaim;
mod zsmalloc;
mod zspage;

#[cfg(zpool_loom)]
#[doc(hidden)]
pub mod models {
    //! The protocols that the loom models explore.
    pub use crate::class::magazines::*;
    pub use crate::handle::entry::*;
    pub use crate::handle::hazards::*;
    pub use crate::handle::shared_pins::*;
}

pub use driver::ZsmallocDriver;
pub use geometry::size_class::{ClassConfig, ClassIndex, ClassTable, MAX_OBJECT_LEN, SizeClass};
pub use zsmalloc::Zsmalloc;
