//! The contract of an allocator: [`ZPool`], and of whoever makes one: [`ZPoolDriver`].

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
/// All methods take `&self` and may be called from any number of threads at once. "May block" and "must not block" are meant as in
/// [`NoBlock`](crate::NoBlock): a bounded wait for a lock of the pool's own is not blocking, a call into the operating system for memory is.
///
/// # Dropping a pool
///
/// - G1. Dropping a pool drops its objects. Their handles need not be freed before: owners that
///   give up everything drop or forget the handles, and then the pool. The same goes for guards
///   that were leaked.
/// - G2. All frames go back to the page source and off its books. That takes time in proportion to
///   the pool's pages, not to its objects, and needs no memory.
/// - G3. It may block, and calls [`might_block`](crate::might_block).
pub trait ZPool: Send + Sync + Debug {
    /// The process-unique id, which the pool's handles carry: that of its [`HandleMint`](crate::HandleMint).
    ///
    /// # Behavior
    ///
    /// - P1. The same for the life of the pool, and never that of another pool.
    fn id(&self) -> PoolId;

    /// What this pool can do. Facts, not hopes: callers choose by them and do not probe by failing.
    ///
    /// # Behavior
    ///
    /// - C1. The same for the life of the pool.
    fn capabilities(&self) -> Capabilities;

    /// Stores a copy of `object` and gives its handle.
    ///
    /// # Behavior
    ///
    /// - N1. The bytes are in place before the handle exists: nothing half-written or left over from another object is ever visible.
    /// - N2. Every length from 1 to [`Capabilities::max_object_len`] is accepted while there is memory.
    /// - N3. After an error the pool is as it was: same objects, same accounting once [`trim`](Self::trim)med.
    ///
    /// # Errors
    ///
    /// - N4. [`PoolError::EmptyObject`] for length 0, [`PoolError::TooLarge`] over the maximum, before anything else is tried.
    /// - N5. [`PoolError::OutOfMemory`] when the page source or the heap refuses;
    ///   [`PoolError::TooManyPages`] when the pool has all the pages that it can name.
    ///
    /// # Concurrency
    ///
    /// - N6. May block (the page source may), and calls [`might_block`](crate::might_block) before it does; holds no lock of
    ///   the pool while the page source works.
    fn insert(&self, object: &[u8]) -> Result<Handle, PoolError>;

    /// Borrows the object of `handle`.
    ///
    /// # Behavior
    ///
    /// - R1. The guard derefs to exactly the bytes inserted, and does so until it is dropped, whatever happens to the handle.
    /// - R2. The object is pinned: no address changes under a guard.
    /// - R3. Any number of guards may hold an object, and each for any time.
    ///
    /// # Errors
    ///
    /// - R4. [`PoolError::ForeignHandle`], [`PoolError::StaleHandle`] (best effort, see
    ///   [`Handle`]); [`PoolError::TooManyReaders`] only when there is no memory to count a guard
    ///   beyond the 255th of an object.
    ///
    /// # Concurrency
    ///
    /// - R5. Never blocks, and holding the guard blocks nobody: not inserts, frees, compaction, nor other readers.
    fn read(&self, handle: &Handle) -> Result<ReadGuard<'_>, PoolError>;

    /// Gives up the object of `handle`.
    ///
    /// # Behavior
    ///
    /// - F1. The handle is dead for everybody at once: from here on `read` and `free` of it fail.
    /// - F2. If guards hold the object, its bytes stay until the last one is dropped, and count as held; else they can be used again at once.
    /// - F3. Memory that this leaves empty goes back to the page source: now, in a later job, with a later insert, or in
    ///   [`trim`](Self::trim), which gives back all of it.
    /// - F6. With [`PoolConfig::wipe_on_free`], in a pool that [can](Capabilities::wipes_on_free) do that: when the object is gone (the last guard too), its bytes
    ///   are overwritten with zeros or their frames given back. So are those of copies that were made to move it.
    ///
    /// # Errors
    ///
    /// - F4. As for `read`; the error holds the token, so a handle freed in the wrong pool is not lost.
    ///
    /// # Concurrency
    ///
    /// - F5. Never blocks, allocates or fails for want of memory: legal in a [`NoBlock`](crate::NoBlock) section.
    fn free(&self, handle: Handle) -> Result<(), FreeError>;

