//! From moka, or another cache, to this one.
//!
//! | with moka | here |
//! |---|---|
//! | `Cache::builder()` | [`Cache::builder()`] |
//! | `max_capacity(10_000)`, in entries or weights | [`limit_bytes`], as the system counts them |
//! | `weigher(..)` | none needed |
//! | `time_to_live`, `time_to_idle` | the same names |
//! | `expire_after(..)` | [`EntryOptions`], per entry |
//! | `eviction_listener(\|key, value, cause\| ..)` | [`on_removal`]`(\|key, length, cause\| ..)` |
//! | `get_with(key, init)` | [`get_or_insert_with`] |
//! | `try_get_with(key, init)` | [`try_get_or_insert_with`] |
//! | `invalidate(&key)`, `invalidate_all()` | [`remove`], [`clear`] |
//! | `run_pending_tasks()` | [`remove_expired`], only to free memory early |
//!
//! [`Cache::builder()`]: crate::Cache::builder
//! [`limit_bytes`]: crate::CacheBuilder::limit_bytes
//! [`EntryOptions`]: crate::EntryOptions
//! [`on_removal`]: crate::CacheBuilder::on_removal
//! [`get_or_insert_with`]: crate::Cache::get_or_insert_with
//! [`try_get_or_insert_with`]: crate::Cache::try_get_or_insert_with
//! [`remove`]: crate::Cache::remove
//! [`clear`]: crate::Cache::clear
//! [`remove_expired`]: crate::Cache::remove_expired
//!
//! ```
//! use std::time::Duration;
//! use zswap_cache::Cache;
//!
//! let cache = Cache::<String>::builder()
//!     .limit_bytes(64 << 20)
//!     .time_to_live(Duration::from_secs(600))
//!     .build()?;
//! let page = cache.get_or_insert_with("/index.html", || "<h1>hello</h1>".repeat(100))?;
//! assert_eq!(cache.get("/index.html")?, Some(page));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What is different
//!
//! - *Values are bytes.* moka clones a value that it holds, often an `Arc`. Here a hit decompresses
//!   into new bytes, which takes microseconds. Types of your own are serialized, as for a cache on
//!   another machine.
//! - *Calls return errors.* A value may be too long, memory short, a codec broken. A `get` that
//!   fails leaves the entry there. An insert that fails leaves nothing under its key, because stale
//!   data is worse than none.
//! - *No background thread evicts.* A store at the limit evicts on the thread that stores. So the
//!   limit is exceeded by at most what inserts in flight add, and nothing waits for maintenance.
//! - *Eviction is a clock*, not TinyLFU: it has no admission filter, so a scan that gets every key
//!   counts as a use of each. Scan with `iter` or `for_each`, which do not count as uses.
//! - *Sync.* There is no future-aware type. With lz4 and no tier, a hit does not block, so call it
//!   in a task. A loader that awaits belongs outside: load first, then insert.
//!
//! # What stays
//!
//! Cheap clones, any number of threads, one computation per missing key, look-ups by a borrowed key
//! without an allocation, and expiry that is checked when an entry is read.
