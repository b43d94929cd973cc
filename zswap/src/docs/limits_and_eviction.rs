//! Limits and eviction.
//!
//! # What a limit counts
//!
//! [`limit_bytes`](crate::StoreBuilder::limit_bytes) bounds what the operating system counts: the
//! memory of all pools, retired ones included, the compressors' contexts and the index. It is not
//! the sum of compressed lengths, and not the number of values. Outside are what keys own on the
//! heap (the text of a `String`), the buffers that each thread keeps for
//! [`load_with`](crate::Store::load_with) and for reads of the tier, and the buffer of a drain.
//!
//! A store in flight may exceed the limit by what it adds itself. [`AtLimit`](crate::AtLimit) has
//! the exact bound.
//!
//! # Refuse or evict
//!
//! | [`at_limit`] | a full store | for |
//! |---|---|---|
//! | [`Refuse`] | returns [`Error::Full`] | data that exists nowhere else |
//! | [`Evict`] | evicts the coldest blocks (CLOCK, approximately least recently used) | caches |
//!
//! [`at_limit`]: crate::StoreBuilder::at_limit
//! [`Refuse`]: crate::AtLimit::Refuse
//! [`Evict`]: crate::AtLimit::Evict
//! [`Error::Full`]: crate::Error::Full
//!
//! ```
//! # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
//! use zswap::{AtLimit, Store};
//!
//! let cache = Store::<String>::builder()
//!     .limit_bytes(256 << 20)
//!     .at_limit(AtLimit::Evict)
//!     .on_evict(|key, len| println!("{key} ({len} bytes) made room"))
//!     .build()?;
//! # cache.store("key".to_owned(), "value")?;
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What happens at the limit
//!
//! ```text
//!   1  destroy pools that await it        nothing of yours is lost up to here
//!   2  free contexts that no thread uses
//!   3  shrink the index
//!   4  return free page frames
//!   5  move blocks together, return the frames that become empty
//!   6  evict the coldest blocks, or refuse the new one
//! ```
//!
//! Eviction follows a clock. A hand goes over all entries. Each pass takes away one of the uses
//! that an entry has collected (at most three), and evicts an entry without any. `peek` and `keys`
//! do not count as uses, so a scan of the store leaves the order alone. With
//! [`keep_compressible`](crate::StoreBuilder::keep_compressible), blocks that compress very well
//! are spared more often, because evicting them gains little.
//!
//! # A place of your own for what is evicted
//!
//! [`on_evict`](crate::StoreBuilder::on_evict) receives the key after the value is freed.
//! [`on_evict_with`](crate::StoreBuilder::on_evict_with) shows the value before it is freed. The
//! listener saves it and lets it go, or keeps it, for example because it could not be saved:
//!
//! ```text
//!   cold? ─► the listener: save ─► Evict ─► still the same? ─► free it
//!                            └ failed ─► Keep: stays, and is passed for three turns of the hand
//! ```
//!
//! - Until the listener has returned, look-ups find the value in the store. Afterwards, a miss
//!   finds what was saved.
//! - If the value was replaced meanwhile, the newer one stays. The listener is shown the values of
//!   one key in their order, never two at once, so what it saved last is the newest.
//! - If everything is kept, the store is full: [`Error::Full`](crate::Error::Full) has the number.
//!
//! The listener may decode the value, copy its encoded form, or lend that to another store:
//!
//! ```
//! # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
//! # let page = |n: u64| (n * 600..n * 600 + 600).map(|n| n.to_string()).collect::<String>();
//! use zswap::{AtLimit, EvictionDecision, Store};
//!
//! let second = Store::<u64>::builder().build()?;
//! let below = second.clone();
//! let first = Store::<u64>::builder()
//!     .limit_bytes(1 << 20)
//!     .at_limit(AtLimit::Evict)
//!     // Compressed once: `import` takes the bytes as they are.
//!     .on_evict_with(move |&key, value| match below.import(key, value.blocks()) {
//!         Ok(()) => EvictionDecision::Evict,
//!         Err(_) => EvictionDecision::Keep,
//!     })
//!     .build()?;
//! for key in 0..1000 {
//!     first.store(key, page(key))?;
//! }
//! for key in 0..1000 {
//!     let found = first.load_vec(&key)?.or(second.load_vec(&key)?);
//!     assert_eq!(found, Some(page(key).into_bytes()));
//! }
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The example `dirty_pages` is a buffer pool over a file, whose dirty pages are written back
//! before they are evicted.
//!
//! # When a store accepts blocks again
//!
//! A store that refuses accepts blocks again once it holds at most
//! [`accept_percent`](crate::StoreBuilder::accept_percent) of its limit. Without this gap it would
//! alternate between accepting and refusing, and search for memory each time.
//!
//! # A tier below memory
//!
//! With [`tier`](crate::StoreBuilder::tier), step 6 writes the coldest blocks to a file or another
//! [backing store](crate::plugin::BackingStore), as they are compressed:
//!
//! ```text
//!   store ─► memory ── at the limit: the coldest, a segment at a time ──► tier
//!   load  ◄── memory ◄── the second load within a turn of the clock ───── tier ──► load, the first
//! ```
//!
//! | | a store that evicts | a store that refuses |
//! |---|---|---|
//! | [policy] | [`DropOldest`] | [`Refuse`] |
//! | a full tier | drops its oldest segment | compacts; if that gains nothing, the store is full |
//! | a block is lost | by that, or by the medium | by the medium only |
//!
//! [policy]: crate::StoreBuilder::tier_policy
//! [`DropOldest`]: crate::tier::TierPolicy::DropOldest
//! [`Refuse`]: crate::tier::TierPolicy::Refuse
//!
//! - A block in the tier costs its entry in the index. It counts in `len`, and all operations work
//!   on it. [`tier_of`](crate::Store::tier_of) returns where a block is.
//! - A load reads the record and checks it. If the medium has lost or damaged it, that is a miss:
//!   the entry is removed, and the eviction listener is called. If the medium fails, it is
//!   [`Error::TierFailed`](crate::Error::TierFailed), and the block stays.
//! - A block that returned to memory and has not changed goes back without a write.
//! - Same-filled blocks and values longer than a block stay in memory. A store that evicts takes
//!   those values when they are cold.
//! - Three failed writes in a row switch the tier off. The store then evicts or refuses as without.
//! - Bytes reach the medium as they are, [`wipe_on_free`](crate::StoreBuilder::wipe_on_free) or
//!   not. To encrypt them, put a [`SealedStore`](crate::tier::SealedStore) in between.
//!
//! The buffer of one segment, two while a segment is compacted, and the tables of the tier count
//! towards the limit, as part of the index. So segments should be small compared with the limit.
//!
//! # Another limit at run time
//!
//! [`set_limit`](crate::Store::set_limit) changes the limit. A lower one evicts on the calling
//! thread until it holds, while other threads store and load.
//!
//! ```
//! # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
//! use zswap::{AtLimit, Store};
//!
//! let cache = Store::<u64>::builder().limit_bytes(8 << 20).at_limit(AtLimit::Evict).build()?;
//! // The service is short of memory: release some.
//! cache.set_limit(Some(4 << 20))?;
//! assert!(cache.bytes_held() <= 4 << 20);
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # How small a limit may be
//!
//! A compression context of lz4 takes some KiB, one of zstd up to some MiB. Together they hold at
//! most 1/4 of the limit, or one context in each pool if that is more. Threads that need another
//! one wait. So give a store at least four times the size of a context, and more if many threads
//! store at once. `build` refuses a limit that an empty store would exceed.
