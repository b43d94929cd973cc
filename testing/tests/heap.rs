//! The counting allocator, in a binary of its own.

use std::hint::black_box;

use zpool_testing::heap::{CountingAllocator, Heap, Refusal, calls_of, refusing_some};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// Each thread has counters of its own.
#[test]
fn calls_are_counted_per_thread() {
    let before = Heap::now();
    std::thread::spawn(|| {
        let mut bytes = black_box(vec![1_u8; 100]);
        assert_eq!(calls_of(|| bytes.reserve(1000)), 2, "a growing vector");
        assert_eq!(calls_of(|| drop(bytes)), 1);
    })
    .join()
    .unwrap();
    let kept = black_box(vec![1_u8; 100]);
    let since = Heap::since(before);
    assert!(since.bytes >= 100 && since.allocations > since.frees, "{since:?}");
    drop(kept);
}

/// The request is refused, and those before and after it are not.
#[test]
fn nth_request_is_refused() {
    let reserve = || Vec::<u8>::new().try_reserve(black_box(10)).is_ok();
    let three = || [reserve(), reserve(), reserve()];
    assert_eq!(refusing_some(Refusal::Nth(1), three), ([true, false, true], true));
    assert_eq!(refusing_some(Refusal::From(1), three), ([true, false, false], true));
    assert_eq!(refusing_some(Refusal::Nth(3), three), ([true, true, true], false));
    assert_eq!(refusing_some(Refusal::AtLeast(11), three).0, [true, true, true]);
    assert_eq!(refusing_some(Refusal::AtLeast(10), three).0, [false, false, false]);
}

/// Only a request that grows an allocation is refused.
#[test]
fn growth_is_refused_alone() {
    let mut bytes = Vec::<u8>::with_capacity(10);
    let grow = || {
        let fresh = Vec::<u8>::new().try_reserve(black_box(10)).is_ok();
        bytes.extend([0; 10]);
        (fresh, bytes.try_reserve(black_box(10)).is_ok())
    };
    assert_eq!(refusing_some(Refusal::NthGrowth(0), grow), ((true, false), true));
}
