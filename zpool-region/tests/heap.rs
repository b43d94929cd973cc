//! S6: a fault makes no heap call once everything is warm.

#![cfg(target_os = "linux")]

mod common;

use common::{Mode, PAGE, build, fill, has, with_mode};
use zpool_region::Region;
use zpool_testing::heap::{CountingAllocator, Heap};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

const LEN: usize = 16 << 20;

/// Scans and random accesses in signal mode, where faults and reclaim run in this thread, so that
/// its count of heap calls has all of them.
#[test]
fn s6_warm_fault_makes_no_heap_call() {
    let builder = Region::builder().len(LEN).limit_bytes(8 << 20);
    let Some(mut region) = build(with_mode(builder, Mode::Signal)) else { return };
    for (at, page) in region.chunks_mut(PAGE).enumerate() {
        fill(page, at as u64);
    }
    let touch = |region: &mut Region, rounds: usize| {
        let mut at = 1;
        for round in 0..rounds {
            for step in 0..LEN / PAGE {
                at = (at * 1_103_515_245 + 12_345) % (LEN / PAGE);
                let page = if round % 2 == 0 { step } else { at };
                std::hint::black_box(region[page * PAGE + 77]);
            }
        }
    };
    touch(&mut region, 6);
    let faults = region.stats().faults;
    let before = Heap::now();
    touch(&mut region, 4);
    let calls = Heap::since(before).calls();
    let faults = region.stats().faults - faults;
    assert!(faults > 1_000, "{faults} faults");
    println!("{calls} heap calls in {faults} faults");
    // Where a table of the allocator has to grow, the store may ask for memory.
    assert!(calls * 100 <= faults, "{calls} heap calls in {faults} faults");
    for (at, page) in region.chunks(PAGE).enumerate() {
        assert!(has(page, at as u64));
    }
}
