//! Two threads over one.

use std::time::Duration;

use workload::{Objects, Report, Rng, rate, scaling_of, xorshift};
use zpool_core::Handle;
use zpool_core::spec::Params;

use crate::reads::read_all;
use crate::shelf::{Shelf, insert};

const WINDOW: Duration = Duration::from_millis(100);
const ROUNDS: usize = 9;

/// Objects that a thread keeps while it inserts and frees.
const KEPT: usize = 256;

/// Reads, and inserts with frees, on two threads over one, beside what the machine does.
pub(crate) fn scaling(objects: &Objects, params: &Params, report: &mut Report) {
    let shelf = Shelf::filled(objects, params);
    let pool = &*shelf.pool;
    let mut handles = shelf.handles;
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
    let empty = Shelf::empty(params);
    let inserts = |threads: usize, window: Duration| {
        let (pool, object) = (&*empty.pool, &object[..]);
        rate(threads, window, |_| {
            let mut kept: Vec<Option<Handle>> = (0..KEPT).map(|_| Some(insert(pool, object))).collect();
            let mut at = 0;
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
    let spreads = scaling_of(2, WINDOW, ROUNDS, &[&xorshift, &reads, &inserts]);
    let (machine, reads, inserts) = (spreads[0], spreads[1], spreads[2]);
    report.push(reads.over(machine.median).figure("read_scaling", "ratio"));
    report.push(reads.figure("read_two_threads_over_one", "ratio"));
    report.push(inserts.figure("insert_free_speedup", "ratio"));
    report.push(machine.figure("machine_two_threads_over_one", "ratio"));
}

fn median_length(objects: &Objects) -> usize {
    let mut lengths: Vec<usize> = objects.iter().map(<[u8]>::len).collect();
    lengths.sort_unstable();
    lengths[lengths.len() / 2]
}
