//! pagelz keeps the contract of a compressor, at every level.

use zpool_conformance::compressor_suite;
use zpool_pagelz::PagelzDriver;

#[allow(unsafe_code, reason = "a counting allocator has to be an allocator")]
#[allow(dead_code, reason = "only the count is used here")]
#[path = "../../counting.rs"]
mod counting;

compressor_suite!(fast, [stateless, no_heap], PagelzDriver, "", heap_calls = counting::calls);
compressor_suite!(level_2, [no_heap], PagelzDriver, "level=2", heap_calls = counting::calls);
compressor_suite!(dense, [no_heap], PagelzDriver, "level=3", heap_calls = counting::calls);
