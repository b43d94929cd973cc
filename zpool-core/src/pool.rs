//! The contract of an allocator, [`ZPool`], and of its driver, [`ZPoolDriver`].

use core::fmt::Debug;
use std::sync::Arc;

use crate::capabilities::Capabilities;
use crate::compaction::{CompactionBudget, CompactionReport, Evict, ReclaimError, ReclaimReport};
use crate::error::{CreateError, FreeError, PoolError, Violation};
use crate::exec::Executor;
use crate::guard::ReadGuard;
use crate::handle::{Handle, PoolId};
use crate::page::PageSource;
use crate::spec::Params;
use crate::stats::PoolStats;

/// A pool of immutable objects of any length up to a maximum, packed into pages.
///
/// All methods take `&self`, and any number of threads may call them at once. "May block" is meant
/// as in [`NoBlock`](crate::NoBlock): a call into the operating system for memory is blocking, a
/// bounded wait for a lock of the pool's own is not.
///
/// # Dropping a pool
///
/// - G1. Dropping a pool drops its objects, even those that leaked guards hold. Their handles need
///   not be freed before: an owner that gives up everything drops or forgets its handles, and then
///   drops the pool.
/// - G2. All frames are released to the page source and uncharged. That takes time in proportion to
///   the pool's pages, not to its objects, and needs no memory.
/// - G3. It may block, and calls [`might_block`](crate::might_block).
pub trait ZPool: Send + Sync + Debug {
    /// Returns the process-unique id, which the pool's handles carry: that of its
    /// [`HandleMint`](crate::HandleMint).
    ///
    /// # Behavior
    ///
    /// - P1. Constant for the life of the pool, and never the id of another pool.
    fn id(&self) -> PoolId;

    /// Returns the facts about this pool, by which callers choose what to do.
    ///
    /// # Behavior
    ///
    /// - C1. Constant for the life of the pool.
    fn capabilities(&self) -> Capabilities;

    /// Stores a copy of `object` and returns its handle.
    ///
    /// # Behavior
    ///
    /// - N1. The bytes are in place before the handle exists. No reader sees an object half
    ///   written, or bytes of an earlier object.
    /// - N2. Every length from 1 to [`Capabilities::max_object_len`] is accepted while there is
    ///   memory.
    /// - N3. After an error the pool has the same objects as before and, once
    ///   [trimmed](Self::trim), the same accounts.
    ///
    /// # Errors
    ///
    /// - N4. [`PoolError::EmptyObject`] for length 0, [`PoolError::TooLarge`] over the maximum.
    ///   Both are checked first.
    /// - N5. [`PoolError::OutOfMemory`] if the page source or the heap refuses;
    ///   [`PoolError::TooManyPages`] if the pool has all the pages that it can address.
    ///
    /// # Concurrency
    ///
    /// - N6. May block, as the page source may, and calls [`might_block`](crate::might_block)
    ///   before. Holds no lock of the pool during a call of the page source.
    fn insert(&self, object: &[u8]) -> Result<Handle, PoolError>;

    /// Borrows the object of `handle`.
    ///
    /// # Behavior
    ///
    /// - R1. The guard derefs to exactly the bytes inserted until it is dropped, whatever happens
    ///   to the handle.
    /// - R2. The object is pinned: its address does not change under a guard.
    /// - R3. At least 255 guards may hold an object at once, each for any time, while the heap has
    ///   memory to count them.
    ///
    /// # Errors
    ///
    /// - R4. [`PoolError::ForeignHandle`] and [`PoolError::StaleHandle`] on a best-effort basis
    ///   (see [`Handle`]). [`PoolError::TooManyReaders`] if the pool cannot count another guard
    ///   of the object.
    ///
    /// # Concurrency
    ///
    /// - R5. Never blocks. A guard that is held blocks no insert, free, compaction or other reader.
    fn read(&self, handle: &Handle) -> Result<ReadGuard<'_>, PoolError>;

    /// Frees the object of `handle`.
    ///
    /// # Behavior
    ///
    /// - F1. The handle is dead for all threads at once: from now on, `read` and `free` of it fail.
    /// - F2. If guards hold the object, its bytes stay until the last one is dropped, and count as
    ///   held. Otherwise they can be reused at once.
    /// - F3. Memory that becomes empty is released to the page source: now, in a later job, at a
    ///   later insert, or in [`trim`](Self::trim), which releases all of it.
    /// - F6. With [`PoolConfig::wipe_on_free`], in a pool that
    ///   [supports](Capabilities::wipes_on_free) it: when the object and its last guard are gone,
    ///   its bytes are overwritten with zeros or their frames discarded. So are copies that were
    ///   made to move it.
    ///
    /// # Errors
    ///
    /// - F4. As for `read`. The error holds the handle, so one freed in the wrong pool is not lost.
    ///
    /// # Concurrency
    ///
    /// - F5. Never blocks, allocates or fails for want of memory: legal in a
    ///   [`NoBlock`](crate::NoBlock) section.
    fn free(&self, handle: Handle) -> Result<(), FreeError>;

