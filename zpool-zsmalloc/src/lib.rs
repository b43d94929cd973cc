//! zsmalloc for user space: a compressed memory pool (zswap's zpool) that packs objects by size
//! into runs of page frames, and may move them closer together.
//!
//! ```text
//!   Handle ─► entry: one word of 8 bytes                handle     found and held without a lock
//!               │ zspage, slot, slack | generation, pins
//!               ▼
//!             zspage: base address, class               zspage     read without a lock
//!               │
//!               ▼
//!   frame  |    0      |    1      |    2      | ...               contiguous, front to back
//!   slot   |  0  |  1  |  2  |  3  |  4  |     ...      geometry   objects only: no header
//!
//!   under the lock of the class: a bit per slot, a bit per resident frame, fullness groups  class
//! ```
//!
//! # The nouns
//!
//! - A *size class* is a slot size. A *zspage* is a run of frames cut into slots of one class, up
//!   to [`ClassConfig::DEFAULT_CHAIN`] frames long.
//! - A *frame* is resident (charged to the page source) from the first object that reaches into it
//!   until it is given back. Reserved frames cost nothing.
//! - A *handle* names an entry of the handle table, which says where its object is. So an object
//!   moves by one exchange of that word, and two objects change handles without moving at all.
//!
//! # Example
//!
//! ```
//! use zpool_core::page::default_source;
//! use zpool_core::{CompactionBudget, PoolConfig, ZPoolDriver};
//! use zpool_zsmalloc::ZsmallocDriver;
//!
//! let pool = ZsmallocDriver.create(&PoolConfig::new(default_source(), 4096))?;
//! let mut handles = Vec::new();
//! for len in 1..1000 {
//!     handles.push(pool.insert(&vec![7; len])?);
//! }
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
//! Beyond its payload a pool holds:
//!
//! - rounding to [`ClassConfig::DEFAULT_STEP`], on average half a step per object;
//! - the tails of zspages, and half a frame at the open end of each class;
//! - metadata: 8 bytes per handle, and 1 to 2 bytes per object for its zspage;
//! - metadata of classes: a few hundred bytes per class in use, and 16 bytes per CPU for every
//!   class of the table. The handle table is at most about 1/8 larger than used, once it is large.
//!
//! Two things keep the open ends small. An object whose class would need a new frame takes an open
//! slot of a class up to 1/64 frame larger, until its class wastes 1/16 frame in that way. And
//! compaction empties last frames in the same way. There is no reverse table from objects to
//! handles, which would cost 4 bytes per object: compaction walks the handle table instead.
//!
//! `cargo run --release -p zlab -- density PAGES [--repeat 8] [--allocator 'zsmalloc(chain=16)']`
//! measures bytes held over payload, as the operating system counts them. `zlab classes` prints the
//! geometry with rounding and tails. Decision 0020 has the comparison of chain lengths.
//!
//! # Limits
//!
//! - An entry names a zspage in the bits that slots and lengths leave, which bounds the zspages of
//!   a pool. [`Zsmalloc::max_zspages`] returns the bound. An insert beyond it fails with
//!   [`TooManyPages`](zpool_core::PoolError::TooManyPages), however much memory there is.
//!
//!   | parameters | zspages |
//!   |---|---|
//!   | defaults, frames of 4 KiB | 2^28 - 64, which is 1 TiB of objects of a whole frame |
//!   | objects of up to 64 KiB | 2^25 |
//!   | `chain=1` | 2^24, which is 64 GiB of objects of a whole frame |
//!   | frames of 64 KiB | 2^21 |
//!   | `step=8,chain=1`, frames of 64 KiB, the longest objects | 2^14 |
//! - A pool has at most 2^28 - 64 objects. An insert beyond that fails with
//!   [`OutOfMemory`](zpool_core::PoolError::OutOfMemory).
//! - Any number of guards may hold an object, if there is memory to count those beyond 128.
//! - Compaction never exceeds the frames that it began with by more than 128 KiB or twice the
//!   frames that the longest object may lie in, whichever is larger.
//!
//! # Memory that stays
//!
//! The tables of handles, zspages and classes keep the size they have grown to, because readers use
//! them without a lock. They are reused before they grow, count as metadata, and go with the pool.
//! So a program that gives up most of a large pool for good should move the rest to a new one.
//! Storage of a single class shrinks with `trim`.
//!
//! # When memory runs out
//!
//! - `read` (of an object with up to 128 guards), `free`, `free_many`, `exchange`, `trim` and the
//!   drop of a pool need no heap. A read beyond that fails with
//!   [`TooManyReaders`](zpool_core::PoolError::TooManyReaders) if the heap refuses memory.
//! - An insert whose tables cannot grow fails with
//!   [`OutOfMemory`](zpool_core::PoolError::OutOfMemory) and leaves nothing behind.
//! - Compaction moves fewer objects, or none, if it cannot note what to move. It still releases
//!   empty frames.
//! - The background job is made again later.
//! - Frames that the system does not take back stay resident and charged, and the next objects go
//!   there.
//!
//! # Locks
//!
//! - There is one mutex per class.
//! - The pool's `draining` mutex is held while cached slots return to their classes. It is taken
//!   before class locks.
//! - Leaf locks are held for a few instructions: the free lists of handle entries (another shard's
//!   is only tried), the ids of zspages, the shared pins, and the place and gate of the job.
//! - Two classes are locked at once only by `validate` and `stats`, in order of size. The page
//!   source and the executor are called under no lock.
//! - A read takes no lock while the object has at most 128 guards; beyond that it takes the leaf
//!   lock of the shared pins. An exchange takes none. A read writes to no cache line that readers
//!   on other CPUs write to: see `handle::hazards`.
//! - `free` and the drop of a guard take at most one class lock, and leaf locks one at a time. They
//!   leave the rest to a job, the next insert, or `trim`.
//! - Magazines serve most frees and inserts with one exchange and no lock: see `class::magazines`.
//!
//! # Features
//!
//! None. Parameters are those of [`ZsmallocDriver`].
//!
//! # Where to read next
//!
//! Folders are layers, and a file uses only its own folder and those before it: `collections`,
//! `geometry`, `handle`, `zspage`, `class`, `pool`, `reclaim`.
//!
//! | question | file |
//! |---|---|
//! | how sizes become zspages | `geometry/size_class.rs` |
//! | how a handle's word works | `handle/entry.rs`, then `handle/hazards.rs` |
//! | who may touch which bytes | `zspage/memory.rs` |
//! | what a class lock protects | `class/state.rs` |
//! | the operations | `pool/insert.rs`, `pool/read.rs`, `pool/free.rs` |
//! | when memory is released | `reclaim/policy.rs`, then `reclaim/compact.rs` |
//!
//! The contract is that of [`ZPool`](zpool_core::ZPool).

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
