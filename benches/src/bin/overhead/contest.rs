//! Those that are compared: each goes over one part of the pages at a time, and is checked after the clock has stopped.

use std::hash::BuildHasher;
use std::hint::black_box;
use std::io;

use workload::{Elapsed, KernelZram, Pages, Skipped, clocked};
use zpool_core::compress::Codec;
use zswap::Store;

use crate::PAGE;
use crate::codecs::{Raw, Setting};

/// Pages of a part: what one request to zram has.
const PART_PAGES: usize = 256;
const PART_BYTES: usize = PART_PAGES * PAGE.get();

/// The data, in all its forms.
pub(crate) struct Field<'a> {
    pub(crate) pages: &'a Pages,
    /// A box an object, in the pages' order.
    objects: Vec<Box<[u8]>>,
    /// Room for what is compressed: the codec's bound.
    bound: usize,
}

impl<'a> Field<'a> {
    /// Compresses every page with the raw codec, and checks that ours makes the same bytes.
    pub(crate) fn new(pages: &'a Pages, setting: &Setting) -> Field<'a> {
        let (mut raw, codec) = (setting.raw(), codec(setting));
        let bound = codec.compressor().compress_bound(PAGE.get());
        let mut out = vec![0; bound];
        let object = |page: &[u8]| {
            let len = raw.compress(page, &mut out);
            let same = codec.compress(page, usize::MAX, |bytes| bytes == Some(&out[..len]));
            assert!(same.expect("nothing fails here"), "{} makes other bytes than its crate", setting.spec);
            Box::from(&out[..len])
        };
        let objects = pages.iter().map(object).collect();
        Field { pages, objects, bound }
    }

    pub(crate) fn parts(&self) -> usize {
        self.pages.len().div_ceil(PART_PAGES)
    }

    pub(crate) fn object_bytes(&self) -> usize {
        self.objects.iter().map(|object| object.len()).sum()
    }

    fn part(&self, part: usize) -> std::ops::Range<usize> {
        part * PART_PAGES..((part + 1) * PART_PAGES).min(self.pages.len())
    }

    /// The bytes of a part's pages.
    fn bytes(&self, part: usize) -> &[u8] {
        let range = self.part(part);
        &self.pages.bytes()[range.start * PAGE.get()..range.end * PAGE.get()]
    }

    /// Compresses the pages of a part, each once; the lengths have to be right.
    fn compressing(&self, part: usize, mut compress: impl FnMut(&[u8]) -> usize) -> Elapsed {
        let (range, mut lens) = (self.part(part), [0u32; PART_PAGES]);
        let (elapsed, ()) = clocked(|| {
            for (i, len) in range.clone().zip(&mut lens) {
                *len = compress(self.pages.block(i)) as u32;
            }
        });
        let right = range.zip(lens).all(|(i, len)| self.objects[i].len() == len as usize);
        assert!(right, "an object changed its length");
        elapsed
    }

    /// Has the pages of a part brought back, each once; all bytes have to be right.
    fn restoring(&self, part: usize, mut restore: impl FnMut(usize, &mut [u8]), to: &mut [u8]) -> Elapsed {
        let (range, wanted) = (self.part(part), self.bytes(part));
        to.fill(0xA5);
        let (elapsed, ()) = clocked(|| {
            for (i, place) in range.zip(to.chunks_exact_mut(PAGE.get())) {
                restore(i, place);
            }
        });
        assert!(&to[..wanted.len()] == wanted, "a page came back changed");
        elapsed
    }
}

/// Ours, as a pool has it.
pub(crate) fn codec(setting: &Setting) -> Codec {
    Codec::new(setting.compressor(), PAGE.get())
}

/// Where pages are brought back to.
pub(crate) fn destination() -> Vec<u8> {
    vec![0; PART_BYTES]
}

pub(crate) fn raw_compress<'a>(field: &'a Field<'_>, mut raw: Raw) -> impl FnMut(usize) -> Elapsed + 'a {
    let mut out = vec![0; field.bound];
    move |part| field.compressing(part, |page| raw.compress(page, black_box(&mut out)))
}

pub(crate) fn raw_decompress<'a>(field: &'a Field<'_>, mut raw: Raw) -> impl FnMut(usize) -> Elapsed + 'a {
    let mut to = destination();
    move |part| field.restoring(part, |i, page| raw.decompress(&field.objects[i], page), &mut to)
}

pub(crate) fn layer_compress<'a>(
    field: &'a Field<'_>,
    codec: &'a Codec,
) -> impl FnMut(usize) -> Elapsed + 'a {
    let compress =
        |page: &[u8]| codec.compress(page, usize::MAX, |bytes| black_box(bytes).map_or(0, <[u8]>::len));
    move |part| field.compressing(part, |page| compress(page).expect("nothing fails here"))
}

pub(crate) fn layer_decompress<'a>(
    field: &'a Field<'_>,
    codec: &'a Codec,
) -> impl FnMut(usize) -> Elapsed + 'a {
    let mut to = destination();
    let decompress = |i: usize, page: &mut [u8]| codec.decompress(&field.objects[i], page);
    move |part| field.restoring(part, |i, page| decompress(i, page).expect("an object of ours"), &mut to)
}

pub(crate) fn store<'a, S: BuildHasher>(
    field: &'a Field<'_>,
    store: &'a Store<u64, S>,
) -> impl FnMut(usize) -> Elapsed + 'a {
    move |part| {
        let range = field.part(part);
        let (elapsed, ()) = clocked(|| {
            for i in range {
                store.store(i as u64, field.pages.block(i)).expect("there is no limit");
            }
        });
        elapsed
    }
}

pub(crate) fn load<'a, S: BuildHasher>(
    field: &'a Field<'_>,
    store: &'a Store<u64, S>,
) -> impl FnMut(usize) -> Elapsed + 'a {
    let mut to = destination();
    let load = |i: usize, page: &mut [u8]| store.load(&(i as u64), page).expect("nothing is corrupt");
    move |part| {
        field.restoring(part, |i, page| assert_eq!(load(i, page), Some(PAGE.get()), "page {i}"), &mut to)
    }
}

/// zram, filled.
pub(crate) struct Zram(KernelZram);

impl Zram {
    /// A device with room for the pages.
    pub(crate) fn add(field: &Field<'_>, algorithm: &str) -> Result<Zram, Skipped> {
        KernelZram::add(algorithm, field.parts() * PART_BYTES, PART_BYTES).map(Zram)
    }

    /// Writes a part in one request.
    pub(crate) fn write(&mut self, field: &Field<'_>, part: usize) -> io::Result<Elapsed> {
        let bytes = field.bytes(part);
        self.0.buffer()[..bytes.len()].copy_from_slice(bytes);
        let (elapsed, done) = clocked(|| self.0.write_at(bytes.len(), (part * PART_BYTES) as u64));
        done.map(|()| elapsed)
    }

    /// Reads a part in one request; all bytes have to be right.
    pub(crate) fn read(&mut self, field: &Field<'_>, part: usize) -> io::Result<Elapsed> {
        let wanted = field.bytes(part);
        self.0.buffer().fill(0xA5);
        let (elapsed, done) = clocked(|| self.0.read_at(wanted.len(), (part * PART_BYTES) as u64));
        done?;
        assert!(&self.0.buffer()[..wanted.len()] == wanted, "zram changed a page");
        Ok(elapsed)
    }
}
