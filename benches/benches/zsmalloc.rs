//! zsmalloc against one box per object on the system's allocator: insert, read, free, churn and
//! compaction, on one thread and on two.
//!
//! `boxes_mimalloc` and `boxes_jemalloc` have the same boxes on other allocators. This program must
//! not link zpool-lzo, because criterion links ciborium, which is Apache-2.0 only.

#![allow(missing_docs, reason = "criterion's macros make undocumented items")]

mod suite;

use benches::{BenchBoxes, pools};
use criterion::{Criterion, criterion_group, criterion_main};

fn all(criterion: &mut Criterion) {
    let objects = suite::objects();
    for pool in pools().iter().filter(|pool| benches::BenchAllocator::name(*pool) == "zsmalloc") {
        suite::bench(criterion, "zsmalloc", pool, &objects);
        suite::bench_compaction(criterion, &objects);
    }
    suite::bench(criterion, "boxes (system)", &BenchBoxes, &objects);
}

criterion_group! { name = benches; config = suite::short(); targets = all }
criterion_main!(benches);
