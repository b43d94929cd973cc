//! From a map of compressed vectors to a store.
//!
//! Many programs keep a `HashMap<K, Vec<u8>>` of lz4 or zstd output behind a lock. This is what
//! changes.
//!
//! | with a map | with a store |
//! |---|---|
//! | `map.lock().insert(key, compress(&value))` | `store.store(key, &value)?` |
//! | `map.lock().get(&key).map(decompress)` | `store.load_vec(&key)?` |
//! | the same, into a buffer that you keep | `store.load(&key, &mut buffer)?` |
//! | `map.lock().remove(&key)` | `store.invalidate(&key)`, `store.take_vec(&key)?` |
//! | `map.lock().contains_key(&key)` | `store.contains(&key)` |
//! | `map.lock().retain(..)` | `store.retain(..)` |
//! | a counter of bytes, and a queue for eviction | `limit_bytes` and `at_limit` |
//!
//! ```
//! # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
//! use zswap::{AtLimit, Store};
//!
//! let pages = Store::<String>::builder()
//!     .max_value_len(1 << 20)
//!     .limit_bytes(64 << 20)
//!     .at_limit(AtLimit::Evict)
//!     .build()?;
//! pages.store("/index.html".to_owned(), "<p>hello</p>".repeat(5000))?;
//! let length = pages.load_with("/index.html", |page| page.len())?;
//! assert_eq!(length, Some(60_000));
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What is different
//!
//! - *Errors.* A store can be full, a value can be too long, and memory can run out. A `store` that
//!   fails removes the older value, because stale data is worse than none. A load that fails
//!   changes nothing.
//! - *Lengths.* A value longer than [`max_value_len`](crate::StoreBuilder::max_value_len) is an
//!   error.
//! - *No references into it.* A load copies. `load_with` lends a decompressed copy.
//! - *Short values.* A value of some dozen bytes gains nothing. Put such values together, or keep
//!   them in a map.
//! - *Bytes.* `bytes_held` is what the system counts. The sum of the vectors' lengths is less than
//!   what a map of vectors takes.
//!
//! # When to stay with the map
//!
//! With one thread, no limit, and data that is never removed, the map is less code and nearly as
//! good. A store pays off with a limit in real bytes, eviction, many threads, removals that leave
//! holes, and codecs that change at run time.
