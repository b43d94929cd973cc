//! A pool: an allocator, a codec, and the job that will destroy them.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use zpool_core::compress::{Codec, CompressorDriver};
use zpool_core::internal::PreparedJob;
use zpool_core::internal::Ref;
use zpool_core::internal::sync::Mutex;
use zpool_core::internal::sync::atomic::AtomicBool;
use zpool_core::spec::PoolSpec;
use zpool_core::{PoolId, ZPool, ZPoolDriver, might_block};

use crate::hub::{Hub, Ticket};
use crate::pool_list::Place;
use crate::registry::Used;
use crate::release::Doomed;

/// A counted reference to a live pool. The owner of an object keeps one with its handle; the pool
/// is destroyed, on the manager's executor, after the last one has gone.
///
/// Taking and dropping one is an atomic operation on a word of the current processor; dropping
/// never blocks, allocates or fails.
pub type PoolRef = Ref<Pool>;

/// An allocator and a compressor with its contexts, made together from a [`PoolSpec`].
///
/// Only the manager makes pools, and only the job of a pool whose last reference has gone takes one
/// apart.
pub struct Pool {
    label: Arc<PoolLabel>,
    created: Instant,
    zpool: Box<dyn ZPool>,
    codec: Codec,
    objects_per_page: Option<u32>,
    /// Made with the pool, taken by its release.
    jobs: Mutex<Option<Jobs>>,
    /// Where it is on the hub's list, once it is.
    place: Arc<OnceLock<Place>>,
    hub: Arc<Hub>,
    drivers: Drivers,
    /// A job that frees the compression contexts is on its way.
    pub(crate) contexts_job: AtomicBool,
}

/// The job that destroys a pool, and what an executor gets for it.
type Jobs = (PreparedJob<Doomed>, PreparedJob<Ticket>);

/// What a pool is called: known also when the pool itself is on its way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolLabel {
    /// The process-unique id.
    pub id: PoolId,
    /// A name that no other pool has or had, live or retired: `zpool-` and the id.
    pub name: String,
    /// What it is made of, in canonical form: pools of equal specs are interchangeable.
    pub spec: PoolSpec,
}

/// Keeps a pool's drivers registered.
#[derive(Debug)]
pub(crate) struct Drivers {
    pub(crate) allocator: Used<dyn ZPoolDriver>,
    pub(crate) compressor: Used<dyn CompressorDriver>,
}

/// A pool taken apart, in the order in which it goes: contexts, allocator, and then only the
/// drivers may be unregistered.
pub(crate) struct Parts {
    pub(crate) codec: Codec,
    pub(crate) zpool: Box<dyn ZPool>,
    pub(crate) drivers: Drivers,
}

impl Pool {
    /// `id` and the number are the allocator's, which has been asked for them where a panic is
    /// contained.
    pub(crate) fn new(
        id: PoolId,
        spec: PoolSpec,
        (zpool, objects_per_page): (Box<dyn ZPool>, Option<u32>),
        codec: Codec,
        hub: Arc<Hub>,
        drivers: Drivers,
    ) -> Pool {
        let job = PreparedJob::new("destroy pool", |doomed: Doomed| {
            might_block("destroying a pool");
            drop(doomed);
        });
        // Run or dropped, a ticket does its work when it goes.
        let ticket = PreparedJob::new("destroy pool", |ticket: Ticket| drop(ticket));
        let label = Arc::new(PoolLabel { id, name: format!("zpool-{id}"), spec });
        let contexts_job = AtomicBool::new(false);
        Pool {
            label,
            created: Instant::now(),
            zpool,
            codec,
            objects_per_page,
            jobs: Mutex::new(Some((job, ticket))),
            place: Arc::default(),
            hub,
            drivers,
            contexts_job,
        }
    }

    /// The process-unique id.
    pub fn id(&self) -> PoolId {
        self.label.id
    }

    /// A name that no other pool has or had.
    pub fn name(&self) -> &str {
        &self.label.name
    }

    /// What it is made of, in canonical form.
    pub fn spec(&self) -> &PoolSpec {
        &self.label.spec
    }

    /// Id, name and spec, to keep.
    pub fn label(&self) -> &Arc<PoolLabel> {
        &self.label
    }

    /// Time since it was made.
    pub fn age(&self) -> Duration {
        self.created.elapsed()
    }

    /// When it was made.
    pub(crate) fn created(&self) -> Instant {
        self.created
    }

    /// The allocator.
    #[inline]
    pub fn zpool(&self) -> &dyn ZPool {
        &*self.zpool
    }

    /// The compressor, with its contexts.
    #[inline]
    pub fn codec(&self) -> &Codec {
        &self.codec
    }

    /// Returns what its allocator said of [objects in a
    /// page](zpool_core::Capabilities::objects_per_page) when it was made.
    #[inline]
    pub fn objects_per_page(&self) -> Option<u32> {
        self.objects_per_page
    }

    /// Bytes this pool holds: the allocator's and the contexts'.
    pub fn bytes_held(&self) -> usize {
        self.zpool.bytes_held() + self.codec.stats().context_bytes
    }

    pub(crate) fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    pub(crate) fn place(&self) -> &Arc<OnceLock<Place>> {
        &self.place
    }

    /// The job that destroys this pool, and its ticket: there once.
    pub(crate) fn take_jobs(&self) -> Jobs {
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
