//! Replaces objects, against boxes on mimalloc.

use std::hint::black_box;

use workload::{
    Elapsed, Objects, PartWork, Report, Rng, Spread, clocked, clocked_process, interleave,
};
use zpool_core::exec::DrainExecutor;
use zpool_core::spec::Params;

use crate::filled_pool::{FilledPool, insert};

const ROUNDS: usize = 11;

/// A round replaces as many objects as there are, in this many parts.
const PARTS: usize = 8;

/// Reports the time of replacing random objects, over the time of replacing boxes. Once for the
/// thread that does so, and once for all threads, because the pool also works in the background
/// until its part ends.
pub(crate) fn over_mimalloc(objects: &Objects, params: &Params, report: &mut Report) {
    let n = objects.len();
    let FilledPool { pool, handles, executor } = FilledPool::filled(objects, params);
    let mut handles: Vec<_> = handles.into_iter().map(Some).collect();
    let mut boxes: Vec<Box<[u8]>> = objects.iter().map(Box::from).collect();
    let draws = |rng: &mut Rng| -> Vec<(usize, usize)> {
        (0..n / PARTS).map(|_| (rng.below(n), rng.below(n))).collect()
    };
    let (mut ours, mut theirs) = (Rng::new(5), Rng::new(5));
    // The page in each slot at the end, to verify the slots.
    let mut contents: Vec<usize> = (0..n).collect();
    let rounds = interleave(
        ROUNDS,
        PARTS,
        &mut [
            PartWork::new("zsmalloc", |_| {
                let draws = draws(&mut ours);
                draws.iter().for_each(|&(slot, with)| contents[slot] = with);
                let replace = |&(slot, with): &(usize, usize)| {
                    if let Some(handle) = handles[slot].take() {
                        pool.free(handle).expect("our handle");
                    }
                    handles[slot] = Some(insert(&*pool, objects.get(with)));
                };
                both_clocks(
                    || draws.iter().for_each(replace),
                    || executor.flush().expect("this thread is not one of the executor's"),
                )
            }),
            PartWork::new("mimalloc", |_| {
                let draws = draws(&mut theirs);
                let replace = |&(slot, with): &(usize, usize)| {
                    // Free it first, as above.
                    drop(std::mem::take(&mut boxes[slot]));
                    boxes[slot] = black_box(Box::from(objects.get(with)));
                };
                both_clocks(|| draws.iter().for_each(replace), || ())
            }),
        ],
    );
    for ((handle, &page), boxed) in handles.iter().zip(&contents).zip(&boxes) {
        let handle = handle.as_ref().expect("every slot is full");
        assert!(
            &*pool.read(handle).expect("live") == objects.get(page)
                && **boxed == *objects.get(page)
        );
    }
    report.push(rounds.cpu.ratio(0, 1).figure("churn_over_mimalloc", "ratio"));
    report.push(rounds.wall.ratio(0, 1).figure("churn_with_background_over_mimalloc", "ratio"));
    for (i, name) in [(0, "churn_ns"), (1, "churn_mimalloc_ns")] {
        let (ns, each) = (rounds.cpu.ns(i), (n / PARTS * PARTS) as f64);
        let spread = Spread { median: ns.median / each, low: ns.low / each, high: ns.high / each };
        report.push(spread.figure(name, "ns"));
    }
}

/// Returns as `cpu` the time of this thread for `work`, and as `wall` the time of all threads until
/// `rest` is over.
fn both_clocks(work: impl FnOnce(), rest: impl FnOnce()) -> Elapsed {
    let (all, own) = clocked_process(|| {
        let (own, ()) = clocked(work);
        rest();
        own
    });
    Elapsed { cpu: own.cpu, wall: all.cpu }
}
