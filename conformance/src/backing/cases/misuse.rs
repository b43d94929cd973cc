//! Calls that contradict the capabilities panic, and change nothing.

use std::panic::{AssertUnwindSafe, catch_unwind};

use zpool_core::backing::SegmentNumber;

use crate::backing::BackingMaker;
use crate::backing::harness::BackingHarness;

/// Runs a call that must panic.
fn assert_panics(what: &str, call: impl FnOnce()) {
    let outcome = catch_unwind(AssertUnwindSafe(call));
    assert!(outcome.is_err(), "W8: {what} did not panic");
}

/// Makes a backing store whose first and last segments hold something, runs `misuse`, and checks
/// that they hold the same afterwards.
fn with_contents(maker: &BackingMaker, misuse: impl FnOnce(&BackingHarness)) {
    let harness = BackingHarness::new(maker);
    let segments = harness.segments(2);
    segments.iter().for_each(|segment| harness.write_version(*segment, 0));
    misuse(&harness);
    segments.iter().for_each(|segment| harness.assert_version(*segment, 0));
}

/// W8: every method panics if there is no such segment.
pub fn w8_segments_beyond_the_last_panic(maker: &BackingMaker) {
    with_contents(maker, |harness| {
        let store = harness.store();
        for number in [harness.capabilities.segments(), u32::MAX] {
            let segment = SegmentNumber::new(number);
            let contents = harness.contents(segment, 1, harness.whole());
            assert_panics("a write of no segment", || drop(store.write(segment, &contents)));
            let read = || drop(harness.read(segment, 0, harness.whole()));
            assert_panics("a read of no segment", read);
            assert_panics("a discard of no segment", || drop(store.discard(segment)));
        }
    });
}

/// W8: writes and reads of no bytes, of more than a segment, or that reach beyond it panic.
pub fn w8_lengths_out_of_range_panic(maker: &BackingMaker) {
    with_contents(maker, |harness| {
        let (alignment, whole) = (harness.capabilities.alignment(), harness.whole());
        for segment in harness.segments(2) {
            for len in [0, whole + alignment] {
                let contents = harness.contents(segment, 1, len);
                let write = || drop(harness.store().write(segment, &contents));
                assert_panics("a write that is empty or too long", write);
                let read = || drop(harness.read(segment, 0, len));
                assert_panics("a read that is empty or too long", read);
            }
            let beyond = if harness.capabilities.partial_reads() { whole } else { alignment };
            let read = || drop(harness.read(segment, beyond, alignment));
            assert_panics("a read beyond the segment, or of a part of a whole", read);
        }
    });
}

/// W8: lengths, offsets and addresses that are not aligned panic. Without an alignment there is
/// nothing to check.
pub fn w8_misaligned_calls_panic(maker: &BackingMaker) {
    with_contents(maker, |harness| {
        let alignment = harness.capabilities.alignment();
        if alignment == 1 {
            return;
        }
        let (half, store) = (alignment / 2, harness.store());
        for segment in harness.segments(2) {
            let mut bytes = harness.buffer(2 * alignment);
            let write = || drop(store.write(segment, &bytes[..half]));
            assert_panics("a write of half a unit", write);
            let write = || drop(store.write(segment, &bytes[half..half + alignment]));
            assert_panics("a write from a misaligned address", write);
            let read = || drop(store.read(segment, 0, &mut bytes[half..half + alignment]));
            assert_panics("a read to a misaligned address", read);
            assert_panics("a read of half a unit", || drop(harness.read(segment, 0, half)));
            let read = || drop(harness.read(segment, half, alignment));
            assert_panics("a read from a misaligned offset", read);
        }
    });
}
