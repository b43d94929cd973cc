//! zsmalloc passes the suite for pools: with its defaults, with other steps and chains, and with
//! objects of up to 64 KiB.

use std::sync::Arc;

use zpool_conformance::pool_suite;
use zpool_core::page::PageSource;
use zpool_core::spec::Component;
use zpool_core::{CreateError, PoolConfig, ZPool, ZPoolDriver};
use zpool_testing::heap::{self, CountingAllocator};
use zpool_zsmalloc::ZsmallocDriver;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

fn pool(
    source: Arc<dyn PageSource>,
    max_object_len: usize,
    spec: &str,
) -> Result<Box<dyn ZPool>, CreateError> {
    let spec: Component = spec.parse().expect("a spec of this file");
    ZsmallocDriver.create(&PoolConfig::new(source, max_object_len).with_params(spec.params))
}

pool_suite!(
    defaults,
    [compact],
    |source| ZsmallocDriver.create(&PoolConfig::new(source, 4096)),
    heap_calls = heap::calls,
);
pool_suite!(
    single_frames,
    [compact],
    |source| pool(source, 4096, "zsmalloc(chain=1)"),
    heap_calls = heap::calls,
);
pool_suite!(
    fine_steps_short_chains,
    [compact],
    |source| pool(source, 5000, "zsmalloc(chain=4,step=8)"),
    heap_calls = heap::calls,
);
pool_suite!(
    small_objects,
    [compact],
    |source| pool(source, 200, "zsmalloc(step=8)"),
    heap_calls = heap::calls,
);
pool_suite!(
    blocks_of_64_kib,
    [compact],
    |source| pool(source, 64 << 10, "zsmalloc(chain=64,step=64)"),
    heap_calls = heap::calls,
);
