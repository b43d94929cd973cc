//! The backing stores of zpool-testing pass the suite, with every kind of properties.

use std::sync::Arc;

use zpool_conformance::backing_store_suite;
use zpool_core::backing::BackingProperties;
use zpool_testing::backing::{FaultyBacking, MemoryBacking};

fn properties(segment_bytes: usize, segments: u32) -> BackingProperties {
    BackingProperties::new(segment_bytes, segments).expect("properties that can be")
}

fn aligned() -> BackingProperties {
    properties(1 << 16, 20).with_alignment(4096).expect("it divides the segment")
}

backing_store_suite!(memory, [parts], || MemoryBacking::new(super::properties(10_000, 20)));
backing_store_suite!(aligned_memory, [parts], || MemoryBacking::new(aligned()));
backing_store_suite!(one_segment, [parts], || MemoryBacking::new(super::properties(1, 1)));
backing_store_suite!(remote_wholes, [remote], || {
    MemoryBacking::new(aligned().without_partial_reads().with_remote())
});
backing_store_suite!(faulty_without_faults, [parts], || {
    FaultyBacking::new(Arc::new(MemoryBacking::new(aligned())))
});
