//! A pool: an allocator, a codec, and the jobs that will destroy them.

use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use zpool_core::compress::{Codec, CompressorDriver};
use zpool_core::internal::sync::Mutex;
use zpool_core::internal::sync::atomic::{AtomicBool, Ordering};
use zpool_core::internal::{Counted, PreparedJob, Ref};
use zpool_core::spec::PoolSpec;
use zpool_core::{PoolId, ZPool, ZPoolDriver, might_block};

use super::table::TablePlace;
use crate::registry::DriverUse;
use crate::release::{PendingDestroy, Ticket};
use crate::shared::Shared;

/// A counted reference to a live pool.
///
/// The owner of an object keeps one with the object's handle. After the last one is dropped, the
/// manager's executor destroys the pool.
///
/// Taking or dropping a reference is one atomic operation on a word of the current processor.
/// Dropping never blocks, allocates or fails.
#[derive(Clone)]
pub struct PoolRef(pub(crate) Ref<Pool>);

impl PoolRef {
    /// Returns whether both refer to the same pool.
    #[inline]
    pub fn same(a: &PoolRef, b: &PoolRef) -> bool {
        Ref::same(&a.0, &b.0)
    }

    /// Returns a number that no other pool has while this reference lives.
    #[inline]
    pub fn number(this: &PoolRef) -> usize {
        Ref::number(&this.0)
    }

    /// Returns how many references there are, including this one. Exact for a retired pool while
    /// no thread takes or drops one; otherwise an estimate.
    pub fn references(this: &PoolRef) -> u64 {
        Ref::block(&this.0).references()
    }

    pub(crate) fn block(this: &PoolRef) -> Arc<Counted<Pool>> {
        Ref::block(&this.0)
    }
}

impl Deref for PoolRef {
    type Target = Pool;

    #[inline]
    fn deref(&self) -> &Pool {
        &self.0
    }
}

impl fmt::Debug for PoolRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// An allocator and a compressor with its contexts, made together from a [`PoolSpec`].
///
/// Only the manager makes pools. Only the job of a pool whose last reference is gone takes it
/// apart.
pub struct Pool {
    label: Arc<PoolLabel>,
    created: Instant,
    zpool: Box<dyn ZPool>,
    codec: Codec,
    objects_per_page: Option<u32>,
    /// Made with the pool, taken by its release.
    jobs: Mutex<Option<DestroyJobs>>,
    /// Set when the pool is listed.
    place: Arc<OnceLock<TablePlace>>,
    shared: Arc<Shared>,
    drivers: Drivers,
    /// Whether a job that frees the compression contexts has been submitted and has not begun.
    pub(crate) contexts_job: AtomicBool,
    /// Whether the latest role was that of the cold pool.
    for_cold: AtomicBool,
}

/// The job that destroys a pool, and the ticket that an executor gets for it.
pub(crate) struct DestroyJobs {
    pub(crate) job: PreparedJob<PendingDestroy>,
    pub(crate) ticket: PreparedJob<Ticket>,
}

/// The names of a pool, which stay known while the pool is being destroyed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolLabel {
    /// The process-unique id.
    pub id: PoolId,
    /// A name that no other pool has or had, live or retired: `zpool-` and the id.
    pub name: String,
    /// The allocator and compressor in canonical form. Pools of equal specs are interchangeable.
    pub spec: PoolSpec,
}

/// Keeps a pool's drivers registered.
#[derive(Debug)]
pub(crate) struct Drivers {
    pub(crate) allocator: DriverUse<dyn ZPoolDriver>,
    pub(crate) compressor: DriverUse<dyn CompressorDriver>,
}

/// A pool taken apart, in the order of destruction. The drivers may be unregistered only after the
/// contexts and the allocator are gone.
pub(crate) struct Parts {
    pub(crate) codec: Codec,
    pub(crate) zpool: Box<dyn ZPool>,
    pub(crate) drivers: Drivers,
}

