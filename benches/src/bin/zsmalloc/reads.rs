//! Reads objects, against touching plain slices.

use std::hint::black_box;

use workload::{Objects, PartWork, Report, Rng, Spread, clocked, interleave};
use zpool_core::spec::Params;
use zpool_core::{Handle, ZPool};

use crate::filled_pool::FilledPool;

const ROUNDS: usize = 25;

/// A pass over all objects is cut into this many parts, in which the contestants alternate.
const PARTS: usize = 16;

/// Reports nanoseconds per read, per touch of a slice, and the difference.
pub(crate) fn over_slices(objects: &Objects, params: &Params, report: &mut Report) {
    let filled = FilledPool::filled(objects, params);
    let pool = &*filled.pool;
    for (handle, object) in filled.handles.iter().zip(objects.iter()) {
        assert!(&*pool.read(handle).expect("live") == object, "every object comes back as it was");
    }
    let boxes: Vec<Box<[u8]>> = objects.iter().map(Box::from).collect();
    let mut order: Vec<usize> = (0..objects.len()).collect();
    Rng::new(7).shuffle(&mut order);
    let parts: Vec<&[usize]> = order.chunks(order.len().div_ceil(PARTS)).collect();
    let handles: Vec<&Handle> = order.iter().map(|&i| &filled.handles[i]).collect();
    let handles: Vec<&[&Handle]> = handles.chunks(order.len().div_ceil(PARTS)).collect();
    let slices: Vec<Vec<&[u8]>> =
        parts.iter().map(|part| part.iter().map(|&i| &*boxes[i]).collect()).collect();
    let mut contestants = [
        PartWork::new("read", |part| {
            clocked(|| in_turn(handles[part], |handle| touch(&read(pool, handle)))).0
        }),
        PartWork::new("slice", |part| clocked(|| in_turn(&slices[part], |slice| touch(slice))).0),
        PartWork::new("read", |part| {
            clocked(|| at_once(handles[part], |handle| touch(&read(pool, handle)))).0
        }),
        PartWork::new("slice", |part| clocked(|| at_once(&slices[part], |slice| touch(slice))).0),
    ];
    // Round by round, so that the times of a difference are close to each other.
    let rounds: Vec<[f64; 4]> = (0..ROUNDS)
        .map(|_| {
            let round = interleave(1, parts.len(), &mut contestants).cpu;
            [0, 1, 2, 3].map(|i| round.ns(i).median / objects.len() as f64)
        })
        .collect();
    let mut push = |name: &str, of: &dyn Fn(&[f64; 4]) -> f64| {
        let spread = Spread::of(rounds.iter().map(of)).expect("every round has a time");
        report.push(spread.figure(name, "ns"));
    };
    push("read_over_slice_ns", &|ns| ns[0] - ns[1]);
    push("read_ns", &|ns| ns[0]);
    push("slice_ns", &|ns| ns[1]);
    push("read_over_slice_overlapping_ns", &|ns| ns[2] - ns[3]);
    push("read_overlapping_ns", &|ns| ns[2]);
    push("slice_overlapping_ns", &|ns| ns[3]);
}

/// Looks at each item after the bytes of the one before have arrived, as a decoder does.
fn in_turn<T>(items: &[T], look: impl Fn(&T) -> u8) -> u8 {
    let mut sum = 0;
    for i in 0..items.len() {
        // This is always `i`, but the processor has to wait for the bytes to know.
        let at = i + usize::from(black_box(sum) & black_box(0));
        sum ^= look(&items[at]);
    }
    sum
}

/// Looks at each item. The processor may look at several at once, because none needs the bytes of
/// another.
fn at_once<T>(items: &[T], look: impl Fn(&T) -> u8) -> u8 {
    items.iter().fold(0, |sum, item| sum ^ look(item))
}

/// Reads each object once.
pub(crate) fn read_all(pool: &dyn ZPool, handles: &[Handle]) -> u8 {
    at_once(handles, |handle| touch(&read(pool, handle)))
}

#[inline]
pub(crate) fn read<'a>(pool: &'a dyn ZPool, handle: &Handle) -> zpool_core::ReadGuard<'a> {
    pool.read(handle).expect("live")
}

/// Looks at the first and the last byte.
#[inline]
pub(crate) fn touch(bytes: &[u8]) -> u8 {
    bytes[0] ^ bytes[bytes.len() - 1]
}
