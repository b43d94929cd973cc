//! Accounting: where each byte is.
//!
//! [`stats`](crate::Store::stats) returns a snapshot. Its parts add up:
//!
//! ```text
//!   bytes_held ── pool_bytes ──┬─ payload         the compressed blocks themselves
//!                 │            ├─ rounding        up to the slot of their size class
//!                 │            ├─ tails           of zspages, where no slot fits
//!                 │            ├─ fragmentation   free slots in frames that are in use
//!                 │            └─ metadata        bitmaps and handle tables
//!                 ├─ context_bytes                tables and buffers of the codecs
//!                 └─ index_bytes                  16 bytes per entry, the key, free places
//! ```
//!
//! ```
//! # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
//! let store = zswap::Store::<u64>::builder().build()?;
//! for key in 0..1000 {
//!     store.store(key, format!("{key:>4000}"))?;
//! }
//! let stats = store.stats();
//! assert_eq!(stats.bytes_held(), stats.pool_bytes + stats.context_bytes + stats.index_bytes);
//! assert_eq!(stats.bytes_held(), store.bytes_held());
//! println!("{stats}");
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Compared with the system's figures
//!
//! `bytes_held` is what the operating system counts as resident, apart from a small error in the
//! metadata. Frames that were reserved and never touched are not in it. `zlab analyze FILE --json`
//! prints both figures for your data, each pair of allocator and codec in a process of its own.
//!
//! A process is larger than its store: program, stacks, heap. To see a store's own share, compare
//! resident memory before and after, in a process that does nothing else.
//!
//! # Memory that the system does not take back
//!
//! A system may refuse to take frames back, for example when memory is locked (`mlockall`). Such
//! frames stay in the accounts, so the limit still holds.
//!
//! # What is not counted
//!
//! - What keys own on the heap. The bytes of the key itself count.
//! - The buffers that each thread keeps for [`load_with`](crate::Store::load_with) and for reads of
//!   the tier, and the buffer of a drain.
//! - Code and static data.
//!
//! # Release memory
//!
//! | call | moves blocks | releases |
//! |---|---|---|
//! | [`trim`](crate::Store::trim) | no | free frames, idle contexts, free index memory |
//! | [`compact`](crate::Store::compact) | yes | also frames with few blocks in them |
//! | [`clear`](crate::Store::clear) | no | everything |
//!
//! zsmalloc compacts by itself when much is free, some milliseconds after the removals. A full
//! store does all of this before it evicts or refuses.
//!
//! # Export
//!
//! Gauges and counters for a metrics system are set from a snapshot, once per second for instance.
//! The example `metrics_export` does that for the crate `metrics`. The call walks pools and shards
//! of the index, but no entries.