impl Pool {
    /// Makes a pool. `id` and `objects_per_page` are the allocator's answers, asked inside a catch.
    pub(crate) fn new(
        id: PoolId,
        spec: PoolSpec,
        (zpool, objects_per_page): (Box<dyn ZPool>, Option<u32>),
        codec: Codec,
        shared: Arc<Shared>,
        drivers: Drivers,
    ) -> Pool {
        let job = PreparedJob::new("destroy pool", |pending: PendingDestroy| {
            might_block("destroying a pool");
            drop(pending);
        });
        // A ticket works in its drop, so running and dropping it have the same effect.
        let ticket = PreparedJob::new("destroy pool", |ticket: Ticket| drop(ticket));
        let label = Arc::new(PoolLabel { id, name: format!("zpool-{id}"), spec });
        Pool {
            label,
            created: Instant::now(),
            zpool,
            codec,
            objects_per_page,
            jobs: Mutex::new(Some(DestroyJobs { job, ticket })),
            place: Arc::default(),
            shared,
            drivers,
            contexts_job: AtomicBool::new(false),
            for_cold: AtomicBool::new(false),
        }
    }

    /// Returns the process-unique id.
    pub fn id(&self) -> PoolId {
        self.label.id
    }

    /// Returns a name that no other pool has or had.
    pub fn name(&self) -> &str {
        &self.label.name
    }

    /// Returns the allocator and compressor in canonical form.
    pub fn spec(&self) -> &PoolSpec {
        &self.label.spec
    }

    /// Returns id, name and spec, to keep.
    pub fn label(&self) -> &Arc<PoolLabel> {
        &self.label
    }

    /// Returns the time since the pool was made.
    pub fn age(&self) -> Duration {
        self.created.elapsed()
    }

    pub(crate) fn created(&self) -> Instant {
        self.created
    }

    /// Returns the allocator.
    #[inline]
    pub fn zpool(&self) -> &dyn ZPool {
        &*self.zpool
    }

    /// Returns the compressor with its contexts.
    #[inline]
    pub fn codec(&self) -> &Codec {
        &self.codec
    }

    /// Makes a codec of the same compressor, which may outlive this pool: for objects that were
    /// copied out of it. Its contexts are its own, and count as those of pools do.
    ///
    /// # Panics
    ///
    /// If the compressor does when it is asked for its capabilities or its shared bytes.
    pub fn decoder(&self) -> Codec {
        Codec::new(Arc::clone(self.codec.compressor()), self.codec.max_block_size())
            .with_budget(Arc::clone(&self.shared.contexts))
    }

    /// Returns the allocator's [bound on the objects of a
    /// page](zpool_core::Capabilities::objects_per_page), asked when the pool was made.
    #[inline]
    pub fn objects_per_page(&self) -> Option<u32> {
        self.objects_per_page
    }

    /// Returns the bytes that the allocator and the contexts hold.
    pub fn bytes_held(&self) -> usize {
        self.zpool.bytes_held() + self.codec.stats().context_bytes
    }

    /// Returns whether this is the cold pool, or was when it retired. So the owner of its objects
    /// can tell what a retired pool was for.
    #[inline]
    pub fn is_for_cold(&self) -> bool {
        // Relaxed: an object is put into a pool after the pool was published with its role.
        self.for_cold.load(Ordering::Relaxed)
    }

    /// Notes the role that the pool is about to have.
    pub(crate) fn set_for_cold(&self, for_cold: bool) {
        self.for_cold.store(for_cold, Ordering::Relaxed);
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(crate) fn place(&self) -> &Arc<OnceLock<TablePlace>> {
        &self.place
    }

    /// Takes the jobs that destroy this pool, once.
    pub(crate) fn take_jobs(&self) -> DestroyJobs {
        self.jobs.lock().take().expect("a pool is released once")
    }

    pub(crate) fn into_parts(self) -> Parts {
        Parts { codec: self.codec, zpool: self.zpool, drivers: self.drivers }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pool({} {})", self.label.name, self.label.spec)
    }
}
