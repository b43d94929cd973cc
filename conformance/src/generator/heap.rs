//! Data that programs build on their heaps: records that own strings, hash maps, trees.

use std::collections::BTreeMap;

use super::image::Image;
use super::text::Vocabulary;
use crate::rng::SplitMix;

/// Addresses of type descriptors, which are few and the same in the whole program.
const TYPES: [u64; 6] = [
    0x55D0_1234_5680,
    0x55D0_1234_8AC0,
    0x55D0_1235_0010,
    0x55D0_1235_0F40,
    0x55D0_1301_2240,
    0x55D0_1301_7780,
];

struct Record<'w> {
    references: u64,
    kind: u64,
    id: u64,
    name: &'w str,
    created: u64,
    score: f64,
    flags: u32,
    level: u8,
}

/// Writes a vector of records of one type, each behind an allocator's header, with the strings that
/// they own between them.
pub(super) fn records(rng: &mut SplitMix, words: &Vocabulary, image: &mut Image) {
    let kind = TYPES[rng.below(TYPES.len())];
    let (mut id, owns_strings) = (rng.below(1 << 20) as u64, rng.percent(60));
    let now = 1_700_000_000_000 + rng.below(1 << 30) as u64;
    let vector: Vec<Record<'_>> = (0..rng.between(5, 30))
        .map(|_| {
            id += rng.between(1, 3) as u64;
            Record {
                references: rng.between(1, 3) as u64,
                kind,
                id,
                name: words.word(rng),
                created: now + rng.below(1 << 22) as u64,
                score: rng.below(400) as f64 / 4.0,
                flags: 1 << rng.below(6),
                level: rng.below(5) as u8,
            }
        })
        .collect();
    for record in &vector {
        let start = image.here();
        image.u64(0x71);
        image.u64(record.references);
        image.u64(record.kind);
        image.u64(record.id);
        // Previous and next in a list through the vector.
        image.u64(start - 0x70);
        image.u64(start + 0x70);
        image.pointer(rng);
        image.u64(record.name.len() as u64);
        image.u64(record.name.len().next_power_of_two() as u64);
        image.u64(record.created);
        image.f64(record.score);
        image.u32(record.flags);
        image.u8(record.level);
        image.zeros(3);
        // Optional fields, mostly absent.
        image.zeros(8);
        if rng.percent(20) {
            image.pointer(rng)
        } else {
            image.zeros(8)
        }
        if owns_strings {
            image.u64(0x21);
            image.bytes_of(record.name);
            image.zeros(32 - record.name.len().min(24) - 8);
            image.align(16);
        }
    }
}

/// Writes an open-addressing map from 8-byte keys to 16-byte values: a control byte per bucket,
/// then the buckets.
pub(super) fn hash_map(rng: &mut SplitMix, image: &mut Image) {
    const EMPTY: u8 = 0xFF;
    let capacity = 1 << rng.between(4, 7);
    let load = rng.between(30, 85);
    let kind = TYPES[rng.below(TYPES.len())];
    let full: Vec<bool> = (0..capacity).map(|_| rng.percent(load)).collect();
    for &full in &full {
        image.u8(if full { rng.below(128) as u8 } else { EMPTY });
    }
    for &full in &full {
        if full {
            // The hash, which a map keeps so that it need not compute it again, is the only field
            // that cannot shrink.
            image.u64(if rng.percent(50) { rng.next() } else { rng.below(5000) as u64 });
            image.pointer(rng);
            image.u64(kind);
        } else {
            image.zeros(24);
        }
    }
}

/// Writes leaves of a B-tree of capacity 11, built as a map and copied out node by node.
pub(super) fn tree(rng: &mut SplitMix, image: &mut Image) {
    const CAPACITY: usize = 11;
    let (mut key, mut map) = (rng.below(1 << 24) as u64, BTreeMap::new());
    for _ in 0..rng.between(20, 80) {
        key += rng.between(1, 1000) as u64;
        map.insert(key, (rng.below(1 << 16) as u32, rng.below(3) as u16));
    }
    let entries: Vec<_> = map.into_iter().collect();
    let parent = image.here() & !0xFFF;
    let mut rest = &entries[..];
    while !rest.is_empty() {
        let (node, after) = rest.split_at(rng.between(5, CAPACITY).min(rest.len()));
        rest = after;
        image.u64(parent);
        node.iter().for_each(|(key, _)| image.u64(*key));
        image.zeros(8 * (CAPACITY - node.len()));
        for (_, (amount, state)) in node {
            image.u32(*amount);
            image.u16(*state);
            image.u16(0);
        }
        image.zeros(8 * (CAPACITY - node.len()));
        image.u16(node.len() as u16);
        image.u16(rng.below(12) as u16);
        image.align(16);
    }
}