    /// Frees many objects, as [`free`](Self::free) does. Returns how many handles were refused.
    ///
    /// For owners that free many objects and keep the pool. To free everything, drop the pool (G1).
    ///
    /// # Behavior
    ///
    /// - L1. Every handle that `handles` yields is freed as by `free` (F1 to F3, F6), even if
    ///   `handles` panics later. The pool may take several handles before it frees the first.
    /// - L2. Handles that `free` would refuse are dropped and counted. The others are freed.
    ///
    /// # Concurrency
    ///
    /// - L3. As F5. `handles` is called with no lock held, and may call the pool.
    fn free_many(&self, handles: &mut dyn Iterator<Item = Handle>) -> usize {
        handles.filter_map(|handle| self.free(handle).err()).count()
    }

    /// Exchanges the objects of two handles. Returns whether it did.
    ///
    /// For owners that replace an object: they insert the new one, exchange, and free `other`. So
    /// their handle stays the same, and with it its entry in the pool's tables. Entries of objects
    /// that are used together then stay next to each other, however often the objects are replaced.
    /// A pool may always decline, and its caller then keeps the other handle instead.
    ///
    /// # Behavior
    ///
    /// - H1. The exchange is one step: a concurrent `read` gets one object or the other, and no
    ///   error.
    /// - H2. No object is moved, copied or freed, both handles stay valid, and the accounts do not
    ///   change.
    /// - H3. Returns false, without any effect, if a guard holds one of the objects (so an object
    ///   keeps its handle under a guard), if a handle is foreign or stale, or if the pool does not
    ///   exchange, or cannot at the moment. A pool whose guards are copies cannot see them, and
    ///   always returns false.
    ///
    /// # Concurrency
    ///
    /// - H4. Never blocks, allocates, or calls anything outside of the pool: legal in a
    ///   [`NoBlock`](crate::NoBlock) section and under locks of the caller's own.
    fn exchange(&self, handle: &Handle, other: &mut Handle) -> bool {
        let _ = (handle, other);
        false
    }

    /// Returns the bytes that this pool holds: charged frames, and its metadata on the heap.
    ///
    /// # Behavior
    ///
    /// - A1. Equals `self.stats().pool_bytes()` without concurrent calls.
    /// - A2. Its frames are those that the page source has charged to this pool. The metadata is
    ///   exact within 5 %.
    ///
    /// # Concurrency
    ///
    /// - A3. Never blocks, and costs a few atomic loads: callers call it at every store.
    fn bytes_held(&self) -> usize;

    /// Returns a snapshot of the accounts.
    ///
    /// # Behavior
    ///
    /// - S1. The parts sum to the whole: see [`PoolStats`]. Exact without concurrent calls.
    ///   Otherwise each figure was true at some moment during the call, and none is negative or
    ///   overflows.
    ///
    /// # Concurrency
    ///
    /// - S2. Takes a time that does not depend on the number of objects or pages: programs may call
    ///   it every second.
    fn stats(&self) -> PoolStats;

    /// Computes the accounts by a walk over all objects and pages, instead of from counters.
    ///
    /// For tests and for programs that can wait: takes time in proportion to the objects, and holds
    /// locks meanwhile.
    ///
    /// # Behavior
    ///
    /// - S3. Equals `self.stats()` without concurrent calls.
    fn survey(&self) -> PoolStats {
        self.stats()
    }

    /// Walks every structure of the pool and compares what must agree.
    ///
    /// For tests: slow, and holds locks. With concurrent callers, it may only report what no
    /// interleaving explains.
    ///
    /// # Errors
    ///
    /// - V1. A [`Violation`] that names the first disagreement.
    fn validate(&self) -> Result<(), Violation>;

    /// Estimates the bytes that an object of `len` bytes adds to the pool if many objects of that
    /// length are inserted, including what size classes and pages leave unused. The default
    /// returns `len`.
    ///
    /// # Behavior
    ///
    /// - U1. At least `len`, for 1 to [`max_object_len`](Capabilities::max_object_len). Computed,
    ///   not measured: equal for an empty pool and a full one.
    ///
    /// # Concurrency
    ///
    /// - U2. Never blocks.
    fn footprint(&self, len: usize) -> usize {
        len
    }

    /// Moves objects together so that frames become empty, and releases those.
    ///
    /// # Behavior
    ///
    /// - M1. Callers notice nothing but time and memory: handles stay valid, guards keep their
    ///   bytes in place, and a pinned object is skipped, never waited for.
    /// - M2. Does at most what the budget allows, and reports what it did.
    /// - M3. A pool that [cannot compact](Capabilities::can_compact) does nothing and returns an
    ///   empty report.
    ///
    /// # Concurrency
    ///
    /// - M4. May block. At most one compaction of a pool runs at a time; a second caller gets an
    ///   empty report.
    fn compact(&self, budget: CompactionBudget) -> CompactionReport {
        let _ = budget;
        CompactionReport::default()
    }

