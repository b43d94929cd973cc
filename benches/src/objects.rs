//! Objects of the lengths and contents that a store gives to an allocator.

use std::sync::Arc;

use workload::is_same_filled;
use zpool_conformance::Generator;
use zpool_core::compress::Codec;
use zpool_lz4::Lz4Compressor;

/// Bytes of the pages that objects are made of.
const PAGE_BYTES: usize = 4096;

/// `n` generated pages, each compressed with lz4 or kept raw where it does not shrink; same-filled pages make no object. The same for the same seed.
///
/// # Panics
///
/// When lz4 fails, which it has no reason to.
pub fn objects(seed: u64, n: usize) -> Vec<Box<[u8]>> {
    let codec = Codec::new(Arc::new(Lz4Compressor::new()), PAGE_BYTES);
    let pages = Generator::new(seed).blocks(PAGE_BYTES).filter(|page| !is_same_filled(page));
    let object = |page: Vec<u8>| {
        let compressed = codec.compress(&page, PAGE_BYTES - 1, |bytes| bytes.map(Box::from));
        compressed.expect("lz4 compresses anything").unwrap_or_else(|| page.into_boxed_slice())
    };
    pages.take(n).map(object).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_of_many_lengths_and_always_the_same() {
        let made = objects(7, 300);
        assert_eq!(made, objects(7, 300));
        assert_ne!(made, objects(8, 300));
        let lengths: std::collections::HashSet<usize> =
            made.iter().map(|object| object.len()).collect();
        assert!(lengths.len() > 100 && lengths.contains(&PAGE_BYTES), "{}", lengths.len());
        assert!(made.iter().all(|object| (1..=PAGE_BYTES).contains(&object.len())));
    }
}
