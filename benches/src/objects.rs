//! Objects with the lengths and contents that a store passes to an allocator.

use std::sync::Arc;

use workload::is_same_filled;
use zpool_conformance::Generator;
use zpool_core::compress::Codec;
use zpool_lz4::Lz4Compressor;

/// Bytes of the pages that objects are made of.
const PAGE_BYTES: usize = 4096;

/// Generates `n` pages that are not same-filled, and compresses each with lz4, or keeps it raw if
/// it does not shrink. A seed always makes the same objects.
///
/// # Panics
///
/// If lz4 fails, which it has no reason to.
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

    /// Objects have many lengths, up to a page, and a seed always makes the same ones.
    #[test]
    fn objects_of_one_seed_are_equal() {
        let made = objects(7, 300);
        assert_eq!(made, objects(7, 300));
        assert_ne!(made, objects(8, 300));
        let lengths: std::collections::HashSet<usize> =
            made.iter().map(|object| object.len()).collect();
        assert!(lengths.len() > 100 && lengths.contains(&PAGE_BYTES), "{}", lengths.len());
        assert!(made.iter().all(|object| (1..=PAGE_BYTES).contains(&object.len())));
    }
}
