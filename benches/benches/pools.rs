//! Allocators against one box per object: insert, read and free, on generated pages that lz4 has
//! compressed.
//!
//! Verifies first, then measures. Times are of all objects together, and criterion converts them to
//! objects per second. Density is a result too, and is printed.
//!
//! This program must not link zpool-lzo, because criterion links ciborium, which is Apache-2.0
//! only.

#![allow(missing_docs, reason = "criterion's macros make undocumented items")]

use std::hint::black_box;
use std::time::Duration;

use benches::{BenchAllocator, BenchBoxes, density, objects, pools, verify};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use workload::Rng;

/// About 5 MiB of objects, more than the caches of a core hold.
const OBJECTS: usize = 4096;
const SEED: u64 = 1;

fn all(criterion: &mut Criterion) {
    let objects = objects(SEED, OBJECTS);
    bench(criterion, &BenchBoxes, &objects);
    pools().iter().for_each(|pool| bench(criterion, pool, &objects));
}

fn bench(criterion: &mut Criterion, allocator: &impl BenchAllocator, objects: &[Box<[u8]>]) {
    verify(allocator, objects);
    eprintln!(
        "{}: {:.3} bytes held per byte of objects",
        allocator.name(),
        density(allocator, objects)
    );

    let mut group = criterion.benchmark_group(allocator.name());
    group.throughput(Throughput::Elements(objects.len() as u64));
    let fill = |allocator: &_| {
        objects.iter().map(|object| BenchAllocator::insert(allocator, object)).collect::<Vec<_>>()
    };
    group.bench_function("insert", |bencher| {
        bencher.iter_batched(
            || allocator.fresh(),
            |allocator| {
                let tokens = fill(&allocator);
                (allocator, tokens)
            },
            BatchSize::PerIteration,
        );
    });
    group.bench_function("read", |bencher| {
        let allocator = allocator.fresh();
        let mut tokens = fill(&allocator);
        Rng::new(SEED).shuffle(&mut tokens);
        let ends = |bytes: &[u8]| black_box(bytes[0]) ^ black_box(bytes[bytes.len() - 1]);
        bencher.iter(|| tokens.iter().fold(0, |sum, token| sum ^ allocator.read(token, ends)));
    });
    group.bench_function("free", |bencher| {
        bencher.iter_batched(
            || {
                let allocator = allocator.fresh();
                let mut tokens = fill(&allocator);
                Rng::new(SEED).shuffle(&mut tokens);
                (allocator, tokens)
            },
            |(allocator, tokens)| {
                tokens.into_iter().for_each(|token| allocator.free(token));
                allocator
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

fn short() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
}

criterion_group! { name = benches; config = short(); targets = all }
criterion_main!(benches);
