//! Plug-ins: an allocator, a codec or an executor of your own.
//!
//! A plug-in is a type that implements a trait of the crate `zpool-core`. It needs no change in
//! this project and can be in any crate. The traits are contracts with numbered rules, and the
//! crate `zpool-conformance` tests them: one line in your tests runs the whole suite.
//!
//! | you write | trait | registered by | suite |
//! |---|---|---|---|
//! | an allocator | [`ZPool`], [`ZPoolDriver`] | [`allocator`] | `pool_suite!` |
//! | a codec | [`Compressor`], [`CompressorDriver`] | [`compressor`] | `compressor_suite!` |
//! | an executor | [`Executor`] | [`executor`] | `executor_suite!` |
//! | a source of memory | [`PageSource`] | [`page_source`] | none |
//!
//! [`ZPool`]: crate::plugin::ZPool
//! [`ZPoolDriver`]: crate::plugin::ZPoolDriver
//! [`Compressor`]: crate::plugin::Compressor
//! [`CompressorDriver`]: crate::plugin::CompressorDriver
//! [`Executor`]: crate::plugin::Executor
//! [`PageSource`]: crate::plugin::PageSource
//! [`allocator`]: crate::StoreBuilder::allocator
//! [`compressor`]: crate::StoreBuilder::compressor
//! [`executor`]: crate::StoreBuilder::executor
//! [`page_source`]: crate::StoreBuilder::page_source
//!
//! A driver has a name. Once it is registered, the name is valid in a spec:
//!
//! ```
//! # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
//! use std::sync::Arc;
//! use zpool_conformance::RleDriver; // stands for a codec of your own, called `rle`
//! use zswap::Store;
//!
//! let store = Store::<u64>::builder()
//!     .compressor(Arc::new(RleDriver))
//!     .spec("zsmalloc+rle".parse()?)
//!     .build()?;
//! store.store(1, [b"ab".repeat(1000), vec![7; 2000]].concat())?;
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What a store does for you
//!
//! - It catches panics of a plug-in and returns an error that names it.
//! - It calls no plug-in under one of its locks, except an allocator's `read` and `exchange`, which
//!   must not block.
//! - It opens handles as untrusted numbers, so an allocator needs no `unsafe`.
//!
//! # Where to read next
//!
//! `zpool_conformance::docs` has a tutorial for each of the three. It begins with an allocator of
//! forty lines. The traits are in [`zpool_core`].