    /// Frees many objects, as [`free`](Self::free) does. Returns how many of the handles could not
    /// be freed.
    ///
    /// For owners that give up much at once but keep the pool. To give up everything, drop the pool
    /// instead (G1).
    ///
    /// # Behavior
    ///
    /// - L1. Every handle that `handles` yields is freed as by `free` (F1 to F3, F6), also when
    ///   `handles` panics later on. The pool may wait for some handles before it frees the first of
    ///   them.
    /// - L2. Handles that `free` would refuse are dropped and counted; the others are freed all the
    ///   same.
    ///
    /// # Concurrency
    ///
    /// - L3. As F5. `handles` is called with no lock held, and may call the pool.
    fn free_many(&self, handles: &mut dyn Iterator<Item = Handle>) -> usize {
        handles.filter_map(|handle| self.free(handle).err()).count()
    }

    /// Exchanges the objects of two handles: from here on each names what the other did. Says whether it did.
    ///
    /// For owners that replace an object: they insert the new one, exchange, and free `other`. So the handle that they keep stays the same, and so does its place in the
    /// pool's tables: what lies side by side there is used together, however often its objects are replaced. A pool may always decline, and its caller then keeps the other
    /// handle instead.
    ///
    /// # Behavior
    ///
    /// - X1. In one step: whoever reads `handle` meanwhile gets the one object or the other, and no error.
    /// - X2. No object is moved, copied or freed, both handles are as good as before, and the books stay as they are.
    /// - X3. Says no, and nothing has happened: where a guard holds one of the objects (so a guard's object keeps its handle), where a handle is foreign or stale, or
    ///   where the pool does not do this, or not now. A pool that cannot tell whether there is a guard, because its guards are copies, always says no.
    ///
    /// # Concurrency
    ///
    /// - X4. Never blocks, allocates, or calls anything outside of the pool: legal in a [`NoBlock`](crate::NoBlock) section and under locks of the caller's own.
    fn exchange(&self, handle: &Handle, other: &mut Handle) -> bool {
        let _ = (handle, other);
        false
    }

    /// Bytes of memory this pool holds: frames that are resident (or were charged to its page source) and its metadata on the heap.
    ///
    /// # Behavior
    ///
    /// - A1. Equals `self.stats().pool_bytes()` when nothing runs concurrently.
    /// - A2. The frames in it equal what the page source has charged to this pool; the metadata is right within 5 %.
    ///
    /// # Concurrency
    ///
    /// - A3. Never blocks; a few atomic loads. Callers ask on every store.
    fn bytes_held(&self) -> usize;

    /// A snapshot of the books.
    ///
    /// # Behavior
    ///
    /// - S1. Parts sum to the whole: see [`PoolStats`]. Exact when nothing runs concurrently; else each figure was true at some
    ///   moment during the call, and no figure is ever negative or overflows.
    ///
    /// # Concurrency
    ///
    /// - S2. Takes time that does not depend on how many objects or pages there are: programs ask
    ///   every second.
    fn stats(&self) -> PoolStats;

    /// Counts what [`stats`](Self::stats) says by a walk over everything there is.
    ///
    /// For tests and for programs that can wait: takes time in proportion to the objects, and locks
    /// meanwhile.
    ///
    /// # Behavior
    ///
    /// - S3. Equals `self.stats()` when nothing runs concurrently.
    fn survey(&self) -> PoolStats {
        self.stats()
    }

    /// Walks every structure of the pool and compares what should agree.
    ///
    /// For tests: slow, takes locks. With concurrent callers it may only report what no interleaving could explain.
    ///
    /// # Errors
    ///
    /// - V1. A [`Violation`] that names the first disagreement.
    fn validate(&self) -> Result<(), Violation>;

    /// Returns about how many bytes an object of `len` bytes adds to what the pool holds, where
    /// many objects of that length are inserted: with what size classes and pages leave unused.
    ///
    /// # Behavior
    ///
    /// - N1. At least `len`, for 1 to [`max_object_len`](Capabilities::max_object_len). Computed,
    ///   not measured: the same for an empty pool and a full one.
    ///
    /// # Concurrency
    ///
    /// - N2. Never blocks.
    fn footprint(&self, len: usize) -> usize {
        len
    }

    /// Moves objects together so that frames become empty, and gives those back.
    ///
    /// # Behavior
    ///
    /// - M1. Invisible but for time and bytes: handles stay good, guards keep their bytes in place, and a pinned object is skipped, never waited for.
    /// - M2. Does at most what the budget allows, and says what it did.
    /// - M3. A pool that [cannot compact](Capabilities::can_compact) does nothing and reports nothing done.
    ///
    /// # Concurrency
    ///
    /// - M4. May block. At most one compaction of a pool runs at a time; a second caller gets an empty report.
    fn compact(&self, budget: CompactionBudget) -> CompactionReport {
        let _ = budget;
        CompactionReport::default()
    }

