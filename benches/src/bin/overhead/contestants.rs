//! The contestants. Each goes over all pages in a pass, and is verified after the clock has
//! stopped.

use std::cell::RefCell;
use std::hash::BuildHasher;
use std::hint::black_box;
use std::io;

use workload::{Elapsed, KernelZram, Pages, Skipped, clocked};
use zpool_core::compress::Codec;
use zswap::Store;

use crate::PAGE;
use crate::codecs::{CodecSetting, Raw};

/// The most bytes of a request to zram.
const REQUEST_BYTES: usize = 1 << 20;

/// The pages, their objects, and buffers for both.
pub(crate) struct Fixture<'a> {
    pub(crate) pages: &'a Pages,
    /// The objects in the pages' order, as the allocator placed them.
    objects: BoxedObjects,
    /// The room for a compressed page, which is the codec's bound.
    bound: usize,
    /// The buffer for all restored pages.
    place: RefCell<Vec<u8>>,
}

/// One box per object, as in a program that keeps its blocks compressed without a pool.
pub(crate) type BoxedObjects = Vec<Box<[u8]>>;

impl<'a> Fixture<'a> {
    /// Compresses every page with the raw codec, and checks that ours makes the same bytes.
    pub(crate) fn new(pages: &'a Pages, setting: &CodecSetting) -> Fixture<'a> {
        let (mut raw, codec) = (setting.raw(), codec(setting));
        let bound = codec.compressor().compress_bound(PAGE.get());
        let mut out = vec![0; bound];
        let object = |page: &[u8]| {
            let len = raw.compress(page, &mut out);
            let same = codec.compress(page, usize::MAX, |bytes| bytes == Some(&out[..len]));
            assert!(
                same.expect("nothing fails here"),
                "{} makes other bytes than its crate",
                setting.spec
            );
            Box::from(&out[..len])
        };
        let objects = pages.iter().map(object).collect();
        Fixture { pages, objects, bound, place: RefCell::new(vec![0; pages.bytes().len()]) }
    }

    pub(crate) fn objects(&self) -> &BoxedObjects {
        &self.objects
    }

    pub(crate) fn object_bytes(&self) -> usize {
        self.objects.iter().map(|object| object.len()).sum()
    }

    /// Times the compression of every page, and checks the lengths.
    fn compressing(&self, mut compress: impl FnMut(usize, &[u8]) -> usize) -> Elapsed {
        let mut lens = vec![0u32; self.pages.len()];
        let (elapsed, ()) = clocked(|| {
            for (i, (page, len)) in self.pages.iter().zip(&mut lens).enumerate() {
                *len = compress(i, page) as u32;
            }
        });
        let right = self.objects.iter().zip(lens).all(|(object, len)| object.len() == len as usize);
        assert!(right, "an object changed its length");
        elapsed
    }

    /// Times restoring every page, and checks all bytes.
    fn restoring(&self, mut restore: impl FnMut(usize, &mut [u8])) -> Elapsed {
        let mut place = self.place.borrow_mut();
        place.fill(0xA5);
        let (elapsed, ()) = clocked(|| {
            for (i, page) in place.chunks_exact_mut(PAGE.get()).enumerate() {
                restore(i, page);
            }
        });
        assert!(*place == self.pages.bytes(), "a page came back changed");
        elapsed
    }
}

/// Creates our codec, as a pool has it.
pub(crate) fn codec(setting: &CodecSetting) -> Codec {
    Codec::new(setting.compressor(), PAGE.get())
}

/// Compresses with the codec alone, into one buffer.
pub(crate) fn raw_compress<'a>(
    fixture: &'a Fixture<'_>,
    mut raw: Raw,
) -> impl FnMut() -> Elapsed + 'a {
    let mut out = vec![0; fixture.bound];
    move || fixture.compressing(|_, page| raw.compress(page, black_box(&mut out)))
}

/// Compresses with the codec alone, and replaces the page's box by a new one.
pub(crate) fn boxed_compress<'a>(
    fixture: &'a Fixture<'_>,
    boxes: &'a mut BoxedObjects,
    mut raw: Raw,
) -> impl FnMut() -> Elapsed + 'a {
    let mut out = vec![0; fixture.bound];
    move || {
        fixture.compressing(|i, page| {
            let len = raw.compress(page, black_box(&mut out));
            boxes[i] = Box::from(&out[..len]);
            len
        })
    }
}

pub(crate) fn raw_decompress<'a>(
    fixture: &'a Fixture<'_>,
    boxes: &'a BoxedObjects,
    mut raw: Raw,
) -> impl FnMut() -> Elapsed + 'a {
    move || fixture.restoring(|i, page| raw.decompress(&boxes[i], page))
}

pub(crate) fn layer_compress<'a>(
    fixture: &'a Fixture<'_>,
    codec: &'a Codec,
) -> impl FnMut() -> Elapsed + 'a {
    let compress = |page: &[u8]| {
        codec.compress(page, usize::MAX, |bytes| black_box(bytes).map_or(0, <[u8]>::len))
    };
    move || fixture.compressing(|_, page| compress(page).expect("nothing fails here"))
}

pub(crate) fn layer_decompress<'a>(
    fixture: &'a Fixture<'_>,
    codec: &'a Codec,
) -> impl FnMut() -> Elapsed + 'a {
    move || {
        fixture.restoring(|i, page| {
            codec.decompress(&fixture.objects[i], page).expect("an object of ours")
        })
    }
}

pub(crate) fn store<'a, S: BuildHasher>(
    fixture: &'a Fixture<'_>,
    store: &'a Store<u64, S>,
) -> impl FnMut() -> Elapsed + 'a {
    move || {
        let (elapsed, ()) = clocked(|| {
            for (key, page) in (0..).zip(fixture.pages) {
                store.store(key, page).expect("there is no limit");
            }
        });
        elapsed
    }
}

pub(crate) fn load<'a, S: BuildHasher>(
    fixture: &'a Fixture<'_>,
    store: &'a Store<u64, S>,
) -> impl FnMut() -> Elapsed + 'a {
    let load =
        |i: usize, page: &mut [u8]| store.load(&(i as u64), page).expect("nothing is corrupt");
    move || fixture.restoring(|i, page| assert_eq!(load(i, page), Some(PAGE.get()), "page {i}"))
}

/// A zram device with all pages.
pub(crate) struct Zram(KernelZram);

impl Zram {
    /// Adds a device with room for the pages.
    pub(crate) fn add(fixture: &Fixture<'_>, algorithm: &str) -> Result<Zram, Skipped> {
        KernelZram::add(algorithm, fixture.pages.bytes().len(), REQUEST_BYTES).map(Zram)
    }

    /// Writes all pages.
    pub(crate) fn write(&mut self, fixture: &Fixture<'_>) -> io::Result<Elapsed> {
        self.0.buffer().copy_from_slice(fixture.pages.bytes());
        let (elapsed, done) = clocked(|| self.0.write());
        done.map(|()| elapsed)
    }

    /// Reads all pages and checks all bytes.
    pub(crate) fn read(&mut self, fixture: &Fixture<'_>) -> io::Result<Elapsed> {
        self.0.buffer().fill(0xA5);
        let (elapsed, done) = clocked(|| self.0.read());
        done?;
        assert!(self.0.buffer() == fixture.pages.bytes(), "zram changed a page");
        Ok(elapsed)
    }
}
