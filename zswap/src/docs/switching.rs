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
//! coldest and are evicted first. Otherwise [drain](crate::Store::drain) it: that moves its blocks
//! to the current pool, while other threads load and store.
//!
//! ```
//! # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
//! use zswap::drain::DrainBudget;
//!
//! # let store = zswap::Store::<u64>::builder().build()?;
//! # store.store(1, b"a page of memory ".repeat(240))?;
//! store.switch(&"zsmalloc(chain=8)+lz4".parse()?)?;
//! store.drain(DrainBudget::UNLIMITED);
//! store.manager().flush()?;
//! assert_eq!(store.stats().manager.pools_alive, 1);
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`switch_and_drain`](crate::Store::switch_and_drain) does both on the executor, in small steps.
//!
//! # A pool for cold blocks
//!
//! A store may have a second live pool, the [cold pool](crate::StoreBuilder::cold), for blocks that
//! were not loaded for two turns of the heat clock. A denser codec costs only those. `zlab analyze
//! --cold SPEC --train` predicts on your own data what that saves and costs.
//!
//! Whether a dictionary for zstd or a model for pagelz pays depends on the blocks: it may also take
//! more bytes than none. So train it on the store's own cold blocks, judge it on others of them,
//! and use it only if it pays. Another cold pool takes over what the previous one has with the next
//! turn of the clock, and a drain does the same. Then two pools are alive again.
//!
//! ```
//! # #[cfg(all(feature = "zsmalloc", feature = "lz4", feature = "zstd"))] {
//! use std::time::Duration;
//! use zpool_zstd::{TrainError, remember, train_and_judge};
//!
//! // The clock turns by itself, but once per hour only, so that this example can turn it.
//! let store = zswap::Store::<u64>::builder()
//!     .cold("zsmalloc+zstd(level=1)".parse()?)
//!     .cold_turn(Duration::from_secs(3600))
//!     .build()?;
//! for n in 0..2000u64 {
//!     let id = n.wrapping_mul(0x9E37_79B9_7F4A_7C15);
//!     store.store(n, format!("{{\"customer\":{id},\"permissions\":[\"read\",\"write\"]}}"))?;
//! }
//! store.turn_heat_clock();
//! store.turn_heat_clock();
//!
//! match train_and_judge(&store.sample_cold(1000)?, 1, 4096) {
//!     Ok(trained) => {
//!         println!("a dictionary pays {}", trained.verdict);
//!         let dictionary = remember(&trained.dictionary)?;
//!         store.set_cold(&format!("zsmalloc+zstd(level=1,dict={dictionary})").parse()?)?;
//!         store.turn_heat_clock();
//!         store.manager().flush()?;
//!         assert_eq!(store.stats().manager.pools_alive, 2);
//!     }
//!     Err(TrainError::Refused(verdict)) => println!("a dictionary does not pay {verdict}"),
//!     Err(error) => return Err(error.into()),
//! }
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A dictionary's name in the spec is `dict=` and a file, or what `remember` returns. Models of
//! pagelz work in the same way, with `zpool_pagelz` and `model=`. The example `cold_dictionary` is
//! a whole program.
