//! The two reference pools pass the suite: the map, and the pool that moves its objects at every
//! opportunity.

use zpool_conformance::{MovingDriver, ReferenceDriver, pool_suite};
use zpool_core::{PoolConfig, ZPoolDriver};
use zpool_testing::heap::{CountingAllocator, Heap};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// Allocations only, because each object is an allocation of its own, which is freed in `free` or
/// with its last guard.
fn allocations() -> u64 {
    Heap::now().allocations
}

pool_suite!(
    reference,
    [],
    |source| ReferenceDriver.create(&PoolConfig::new(source, 4096)),
    heap_calls = allocations,
);
pool_suite!(
    moving,
    [compact],
    |source| MovingDriver.create(&PoolConfig::new(source, 4096)),
    heap_calls = allocations,
);
pool_suite!(
    moving_blocks_of_16_kib,
    [compact],
    |source| MovingDriver.create(&PoolConfig::new(source, 16 << 10)),
    heap_calls = allocations,
);
