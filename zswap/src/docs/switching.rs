//! Switching: other allocators and codecs while data is stored.
//!
//! # What a switch does
//!
//! A *pool* is an allocator and a codec. Its *spec* names both: `zsmalloc(chain=8)+lz4`. New blocks
//! go to the *current* pool. A switch makes another pool current and *retires* the old one. Nothing
//! is copied: blocks stay where they are and load as before. A retired pool is destroyed when its
//! last block was removed, evicted or replaced.
//!
//! ```text
//!   switch("zsmalloc+zstd")    current          retired                 destroyed
//!                              zsmalloc+zstd    zsmalloc+lz4   ──────►  by an executor, after
//!                              new blocks       older blocks            the last block is gone
//! ```
//!
//! ```
//! # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
//! let store = zswap::Store::<u64>::builder().build()?;
//! store.store(1, b"a page of memory ".repeat(240))?;
//! store.switch(&"zsmalloc(chain=8)+lz4".parse()?)?;
//! assert_eq!(store.stats().manager.pools_alive, 2);
//!
//! // The last block of the old pool is replaced, so the pool is destroyed. `flush` waits for that.
//! store.store(1, b"another page ".repeat(300))?;
//! store.manager().flush()?;
//! assert_eq!(store.stats().manager.pools_alive, 1);
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Reasons to switch
//!
//! - A denser codec at night, a faster one during the day.
//! - A dictionary trained on the blocks that are stored by now. The example `dictionary` does that.
//! - An experiment on one server of many, without a restart and a cold cache.
//!
//! # What to expect
//!
//! - No store or load fails or waits because of a switch.
//! - A switch to the current spec does nothing. If a retired pool of the spec still lives, the
//!   switch [revives](crate::StoreBuilder::revive) it.
//! - A switch that fails changes nothing. Its error names what is available.
//! - Pools count towards the limit until they are destroyed. If too many
//!   [await that](crate::StoreBuilder::max_pending), the next switch waits, and helps.
//! - A switch builds a pool and may block, so an async program calls it on a blocking thread.
//!
//! # Ending a retired pool
//!
//! A retired pool lives as long as one block in it. In a cache that evicts, its blocks become the
//! coldest and are evicted first. Otherwise move them: load each key and store it again.
//! [`peek_vec`](crate::Store::peek_vec) does not count as a use.
//!
//! ```
//! # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
//! # let store = zswap::Store::<u64>::builder().build()?;
//! # store.store(1, b"a page of memory ".repeat(240))?;
//! store.switch(&"zsmalloc(chain=8)+lz4".parse()?)?;
//! for key in store.keys() {
//!     if let Some(value) = store.peek_vec(&key)? {
//!         store.store(key, value)?;
//!     }
//! }
//! store.manager().flush()?;
//! assert_eq!(store.stats().manager.pools_alive, 1);
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! That loop is right only if no other thread stores under the same keys meanwhile: it may put an
//! older value back.
