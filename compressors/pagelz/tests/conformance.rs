//! pagelz keeps the contract of a compressor, at every level.

use zpool_conformance::compressor_suite;
use zpool_pagelz::PagelzDriver;
use zpool_testing::heap::{self, CountingAllocator};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

compressor_suite!(fast, [stateless, no_heap], PagelzDriver, "", heap_calls = heap::calls);
compressor_suite!(level_2, [no_heap], PagelzDriver, "level=2", heap_calls = heap::calls);
compressor_suite!(dense, [no_heap], PagelzDriver, "level=3", heap_calls = heap::calls);
