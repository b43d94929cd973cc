//! A pool with objects in it.

use std::sync::Arc;

use workload::Objects;
use zpool_core::page::default_source;
use zpool_core::spec::Params;
use zpool_core::{Handle, PoolConfig, ZPool, ZPoolDriver};
use zpool_manager::WorkQueue;
use zpool_zsmalloc::ZsmallocDriver;

pub(crate) struct FilledPool {
    pub(crate) pool: Box<dyn ZPool>,
    pub(crate) handles: Vec<Handle>,
    /// Dropped after the pool.
    pub(crate) executor: Arc<WorkQueue>,
}

impl FilledPool {
    /// Creates an empty pool, as in a store.
    pub(crate) fn empty(params: &Params) -> FilledPool {
        let executor = Arc::new(WorkQueue::new("zsmalloc").expect("a thread can be started"));
        let config = PoolConfig::new(default_source(), crate::BLOCK.get())
            .with_executor(executor.clone())
            .with_params(params.clone());
        let pool = ZsmallocDriver.create(&config).expect("the defaults are good");
        FilledPool { pool, handles: Vec::new(), executor }
    }

    /// Creates a pool of all objects. Handle `i` is that of object `i`.
    pub(crate) fn filled(objects: &Objects, params: &Params) -> FilledPool {
        let mut filled = FilledPool::empty(params);
        filled.handles = objects.iter().map(|object| insert(&*filled.pool, object)).collect();
        filled
    }
}

#[inline]
pub(crate) fn insert(pool: &dyn ZPool, object: &[u8]) -> Handle {
    pool.insert(object).expect("there is memory")
}
