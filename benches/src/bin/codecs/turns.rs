//! Runs all codecs over the pages of one file, in alternation.

use std::hint::black_box;

use workload::{Elapsed, Pages, PartWork, Spread, clocked, interleave};

use crate::subject::Subject;

/// The yardsticks' places among the codecs.
const LZ4: usize = 0;
const ZSTD: usize = 1;

/// Bytes of blocks that one codec works on before the next one takes over.
const PART_BYTES: usize = 256 << 10;

/// Figures of one codec on one file.
pub(crate) struct Measured {
    pub(crate) codec: String,
    pub(crate) bytes_per_page: f64,
    pub(crate) load_ns: Spread,
    pub(crate) compress_ns: Spread,
    /// Over lz4_flex, then over zstd level 1.
    pub(crate) over: [Ratios; 2],
}

/// Size and times of one codec over those of another.
pub(crate) struct Ratios {
    pub(crate) size: f64,
    pub(crate) load: Spread,
    pub(crate) compress: Spread,
}

/// Compressed pages, one after the other, without gaps.
struct Arena {
    bytes: Vec<u8>,
    /// The end of each object.
    ends: Vec<usize>,
}

impl Arena {
    fn new(pages: &Pages, subject: &mut Subject) -> Arena {
        let mut out = vec![0; subject.bound(pages.block_size())];
        let mut arena = Arena { bytes: Vec::new(), ends: Vec::with_capacity(pages.len()) };
        for page in pages {
            let len = subject.compress(page, &mut out);
            arena.bytes.extend_from_slice(if len < page.len() { &out[..len] } else { page });
            arena.ends.push(arena.bytes.len());
        }
        arena
    }

    /// Returns the objects of `count` blocks, from `first` on.
    fn objects(&self, first: usize, count: usize) -> impl Iterator<Item = &[u8]> {
        let start = |i: usize| i.checked_sub(1).map_or(0, |before| self.ends[before]);
        let end = self.ends.len().min(first + count);
        (first..end).map(move |i| &self.bytes[start(i)..self.ends[i]])
    }

    /// Decompresses a part of the pages into one buffer, timed; then again, comparing.
    fn load(&self, pages: &Pages, subject: &mut Subject, part: usize) -> Elapsed {
        let (first, count) = blocks_of(pages, part);
        let mut page = vec![0; pages.block_size()];
        let (elapsed, ()) = clocked(|| {
            for object in self.objects(first, count) {
                restore(subject, object, black_box(&mut page));
            }
        });
        for (object, original) in self.objects(first, count).zip(pages.iter().skip(first)) {
            page.fill(0xA5);
            restore(subject, object, &mut page);
            assert!(page == original, "a page came back changed");
        }
        elapsed
    }

    /// Compresses a part of the pages, timed; the lengths have to be those of the objects.
    fn compress(&self, pages: &Pages, subject: &mut Subject, part: usize) -> Elapsed {
        let (first, count) = blocks_of(pages, part);
        let mut out = vec![0; subject.bound(pages.block_size())];
        let mut lens = Vec::with_capacity(count);
        let (elapsed, ()) = clocked(|| {
            for page in pages.iter().skip(first).take(count) {
                lens.push(subject.compress(page, black_box(&mut out)));
            }
        });
        let right = |(object, len): (&[u8], usize)| object.len() == len.min(pages.block_size());
        assert!(self.objects(first, count).zip(lens).all(right), "an object changed its length");
        elapsed
    }
}

/// Returns the first block of a part, and the most blocks that a part has.
fn blocks_of(pages: &Pages, part: usize) -> (usize, usize) {
    let count = (PART_BYTES / pages.block_size()).max(1);
    (part * count, count)
}

#[inline]
fn restore(subject: &mut Subject, object: &[u8], page: &mut [u8]) {
    if object.len() == page.len() {
        page.copy_from_slice(object);
    } else {
        subject.decompress(object, page);
    }
}

/// Measures the codecs of these names, of which the first two are the yardsticks.
pub(crate) fn measure(
    pages: &Pages,
    codecs: &[String],
    rounds: usize,
) -> Result<Vec<Measured>, benches::Failure> {
    let make = |codec: &String| Subject::new(codec, pages.block_size());
    let mut subjects = codecs.iter().map(make).collect::<Result<Vec<_>, _>>()?;
    let arenas: Vec<Arena> =
        subjects.iter_mut().map(|subject| Arena::new(pages, subject)).collect();

    let parts = pages.len().div_ceil(blocks_of(pages, 0).1);
    let mut time = |pass: fn(&Arena, &Pages, &mut Subject, usize) -> Elapsed| {
        let turns = codecs.iter().zip(&arenas).zip(&mut subjects);
        let mut contestants: Vec<PartWork<'_>> = turns
            .map(|((codec, arena), subject)| {
                PartWork::new(codec, move |part| pass(arena, pages, subject, part))
            })
            .collect();
        interleave(rounds, parts, &mut contestants).cpu
    };
    let (loads, compressions) = (time(Arena::load), time(Arena::compress));

    let bytes = |i: usize| arenas[i].bytes.len() as f64;
    let over = |i: usize, base: usize| Ratios {
        size: bytes(i) / bytes(base),
        load: loads.ratio(i, base),
        compress: compressions.ratio(i, base),
    };
    let measured = codecs.iter().enumerate().map(|(i, codec)| Measured {
        codec: codec.clone(),
        bytes_per_page: bytes(i) / pages.len() as f64,
        load_ns: loads.ns(i).over(pages.len() as f64),
        compress_ns: compressions.ns(i).over(pages.len() as f64),
        over: [over(i, LZ4), over(i, ZSTD)],
    });
    Ok(measured.collect())
}
