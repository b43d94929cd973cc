//! The measurements of each allocator.

use std::hint::black_box;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use benches::{BenchAllocator, BenchBoxes, verify};
use criterion::{BatchSize, BenchmarkGroup, Criterion, Throughput, measurement::WallTime};
use workload::Rng;
use zpool_core::page::default_source;
use zpool_core::{CompactionBudget, PoolConfig, ZPoolDriver};
use zpool_zsmalloc::ZsmallocDriver;

/// About 5 MiB of objects, more than the caches of a core hold.
const OBJECTS: usize = 4096;
const SEED: u64 = 1;

pub(crate) fn objects() -> Vec<Box<[u8]>> {
    benches::objects(SEED, OBJECTS)
}

pub(crate) fn short() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
}

/// Measures insert, read, free and churn, after verifying the objects.
pub(crate) fn bench<P>(criterion: &mut Criterion, name: &str, allocator: &P, objects: &[Box<[u8]>])
where
    P: BenchAllocator + Sync,
    P::Token: Send + Sync,
{
    verify(allocator, objects);
    verify(&BenchBoxes, objects);
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Elements(objects.len() as u64));
    for threads in [1, 2] {
        group.bench_function(format!("insert, {threads} threads"), |bencher| {
            bencher.iter_custom(|passes| {
                (0..passes).map(|_| insert_all(allocator, threads, objects)).sum()
            });
        });
        group.bench_function(format!("free, {threads} threads"), |bencher| {
            bencher.iter_custom(|passes| {
                (0..passes).map(|_| free_all(allocator, threads, objects)).sum()
            });
        });
        on_threads(&mut group, "read", threads, allocator, objects, |allocator, tokens, _| {
            let ends = |bytes: &[u8]| black_box(bytes[0]) ^ black_box(bytes[bytes.len() - 1]);
            black_box(
                tokens.iter().flatten().fold(0, |sum, token| sum ^ allocator.read(token, ends)),
            );
        });
        on_threads(&mut group, "churn", threads, allocator, objects, |allocator, tokens, rng| {
            for _ in 0..tokens.len() {
                let (at, with) = (rng.below(tokens.len()), rng.below(objects.len()));
                if let Some(token) = tokens[at].take() {
                    allocator.free(token);
                }
                tokens[at] = Some(allocator.insert(&objects[with]));
            }
        });
    }
    group.finish();
}

/// Measures the time of a compaction after a random half was freed.
pub(crate) fn bench_compaction(criterion: &mut Criterion, objects: &[Box<[u8]>]) {
    criterion.bench_function("zsmalloc/compaction", |bencher| {
        let half_empty = || {
            let pool = ZsmallocDriver
                .create(&PoolConfig::new(default_source(), 4096))
                .expect("the defaults are good");
            let mut rng = Rng::new(SEED);
            for object in objects {
                let handle = pool.insert(object).expect("there is memory");
                if rng.chance(0.5) {
                    pool.free(handle).expect("our handle");
                } else {
                    // It lives until the pool is dropped.
                    let _ = handle;
                }
            }
            pool
        };
        let compact = |pool: Box<dyn zpool_core::ZPool>| {
            black_box(pool.compact(CompactionBudget::UNLIMITED));
            pool
        };
        bencher.iter_batched(half_empty, compact, BatchSize::PerIteration);
    });
}

fn fill<P: BenchAllocator>(allocator: &P, objects: &[Box<[u8]>]) -> Vec<P::Token> {
    objects.iter().map(|object| allocator.insert(object)).collect()
}

fn shuffled<T>(mut tokens: Vec<T>) -> Vec<T> {
    Rng::new(SEED).shuffle(&mut tokens);
    tokens
}

/// Returns the time of inserting all objects on each of `threads` threads into one empty allocator.
fn insert_all<P>(allocator: &P, threads: usize, objects: &[Box<[u8]>]) -> Duration
where
    P: BenchAllocator + Sync,
    P::Token: Send,
{
    let allocator = allocator.fresh();
    together(vec![(); threads], |()| fill(&allocator, objects)).0
}

/// Returns the time of freeing all objects on each of `threads` threads, in random order.
fn free_all<P>(allocator: &P, threads: usize, objects: &[Box<[u8]>]) -> Duration
where
    P: BenchAllocator + Sync,
    P::Token: Send,
{
    let allocator = allocator.fresh();
    let tokens = (0..threads).map(|_| shuffled(fill(&allocator, objects))).collect();
    together(tokens, |tokens: Vec<P::Token>| {
        tokens.into_iter().for_each(|token| allocator.free(token))
    })
    .0
}

/// Measures `pass` on `threads` threads, which share an allocator and have their own objects: the
/// time until all have passed over theirs.
fn on_threads<P>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    what: &str,
    threads: usize,
    allocator: &P,
    objects: &[Box<[u8]>],
    pass: impl Fn(&P, &mut [Option<P::Token>], &mut Rng) + Sync,
) where
    P: BenchAllocator + Sync,
    P::Token: Send,
{
    group.bench_function(format!("{what}, {threads} threads"), |bencher| {
        bencher.iter_custom(|passes| {
            let allocator = allocator.fresh();
            let share = |thread| {
                let tokens: Vec<_> =
                    shuffled(fill(&allocator, objects)).into_iter().map(Some).collect();
                (thread, tokens)
            };
            let shares = (0..threads as u64).map(share).collect();
            let (elapsed, _tokens) = together(shares, |(thread, mut tokens)| {
                let mut rng = Rng::new(thread);
                (0..passes).for_each(|_| pass(&allocator, &mut tokens, &mut rng));
                tokens
            });
            elapsed
        })
    });
}

/// Does `work` on a thread for each share. Returns the time until all are done, and the results.
fn together<I: Send, R: Send>(shares: Vec<I>, work: impl Fn(I) -> R + Sync) -> (Duration, Vec<R>) {
    let gate = Barrier::new(shares.len() + 1);
    thread::scope(|scope| {
        let (gate, work) = (&gate, &work);
        let start = |share| {
            scope.spawn(move || {
                gate.wait();
                work(share)
            })
        };
        let workers: Vec<_> = shares.into_iter().map(start).collect();
        gate.wait();
        let begun = Instant::now();
        let results =
            workers.into_iter().map(|worker| worker.join().expect("no worker panics")).collect();
        (begun.elapsed(), results)
    })
}