    /// Empties pages that hold live objects, oldest first, by asking their owner to evict them.
    ///
    /// # Behavior
    ///
    /// - E1. Calls `owner.evict(id)` for each object of a chosen page, with no lock held. Meanwhile
    ///   no object is inserted into that page.
    /// - E2. Reports the pages that were really released, even if fewer than requested.
    ///
    /// # Errors
    ///
    /// - E3. [`PoolError::Unsupported`] from a pool that [cannot
    ///   reclaim](Capabilities::can_reclaim); otherwise see [`ReclaimError`].
    ///
    /// # Concurrency
    ///
    /// - E4. May block. `evict` may call any method of the pool except `reclaim`.
    fn reclaim(&self, pages: usize, owner: &mut dyn Evict) -> Result<ReclaimReport, ReclaimError> {
        let _ = (pages, owner);
        Err(ReclaimError::unsupported())
    }

    /// Releases all memory that holds no object. Returns the bytes released.
    ///
    /// # Behavior
    ///
    /// - T1. Afterwards an empty pool holds no frame. Moves no object: see
    ///   [`compact`](Self::compact).
    ///
    /// # Concurrency
    ///
    /// - T2. May block.
    fn trim(&self) -> usize {
        0
    }
}

/// The configuration of a pool.
#[derive(Debug, Clone)]
pub struct PoolConfig {
    /// The source of frames.
    pub source: Arc<dyn PageSource>,
    /// The largest object in bytes. Normally the block size, since a block that does not shrink is
    /// stored raw.
    pub max_object_len: usize,
    /// The executor for work that blocks, such as releasing frames. Without one, that work waits
    /// for the next insert or trim.
    pub executor: Option<Arc<dyn Executor>>,
    /// The driver's own parameters, as in `zsmalloc(chain=8)`.
    pub params: Params,
    /// Whether to overwrite freed objects (F6). Pools that [cannot](Capabilities::wipes_on_free)
    /// ignore it.
    pub wipe_on_free: bool,
}

impl PoolConfig {
    /// Returns the configuration for objects up to `max_object_len` bytes over `source`, without an
    /// executor, with default parameters.
    pub fn new(source: Arc<dyn PageSource>, max_object_len: usize) -> PoolConfig {
        PoolConfig {
            source,
            max_object_len,
            executor: None,
            params: Params::default(),
            wipe_on_free: false,
        }
    }

    /// Sets the driver's own parameters.
    pub fn with_params(self, params: Params) -> PoolConfig {
        PoolConfig { params, ..self }
    }

    /// Sets [`wipe_on_free`](Self::wipe_on_free).
    pub fn with_wipe_on_free(self, wipe_on_free: bool) -> PoolConfig {
        PoolConfig { wipe_on_free, ..self }
    }

    /// Sets the executor for work that blocks.
    pub fn with_executor(self, executor: Arc<dyn Executor>) -> PoolConfig {
        PoolConfig { executor: Some(executor), ..self }
    }
}

/// Makes pools of one kind.
pub trait ZPoolDriver: Send + Sync + Debug {
    /// Returns the allocator's name in a [spec](crate::spec): a letter, then letters, digits, `_`
    /// or `-`.
    fn name(&self) -> &str;

    /// Checks parameters and returns them in canonical form, without defaults. Two pools are of the
    /// same kind if name and canonical parameters are equal.
    ///
    /// # Errors
    ///
    /// - D1. [`CreateError::UnknownParameter`] or [`CreateError::BadValue`].
    fn canonical(&self, params: &Params) -> Result<Params, CreateError> {
        match params.iter().next() {
            None => Ok(Params::default()),
            Some((name, _)) => {
                Err(CreateError::UnknownParameter { name: name.to_owned(), known: "" })
            }
        }
    }

    /// Makes an empty pool.
    ///
    /// # Behavior
    ///
    /// - D2. An empty pool has taken no frame from the source, and costs its metadata only.
    /// - D3. An error leaves nothing behind.
    ///
    /// # Errors
    ///
    /// - D4. Those of `canonical`; [`CreateError::BadValue`] for a `max_object_len` of 0 or beyond
    ///   the driver's maximum; [`CreateError::OutOfMemory`].
    ///
    /// # Concurrency
    ///
    /// - D5. May block. Called with no lock held.
    fn create(&self, config: &PoolConfig) -> Result<Box<dyn ZPool>, CreateError>;

    /// Returns the facts about pools that `create` would make with this configuration.
    ///
    /// # Errors
    ///
    /// As for `create`.
    fn capabilities(&self, config: &PoolConfig) -> Result<Capabilities, CreateError> {
        Ok(self.create(config)?.capabilities())
    }
}
