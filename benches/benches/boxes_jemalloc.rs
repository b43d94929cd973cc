//! One box per object on jemalloc, to compare `zsmalloc` with.

#![allow(missing_docs, reason = "criterion's macros make undocumented items")]

#[expect(dead_code, reason = "boxes do not compact")]
mod suite;

use benches::BenchBoxes;
use criterion::{Criterion, criterion_group, criterion_main};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn all(criterion: &mut Criterion) {
    suite::bench(criterion, "boxes (jemalloc)", &BenchBoxes, &suite::objects());
}

criterion_group! { name = benches; config = suite::short(); targets = all }
criterion_main!(benches);
