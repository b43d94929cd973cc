//! Performance: what costs time, and how to measure it.
//!
//! # Where the time goes
//!
//! ```text
//!   store   hash ─► compress ─► find a slot, copy ─► index        mostly the codec
//!   load    hash ─► index, pin ─► decompress ─► unpin             mostly the codec, then memory
//! ```
//!
//! A load that finds its block in the processor's cache costs what the codec costs. Otherwise it
//! waits for memory twice: for the entry and for the compressed bytes. Loads in the order of their
//! keys, or in batches, overlap these waits.
//!
//! # What helps, in this order
//!
//! 1. *A codec and a block size that fit.* They decide more than all the rest
//!    ([`codecs_and_blocks`](super::codecs_and_blocks)).
//! 2. *Fewer copies.* [`load_with`](crate::Store::load_with) lends the bytes from a buffer of the
//!    thread. [`load`](crate::Store::load) writes to a buffer that you keep.
//!    [`load_vec`](crate::Store::load_vec) allocates one each time.
//! 3. *No key per look-up.* A `Store<String>` is asked with a `&str`.
//! 4. *A hasher for page numbers.* [`SequentialKeys`](crate::SequentialKeys) for trusted integers:
//!    neighbouring keys share cache lines of the index.
//! 5. *Batches.* [`store_many`](crate::Store::store_many) and
//!    [`load_many`](crate::Store::load_many) keep a context and a pool for the whole batch.
//! 6. *No limit that is barely too small.* A store that evicts all the time pays for an eviction
//!    with each call of `store`.
//!
//! ```
//! # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
//! use zswap::{SequentialKeys, Store};
//!
//! let pages = Store::<u64>::builder().hasher(SequentialKeys::default()).build()?;
//! let results = pages.store_many((0..256).map(|page| (page, format!("{page:>4096}"))));
//! assert!(results.iter().all(Result::is_ok));
//! let digits = pages.load_with(&200, |page| page.iter().filter(|b| **b != b' ').count())?;
//! assert_eq!(digits, Some(3));
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What does not help
//!
//! - A pool per thread: pools have no lock on the way of a load, and caches per processor for
//!   stores.
//! - A lock of your own around the store.
//! - A second index of what is stored: [`contains`](crate::Store::contains) and
//!   [`len_of`](crate::Store::len_of) decompress nothing.
//!
//! # Measure
//!
//! [`latency_histograms`](crate::StoreBuilder::latency_histograms) records how long stores and
//! loads take in your program. The repository has programs for everything else. They take files of
//! your own, alternate what they compare, and print JSON:
//!
//! ```sh
//! cargo run --release --locked -p benches --bin store -- FILE --json
//! cargo run --release --locked -p benches --bin overhead -- FILE --codec lz4 --json
//! ```
//!
//! Measure with pages of your own program. Pages that are decoded again and again train the branch
//! predictor and look faster than they are. CONTRIBUTING.md in the repository lists the rules that
//! these programs follow.
