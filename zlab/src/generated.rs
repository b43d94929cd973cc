//! Pages for commands that run without a file.

use std::num::NonZeroUsize;

use workload::Pages;
use zpool_conformance::Generator;

/// Pages to generate: 8 MiB, if a page has 4 KiB.
const GENERATED_PAGES: usize = 2048;

/// Generates pages like those of programs, the same ones for the same seed.
pub(crate) fn generated_pages(seed: u64, page: NonZeroUsize) -> Pages {
    let mut generator = Generator::new(seed);
    let mut bytes = vec![0; GENERATED_PAGES * page.get()];
    for bytes in bytes.chunks_exact_mut(page.get()) {
        generator.block(bytes);
    }
    Pages::from_bytes(page, bytes)
}
