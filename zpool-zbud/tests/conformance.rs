//! zbud passes the suite for pools: with one frame per page, with more, and with objects of up to
//! 64 KiB.

use std::sync::Arc;

use zpool_conformance::pool_suite;
use zpool_core::page::PageSource;
use zpool_core::{CreateError, PoolConfig, ZPool, ZPoolDriver};
use zpool_testing::heap::{self, CountingAllocator};
use zpool_zbud::ZbudDriver;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

fn zbud(
    source: Arc<dyn PageSource>,
    max_object_len: usize,
    page: usize,
) -> Result<Box<dyn ZPool>, CreateError> {
    let mut config = PoolConfig::new(source, max_object_len);
    config.params.set("page", page.to_string());
    ZbudDriver.create(&config)
}

pool_suite!(
    defaults,
    [reclaim],
    |source| ZbudDriver.create(&PoolConfig::new(source, 4096)),
    heap_calls = heap::calls,
);
pool_suite!(
    page_of_16_kib,
    [reclaim],
    |source| zbud(source, 5000, 16 << 10),
    heap_calls = heap::calls
);
pool_suite!(
    blocks_of_64_kib,
    [reclaim],
    |source| ZbudDriver.create(&PoolConfig::new(source, 64 << 10)),
    heap_calls = heap::calls,
);
