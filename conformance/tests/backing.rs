//! The backing stores of zpool-testing pass the suite, with every kind of capabilities.

use std::sync::Arc;

use zpool_conformance::backing_store_suite;
use zpool_core::backing::BackingCapabilities;
use zpool_testing::backing::{FaultyBacking, MemoryBacking};

fn capabilities(segment_bytes: usize, segments: u32) -> BackingCapabilities {
    BackingCapabilities::new(segment_bytes, segments).expect("capabilities that can be")
}

fn aligned() -> BackingCapabilities {
    capabilities(1 << 16, 20).with_alignment(4096).expect("it divides the segment")
}

backing_store_suite!(memory, [parts], || MemoryBacking::new(super::capabilities(10_000, 20)));
backing_store_suite!(aligned_memory, [parts], || MemoryBacking::new(aligned()));
backing_store_suite!(one_segment, [parts], || MemoryBacking::new(super::capabilities(1, 1)));
backing_store_suite!(remote_wholes, [remote], || {
    MemoryBacking::new(aligned().without_partial_reads().with_remote())
});
backing_store_suite!(faulty_without_faults, [parts], || {
    FaultyBacking::new(Arc::new(MemoryBacking::new(aligned())))
});
