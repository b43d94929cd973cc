//! Sixty-four at a time, and one by one.

use workload::{Elapsed, Pages, PartWork, Report, clocked, interleave};

use crate::{PAGE, PART, ROUNDS, filled};

const BATCH: usize = 64;

/// Loads the blocks of some keys into as many buffers.
type Work<'a> = &'a dyn Fn(&[u64], &mut [[u8; 4096]]);

pub(crate) fn measure(pages: &Pages, report: &mut Report) {
    let parts = pages.len() / PART;
    let (single, many) = (filled(pages), filled(pages));
    let keys: Vec<u64> = (0..pages.len() as u64).collect();
    let part_of = |part: usize| part * PART..(part + 1) * PART;
    let right = |buffers: &[[u8; 4096]], part: usize| {
        assert!(
            buffers.iter().zip(part_of(part)).all(|(buffer, i)| buffer == pages.block(i)),
            "a page came back changed"
        );
    };
    let load = |part: usize, buffers: &mut Vec<[u8; 4096]>, work: Work<'_>| -> Elapsed {
        buffers.clear();
        buffers.resize(PART, [0xA5; PAGE.get()]);
        let (elapsed, ()) = clocked(|| work(&keys[part_of(part)], buffers));
        right(buffers, part);
        elapsed
    };
    let (mut a, mut b) = (Vec::new(), Vec::new());
    let one_by_one = |keys: &[u64], buffers: &mut [[u8; 4096]]| {
        for (key, buffer) in keys.iter().zip(buffers) {
            single.load(key, buffer).expect("no fault");
        }
    };
    let at_once = |keys: &[u64], buffers: &mut [[u8; 4096]]| {
        for (keys, buffers) in keys.chunks(BATCH).zip(buffers.chunks_mut(BATCH)) {
            assert!(many.load_many(keys, buffers).iter().all(Result::is_ok), "no fault");
        }
    };
    let mut loads = [
        PartWork::new("load", |part| load(part, &mut a, &one_by_one)),
        PartWork::new("load_many", |part| load(part, &mut b, &at_once)),
    ];
    let taken = interleave(ROUNDS, parts, &mut loads).cpu;
    drop(loads);
    // Throughput: times the other way round.
    report.push(taken.ratio(0, 1).figure("load_many_over_load", "ratio"));

    let mut stores = [
        PartWork::new("store", |part| {
            clocked(|| {
                part_of(part).for_each(|i| single.store(keys[i], pages.block(i)).expect("there is no limit"))
            })
            .0
        }),
        PartWork::new("store_many", |part| {
            clocked(|| {
                for i in part_of(part).step_by(BATCH) {
                    let results = many.store_many((i..i + BATCH).map(|i| (keys[i], pages.block(i))));
                    assert!(results.iter().all(Result::is_ok), "there is no limit");
                }
            })
            .0
        }),
    ];
    let taken = interleave(ROUNDS, parts, &mut stores).cpu;
    drop(stores);
    report.push(taken.ratio(0, 1).figure("store_many_over_store", "ratio"));
}
