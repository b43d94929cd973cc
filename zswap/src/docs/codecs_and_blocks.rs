//! Choosing a codec and a block size.
//!
//! A *codec* compresses and decompresses blocks. The *block size* is the length of the longest
//! block. The two decide how much memory a store takes and how long a load lasts. All other
//! settings change little.
//!
//! # Measure first
//!
//! The right choice depends on your data, and a program in the repository finds it. It stores a
//! copy of your files, or of the memory of a running process, with every codec, level and block
//! size. It checks each byte, draws the result, and recommends a setting for *fast*, *balanced* and
//! *small*:
//!
//! ```sh
//! cargo run --release --locked -- analyze FILE --sweep --plot sweep.svg
//! ```
//!
//! # Codecs
//!
//! | name | feature | use it if | builds C |
//! |---|---|---|---|
//! | `lz4` | `lz4` (default) | a load must cost as little as possible | no |
//! | `pagelz` | `pagelz` | blocks are pages of a program's memory | no |
//! | `zstd` | `zstd` | bytes matter more than time | yes |
//! | `lzo` | none: crate `zpool-lzo` | you compare with a kernel; it is GPL-2.0-only | no |
//!
//! Parameters stand in parentheses, as in `zstd(level=3)` or `pagelz(level=2)`. A higher level
//! makes fewer bytes and takes longer to store. A zstd dictionary helps when blocks are small and
//! alike, such as JSON records: `zlab train FILE -o DICT` makes one, and says whether it pays on
//! blocks that it was not trained on. A program can do the same with the blocks that its store has
//! by then: with [all](crate::Store::sample), or with the [cold](crate::Store::sample_cold) ones.
//!
//! ```
//! # #[cfg(all(feature = "zsmalloc", feature = "lz4", feature = "zstd"))] {
//! let store = zswap::Store::<u64>::builder().spec("zsmalloc+zstd(level=3)".parse()?).build()?;
//! store.store(1, b"a page of memory ".repeat(240))?;
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A block that does not shrink is kept as it is. Before it compresses, a store looks at a few
//! bytes and skips the codec for blocks that look random. So data that is compressed already costs
//! little time, and gains nothing.
//!
//! # Allocators
//!
//! An *allocator* packs compressed blocks into page frames. `zsmalloc` (default) packs by length
//! and moves blocks together later. It is the right one unless you have a reason. `zbud` keeps at
//! most two blocks per page: it wastes more, never moves anything, and its cost has a simple bound.
//!
//! # Block size
//!
//! A load decompresses a whole block, so the block size is the price of the smallest read.
//!
//! - *4 KiB* (default): pages, and values that are mostly shorter.
//! - *16 KiB*: values of some KiB that are read whole. More repetitions lie within a block, so it
//!   compresses better.
//! - *64 KiB and more*: archives that are read from front to back.
//!
//! Values longer than a block are split, up to the length that
//! [`max_value_len`](crate::StoreBuilder::max_value_len) allows. A block that is shorter than the
//! block size costs nothing extra.
//!
//! ```
//! # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
//! let documents = zswap::Store::<String>::builder()
//!     .block_size(16 << 10)
//!     .max_value_len(4 << 20)
//!     .build()?;
//! documents.store("report".to_owned(), "a line of text\n".repeat(100_000))?;
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Change your mind
//!
//! Codec and allocator can be exchanged at run time ([`switching`](super::switching)). The block
//! size cannot.
