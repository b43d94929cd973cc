//! Counting heap calls.

/// Counts the calling thread's heap calls, as the test program's global allocator sees them.
pub(crate) type HeapCalls = Box<dyn Fn() -> u64 + Send + Sync>;
