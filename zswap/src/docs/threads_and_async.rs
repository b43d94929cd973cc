//! Threads and async.
//!
//! A [`Store`](crate::Store) is cheap to clone, and clones are the same store. Any number of
//! threads may use it at once, with no lock of yours around it.
//!
//! # What may block
//!
//! To *block* is to wait without a bound: for the operating system, for a plug-in's constructor or
//! destructor, for another thread's job.
//!
//! | call | may block | why |
//! |---|---|---|
//! | `load`, `peek`, `take`, `load_many` | not with lz4 and no tier | contexts, reads of the tier |
//! | `load_or_ticket` | no, with lz4 | a block in the tier becomes a ticket |
//! | `invalidate`, `contains`, `len_of`, `len` | no | |
//! | `store`, `store_many` | yes | memory from the system, eviction at the limit |
//! | `retain`, `clear`, `trim`, `compact`, `set_limit` | yes | they release memory |
//! | `switch`, `build`, the drop of the last clone | yes | they make or destroy pools |
//!
//! Dropping a clone that is not the last one never blocks.
//!
//! # Async runtimes
//!
//! Call loads directly in a task: a look-up and a decompression take some microseconds, and no lock
//! is held while the codec runs. Collect stores in a channel, and let one blocking thread do them
//! in batches. Switch on a blocking thread too. The example `tokio_server` is such a program. It
//! loads inside a no-block section, where a call that may block panics, so its claim is tested:
//!
//! ```
//! # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
//! use zswap::plugin::NoBlock;
//!
//! let store = zswap::Store::<u64>::builder().build()?;
//! store.store(1, "a value")?;
//! let loaded = {
//!     let _section = NoBlock::enter();
//!     store.load_vec(&1)?
//! };
//! assert_eq!(loaded.as_deref(), Some(b"a value".as_slice()));
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The check is off unless a program turns it on with `zpool_core::set_check_policy`.
//!
//! With a [tier](crate::StoreBuilder::tier), use
//! [`load_or_ticket`](crate::Store::load_or_ticket): a block in memory is there at once, and a
//! [ticket](crate::tier::LoadTicket) is read on a blocking thread. The example `tier_tokio` does
//! that.
//!
//! # Who destroys pools
//!
//! The thread that removes the last block of a retired pool only hands the pool over. Destroying it
//! is a job for an *executor*: by default one thread per process, which sleeps when there is
//! nothing to do. [`executor`](crate::StoreBuilder::executor) takes a
//! [`WorkQueue`](crate::plugin::WorkQueue) for stores that should share another thread, or your own
//! implementation. zpool-manager has examples for rayon and tokio.
//!
//! # Callbacks
//!
//! Eviction listeners and the closures of `load_with`, `retain` and `export` run with no lock held
//! and may use the store. `Eq` and `Hash` of keys run under a lock and must not. The panic of a
//! listener is counted, and the store continues.
//!
//! # Fork
//!
//! A child that calls `exec` at once, as `std::process::Command` does, has no problem. Any other
//! child may use and drop its copy of a store if no other thread was in a call when the program
//! forked. [`Store`](crate::Store#fork) has the details.
