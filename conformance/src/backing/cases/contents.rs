//! Reads return the bytes that were written.

use std::collections::HashMap;

use zpool_core::backing::{AlignedBytes, SegmentNumber};

use crate::backing::BackingMaker;
use crate::backing::harness::BackingHarness;
use crate::iterations::scaled;
use crate::rng::SplitMix;

/// `capabilities`: they are the same before and after calls.
pub fn capabilities_never_change(maker: &BackingMaker) {
    let harness = BackingHarness::new(maker);
    for segment in harness.segments(3) {
        harness.write_version(segment, 0);
        harness.assert_version(segment, 0);
        harness.discard(segment);
        assert_eq!(harness.store().capabilities(), harness.capabilities, "capabilities: changed");
    }
}

/// W1: every segment, the last one too, holds its own contents, whatever the order of reads, and
/// however often it is read.
pub fn w1_segments_read_back(maker: &BackingMaker) {
    let harness = BackingHarness::new(maker);
    let segments = harness.segments(6);
    for segment in &segments {
        harness.write_version(*segment, 1);
    }
    for segment in segments.iter().rev().chain(&segments) {
        harness.assert_version(*segment, 1);
    }
}

/// W1, W7: any part of a segment reads back, all bytes of it: the first ones, the last ones, parts
/// at random.
pub fn w1_parts_read_back(maker: &BackingMaker) {
    let harness = BackingHarness::new(maker);
    let (alignment, whole) = (harness.capabilities.alignment(), harness.whole());
    let mut rng = SplitMix::new(1);
    for segment in harness.segments(2) {
        let contents = harness.contents(segment, 0, whole);
        harness.write(segment, &contents);
        harness.assert_part(segment, &contents, 0, alignment);
        harness.assert_part(segment, &contents, whole - alignment, alignment);
        for _ in 0..scaled(60) {
            let (offset, len) = harness.any_range(&mut rng, whole);
            harness.assert_part(segment, &contents, offset, len);
        }
    }
}

/// W1: two backing stores that exist at once do not share segments, and one outlives the other.
pub fn w1_stores_are_separate(maker: &BackingMaker) {
    let (first, second) = (BackingHarness::new(maker), BackingHarness::new(maker));
    let segments = first.segments(2);
    for segment in &segments {
        first.write_version(*segment, 1);
        second.write_version(*segment, 2);
    }
    for segment in &segments {
        first.assert_version(*segment, 1);
        second.discard(*segment);
        first.assert_version(*segment, 1);
    }
    drop(second);
    for segment in &segments {
        first.assert_version(*segment, 1);
    }
}

/// W2: a segment that was written in part reads back in that part, the shortest one too, and after
/// a longer or a shorter write.
pub fn w2_short_writes_read_back(maker: &BackingMaker) {
    let harness = BackingHarness::new(maker);
    let mut rng = SplitMix::new(2);
    let shortest = harness.capabilities.alignment();
    let mut lens = vec![harness.whole(), shortest, harness.whole(), shortest];
    lens.extend((0..scaled(20)).map(|_| harness.any_len(&mut rng)));
    for segment in harness.segments(2) {
        for (version, len) in lens.iter().enumerate() {
            let contents = harness.contents(segment, version as u64, *len);
            harness.write(segment, &contents);
            harness.assert_part(segment, &contents, 0, *len);
            let (offset, len) = harness.any_range(&mut rng, *len);
            harness.assert_part(segment, &contents, offset, len);
            harness.discard(segment);
        }
    }
}

/// W2: a read returns if it is of a segment that was never written or is discarded, or if it
/// reaches beyond what was written. Other calls then work as before.
pub fn w2_reads_of_nothing_return(maker: &BackingMaker) {
    let harness = BackingHarness::new(maker);
    let (alignment, whole) = (harness.capabilities.alignment(), harness.whole());
    for segment in harness.segments(3) {
        let _ = harness.read(segment, 0, whole);
        let contents = harness.contents(segment, 0, alignment);
        harness.write(segment, &contents);
        let _ = harness.read(segment, 0, whole);
        if harness.capabilities.partial_reads() {
            let _ = harness.read(segment, whole - alignment, alignment);
        }
        harness.assert_part(segment, &contents, 0, alignment);
        harness.discard(segment);
        let _ = harness.read(segment, 0, alignment);
        harness.write_version(segment, 1);
        harness.assert_version(segment, 1);
    }
}

/// W3: segments are written again after a discard, any number of times, and hold the latest
/// contents. Other segments keep theirs.
pub fn w3_segments_are_written_again(maker: &BackingMaker) {
    let harness = BackingHarness::new(maker);
    let segments = harness.segments(4);
    let (kept, rewritten) = segments.split_at(segments.len() / 2);
    for segment in kept {
        harness.write_version(*segment, 1_000_000);
    }
    for version in 0..scaled(40) as u64 {
        for segment in rewritten {
            harness.write_version(*segment, version);
            harness.assert_version(*segment, version);
            harness.discard(*segment);
        }
    }
    for segment in kept {
        harness.assert_version(*segment, 1_000_000);
    }
}

/// W5: a discard of a segment that holds nothing is no error, and a discard changes no other
/// segment.
pub fn w5_discards_concern_their_segment(maker: &BackingMaker) {
    let harness = BackingHarness::new(maker);
    let segments = harness.segments(5);
    for segment in &segments {
        harness.discard(*segment);
        harness.write_version(*segment, 0);
    }
    for (n, discarded) in segments.iter().enumerate() {
        harness.discard(*discarded);
        harness.discard(*discarded);
        for segment in &segments[n + 1..] {
            harness.assert_version(*segment, 0);
        }
    }
}

/// W1-W5: random writes of random lengths, reads of random parts, and discards, compared with a
/// model.
pub fn w1_w5_random_calls(maker: &BackingMaker) {
    let harness = BackingHarness::new(maker);
    let segments = harness.segments(5);
    let mut written: HashMap<SegmentNumber, AlignedBytes> = HashMap::new();
    let mut rng = SplitMix::new(3);
    for version in 0..scaled(300) as u64 {
        let segment = segments[rng.below(segments.len())];
        match (rng.below(10), written.contains_key(&segment)) {
            (0..=2, true) => {
                harness.discard(segment);
                written.remove(&segment);
            }
            (_, true) => {
                let contents = &written[&segment];
                let (offset, len) = harness.any_range(&mut rng, contents.len());
                harness.assert_part(segment, contents, offset, len);
            }
            (_, false) => {
                let len = harness.any_len(&mut rng);
                let contents = harness.contents(segment, version, len);
                harness.write(segment, &contents);
                written.insert(segment, contents);
            }
        }
    }
    for (segment, contents) in &written {
        harness.assert_part(*segment, contents, 0, contents.len());
    }
}