    /// Empties pages that hold live objects, oldest first, by asking their owner to give the objects up.
    ///
    /// # Behavior
    ///
    /// - E1. Calls `owner.evict(id)` for each object of a chosen page, with no lock held; nothing is inserted into that page meanwhile.
    /// - E2. Reports the pages that were really given back, also when fewer than asked.
    ///
    /// # Errors
    ///
    /// - E3. [`PoolError::Unsupported`] from a pool that [cannot reclaim](Capabilities::can_reclaim); else see [`ReclaimError`].
    ///
    /// # Concurrency
    ///
    /// - E4. May block. `evict` may call any method of the pool but `reclaim`.
    fn reclaim(&self, pages: usize, owner: &mut dyn Evict) -> Result<ReclaimReport, ReclaimError> {
        let _ = (pages, owner);
        Err(ReclaimError::unsupported())
    }

    /// Gives back all memory that holds no object. Returns the bytes given back.
    ///
    /// # Behavior
    ///
    /// - T1. Afterwards an empty pool holds no frame. Objects are not moved: that is [`compact`](Self::compact).
    ///
    /// # Concurrency
    ///
    /// - T2. May block.
    fn trim(&self) -> usize {
        0
    }
}

/// What a pool is made with, besides its driver's own parameters.
#[derive(Debug, Clone)]
pub struct PoolConfig {
    /// Where frames come from.
    pub source: Arc<dyn PageSource>,
    /// The largest object that will be stored, in bytes: normally the block size, since a block that does not shrink is stored raw.
    pub max_object_len: usize,
    /// Where the pool may do work that blocks (giving frames back). Without one that work waits for the next insert or trim.
    pub executor: Option<Arc<dyn Executor>>,
    /// The driver's own parameters, as in `zsmalloc(chain=8)`.
    pub params: Params,
    /// Overwrite objects that are gone (F6): for pools that [can](Capabilities::wipes_on_free), others do as if it were false.
    pub wipe_on_free: bool,
}

impl PoolConfig {
    /// A pool of objects up to `max_object_len` bytes over `source`, without an executor, with default parameters.
    pub fn new(source: Arc<dyn PageSource>, max_object_len: usize) -> PoolConfig {
        PoolConfig {
            source,
            max_object_len,
            executor: None,
            params: Params::default(),
            wipe_on_free: false,
        }
    }

    /// The same with the driver's own parameters.
    pub fn with_params(self, params: Params) -> PoolConfig {
        PoolConfig { params, ..self }
    }

    /// The same with [`wipe_on_free`](Self::wipe_on_free) as given.
    pub fn with_wipe_on_free(self, wipe_on_free: bool) -> PoolConfig {
        PoolConfig { wipe_on_free, ..self }
    }

    /// The same with an executor for work that blocks.
    pub fn with_executor(self, executor: Arc<dyn Executor>) -> PoolConfig {
        PoolConfig { executor: Some(executor), ..self }
    }
}

/// Makes pools of one kind. The consumer of a pool never needs what its constructor needed, so construction is not in [`ZPool`].
pub trait ZPoolDriver: Send + Sync + Debug {
    /// The allocator's name in a [spec](crate::spec): a letter, then letters, digits, `_` or `-`.
    fn name(&self) -> &str;

    /// Checks parameters and gives them in canonical form, with defaults left out: two pools are of the same kind when name and canonical parameters agree.
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
    /// - D2. An empty pool has taken no frame from the source: it costs its metadata only.
    /// - D3. After an error nothing is left of the attempt.
    ///
    /// # Errors
    ///
    /// - D4. Those of `canonical`; [`CreateError::BadValue`] for a `max_object_len` of 0 or beyond what the driver supports; [`CreateError::OutOfMemory`].
    ///
    /// # Concurrency
    ///
    /// - D5. May block; called with no lock held.
    fn create(&self, config: &PoolConfig) -> Result<Box<dyn ZPool>, CreateError>;

    /// Facts about the pools that `create` would make with this configuration, for listings.
    ///
    /// # Errors
    ///
    /// As for `create`.
    fn capabilities(&self, config: &PoolConfig) -> Result<Capabilities, CreateError> {
        Ok(self.create(config)?.capabilities())
    }
}
