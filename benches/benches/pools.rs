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

use benches::{Boxes, Packer, density, objects, pools, verify};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use workload::Rng;

/// About 5 MiB of objects, more than the caches of a core hold.
const OBJECTS: usize = 4096;
const SEED: u64 = 1;

fn all(criterion: &mut Criterion) {
    let objects = objects(SEED, OBJECTS);
    bench(criterion, &Boxes, &objects);
    pools().iter().for_each(|pool| bench(criterion, pool, &objects));
}

fn bench(criterion: &mut Criterion, packer: &impl Packer, objects: &[Box<[u8]>]) {
    verify(packer, objects);
    eprintln!("{}: {:.3} bytes held per byte of objects", packer.name(), density(packer, objects));

    let mut group = criterion.benchmark_group(packer.name());
    group.throughput(Throughput::Elements(objects.len() as u64));
    let fill = |packer: &_| {
        objects.iter().map(|object| Packer::insert(packer, object)).collect::<Vec<_>>()
    };
    group.bench_function("insert", |bencher| {
        bencher.iter_batched(
            || packer.fresh(),
            |packer| {
                let tokens = fill(&packer);
                (packer, tokens)
            },
            BatchSize::PerIteration,
        );
    });
    group.bench_function("read", |bencher| {
        let packer = packer.fresh();
        let mut tokens = fill(&packer);
        Rng::new(SEED).shuffle(&mut tokens);
        let ends = |bytes: &[u8]| black_box(bytes[0]) ^ black_box(bytes[bytes.len() - 1]);
        bencher.iter(|| tokens.iter().fold(0, |sum, token| sum ^ packer.read(token, ends)));
    });
    group.bench_function("free", |bencher| {
        bencher.iter_batched(
            || {
                let packer = packer.fresh();
                let mut tokens = fill(&packer);
                Rng::new(SEED).shuffle(&mut tokens);
                (packer, tokens)
            },
            |(packer, tokens)| {
                tokens.into_iter().for_each(|token| packer.free(token));
                packer
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
