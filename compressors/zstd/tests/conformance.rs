//! zstd keeps the contract of a compressor, at levels of each of its strategies, with and without a
//! dictionary.

use std::fs;
use std::path::Path;

use zpool_conformance::compressor_suite;
use zpool_testing::heap::{self, CountingAllocator};
use zpool_zstd::ZstdDriver;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// Returns parameters with a dictionary of these bytes. All tests share the file, and each replaces
/// it by an equal one.
fn with_dictionary(level: i32, name: &str, bytes: &[u8]) -> String {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let file = folder.join(format!("{name}.dictionary"));
    let mine = tempfile::NamedTempFile::new_in(folder).unwrap();
    fs::write(mine.path(), bytes).unwrap();
    mine.persist(&file).unwrap();
    format!("level={level},dict={}", file.display())
}

/// A dictionary that is content only, since any file may be one.
fn words() -> String {
    with_dictionary(
        1,
        "words",
        &b"the page of a pool is\nkey: compressed, \x00\x5c\x3a\x7f\0\0".repeat(40),
    )
}

fn numbers() -> String {
    with_dictionary(
        7,
        "numbers",
        &(0..30_000u32).flat_map(|i| (i / 3).to_le_bytes()).collect::<Vec<_>>(),
    )
}

compressor_suite!(
    level_minus_7,
    [no_heap],
    ZstdDriver,
    "level=-7",
    rounds = 60,
    heap_calls = heap::calls
);
compressor_suite!(default_level, [no_heap], ZstdDriver, "", heap_calls = heap::calls);
// A level at which zstd salts its hashes with earlier blocks, if they are over 16 KiB.
compressor_suite!(level_7, [no_heap], ZstdDriver, "level=7", rounds = 40, heap_calls = heap::calls);
compressor_suite!(
    level_19,
    [no_heap],
    ZstdDriver,
    "level=19",
    rounds = 12,
    heap_calls = heap::calls
);
compressor_suite!(
    dictionary,
    [no_heap],
    ZstdDriver,
    words(),
    rounds = 60,
    heap_calls = heap::calls
);
compressor_suite!(
    dictionary_at_level_7,
    [no_heap],
    ZstdDriver,
    numbers(),
    rounds = 24,
    heap_calls = heap::calls,
);
