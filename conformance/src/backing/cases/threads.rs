//! Several threads at once.

use std::thread;

use zpool_core::internal::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::backing::BackingMaker;
use crate::backing::harness::BackingHarness;
use crate::iterations::scaled;
use crate::rng::SplitMix;

/// W4: a segment is discarded and written again and again while two threads read it. Each read
/// returns bytes or an error, and afterwards the latest contents are there. Another segment always
/// reads back.
pub fn w4_reads_race_with_writes(maker: &BackingMaker) {
    let harness = BackingHarness::new(maker);
    let segments = harness.segments(2);
    let (other, raced) = (segments[0], segments[segments.len() - 1]);
    let alone = other == raced;
    harness.write_version(other, 0);
    let (ended, reads, versions) = (AtomicBool::new(false), AtomicUsize::new(0), scaled(40));
    thread::scope(|scope| {
        let read = || {
            // Acquire: pairs with the Release below.
            while !ended.load(Ordering::Acquire) {
                let _ = harness.read(raced, 0, harness.whole());
                // Relaxed, here and below: a count.
                reads.fetch_add(1, Ordering::Relaxed);
                if !alone {
                    harness.assert_version(other, 0);
                }
            }
        };
        let readers = [scope.spawn(read), scope.spawn(read)];
        // Waits for the end of a read, so that each state of the segment is read.
        let meet_a_read = || {
            let before = reads.load(Ordering::Relaxed);
            let has_readers = || readers.iter().any(|reader| !reader.is_finished());
            while reads.load(Ordering::Relaxed) == before && has_readers() {
                thread::yield_now();
            }
        };
        for version in 1..=versions as u64 {
            harness.discard(raced);
            meet_a_read();
            harness.write_version(raced, version);
            meet_a_read();
        }
        ended.store(true, Ordering::Release);
    });
    harness.assert_version(raced, versions as u64);
}

/// W9: four threads read parts of one segment at once.
pub fn w9_threads_share_a_segment(maker: &BackingMaker) {
    let harness = BackingHarness::new(maker);
    let segment = harness.segments(1)[0];
    let contents = harness.contents(segment, 0, harness.whole());
    harness.write(segment, &contents);
    thread::scope(|scope| {
        for seed in 0..4 {
            let (harness, contents) = (&harness, &contents);
            scope.spawn(move || {
                let mut rng = SplitMix::new(seed);
                for _ in 0..scaled(40) {
                    let (offset, len) = harness.any_range(&mut rng, contents.len());
                    harness.assert_part(segment, contents, offset, len);
                }
            });
        }
    });
}

/// W9: four threads write, read and discard segments, each its own ones.
pub fn w9_threads_have_segments_of_their_own(maker: &BackingMaker) {
    let harness = BackingHarness::new(maker);
    let segments = harness.segments(8);
    thread::scope(|scope| {
        for mine in segments.chunks(2) {
            let harness = &harness;
            scope.spawn(move || {
                for version in 0..scaled(15) as u64 {
                    mine.iter().for_each(|segment| harness.write_version(*segment, version));
                    mine.iter().for_each(|segment| harness.assert_version(*segment, version));
                    mine.iter().for_each(|segment| harness.discard(*segment));
                }
            });
        }
    });
}
