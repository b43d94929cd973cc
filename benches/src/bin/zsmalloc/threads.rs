//! Two threads over one.

use std::sync::Mutex;
use std::time::Duration;

use workload::{Objects, Report, Rng, rate, scaling_of, xorshift};
use zpool_core::spec::Params;
use zpool_core::{Handle, ZPool};

use crate::filled_pool::{FilledPool, insert};
use crate::reads::read_all;

const WINDOW: Duration = Duration::from_millis(100);
const ROUNDS: usize = 9;

/// The number of objects of a thread that inserts and frees.
const KEPT: usize = 256;

/// Reports reads, and inserts with frees, on two threads over one, next to the machine's own
/// scaling.
pub(crate) fn scaling(objects: &Objects, params: &Params, report: &mut Report) {
    let filled = FilledPool::filled(objects, params);
    let pool = &*filled.pool;
    let mut handles = filled.handles;
    Rng::new(3).shuffle(&mut handles);
    let chunks: Vec<&[Handle]> = handles.chunks(64).collect();
    let reads = |threads: usize, window: Duration| {
        rate(threads, window, |thread| {
            let mut at = thread * chunks.len() / 2;
            let chunks = &chunks;
            move || {
                at = (at + 1) % chunks.len();
                read_all(pool, chunks[at]);
                chunks[at].len() as u64
            }
        })
    };
    let length = median_length(objects);
    let object = vec![7; length];
    let empty = FilledPool::empty(params);
    let inserts = |threads, window, layout| {
        let kept = Mutex::new(fill(&*empty.pool, &object, threads, layout));
        rate(threads, window, |_| {
            let mut kept = kept.lock().expect("no thread panics").pop().expect("one per thread");
            let (pool, object, mut at) = (&*empty.pool, &object[..], 0);
            move || {
                for _ in 0..64 {
                    at = (at + 97) % KEPT;
                    if let Some(handle) = kept[at].take() {
                        pool.free(handle).expect("our handle");
                    }
                    kept[at] = Some(insert(pool, object));
                }
                64
            }
        })
    };
    let contiguous =
        |threads: usize, window: Duration| inserts(threads, window, ObjectLayout::Contiguous);
    let interleaved =
        |threads: usize, window: Duration| inserts(threads, window, ObjectLayout::Interleaved);
    let spreads = scaling_of(2, WINDOW, ROUNDS, &[&xorshift, &reads, &contiguous, &interleaved]);
    let (machine, reads, inserts) = (spreads[0], spreads[1], spreads[2]);
    report.push(reads.over(machine.median).figure("read_scaling", "ratio"));
    report.push(reads.figure("read_two_threads_over_one", "ratio"));
    report.push(inserts.figure("insert_free_speedup", "ratio"));
    report.push(spreads[3].figure("insert_free_speedup_by_turns", "ratio"));
    report.push(machine.figure("machine_two_threads_over_one", "ratio"));
}

/// The layout of the threads' objects in memory.
#[derive(Clone, Copy)]
enum ObjectLayout {
    /// The objects of a thread follow each other.
    Contiguous,
    /// The objects of the threads alternate. Each shares its first and last cache line with an
    /// object of another thread, and so does its handle entry. The cost depends on how far apart
    /// the two processors are.
    Interleaved,
}

/// Inserts objects for each thread.
fn fill(
    pool: &dyn ZPool,
    object: &[u8],
    threads: usize,
    layout: ObjectLayout,
) -> Vec<Vec<Option<Handle>>> {
    let mut kept: Vec<Vec<_>> = (0..threads).map(|_| Vec::with_capacity(KEPT)).collect();
    for i in 0..threads * KEPT {
        let of = match layout {
            ObjectLayout::Contiguous => i / KEPT,
            ObjectLayout::Interleaved => i % threads,
        };
        kept[of].push(Some(insert(pool, object)));
    }
    kept
}

fn median_length(objects: &Objects) -> usize {
    let mut lengths: Vec<usize> = objects.iter().map(<[u8]>::len).collect();
    lengths.sort_unstable();
    lengths[lengths.len() / 2]
}
