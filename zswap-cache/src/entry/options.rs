//! Settings of one entry.

use std::time::Duration;

/// Settings of one entry, for [`Cache::insert_with`](crate::Cache::insert_with). What is not set is
/// as the cache's builder has it.
///
/// ```
/// use std::time::Duration;
///
/// use zswap_cache::{Cache, EntryOptions};
///
/// let cache: Cache<&str> = Cache::builder().limit_bytes(16 << 20).build()?;
/// let session = EntryOptions::new().time_to_idle(Duration::from_secs(1800));
/// cache.insert_with("session 7", b"user 12", session)?;
/// cache.insert_with("config", b"{}", EntryOptions::new().pinned())?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EntryOptions {
    pub(crate) time_to_live: Option<Option<Duration>>,
    pub(crate) time_to_idle: Option<Option<Duration>>,
    pub(crate) pinned: bool,
}

impl EntryOptions {
    /// Makes the settings of an entry like any other of the cache.
    pub fn new() -> EntryOptions {
        EntryOptions::default()
    }

    /// Expires the entry this long after it is stored. At least 1 ms, in whole milliseconds.
    pub fn time_to_live(self, after: Duration) -> EntryOptions {
        EntryOptions { time_to_live: Some(Some(after)), ..self }
    }

    /// Expires the entry this long after it was last loaded or stored. Exact to the millisecond up
    /// to 17 minutes, and to 4 millionths of longer times.
    pub fn time_to_idle(self, after: Duration) -> EntryOptions {
        EntryOptions { time_to_idle: Some(Some(after)), ..self }
    }

    /// Never expires the entry, whatever the cache's builder says.
    pub fn never_expires(self) -> EntryOptions {
        EntryOptions { time_to_live: Some(None), time_to_idle: Some(None), ..self }
    }

    /// Never evicts the entry. It still expires, and can be replaced and removed.
    pub fn pinned(self) -> EntryOptions {
        EntryOptions { pinned: true, ..self }
    }
}

/// When an entry expires, and whether it is pinned.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Lifetime {
    pub(crate) time_to_live: Option<Duration>,
    pub(crate) time_to_idle: Option<Duration>,
    pub(crate) pinned: bool,
}

impl Lifetime {
    /// Returns a lifetime by `options`, and by `self` where they say nothing.
    pub(crate) fn with(self, options: EntryOptions) -> Lifetime {
        Lifetime {
            time_to_live: options.time_to_live.unwrap_or(self.time_to_live),
            time_to_idle: options.time_to_idle.unwrap_or(self.time_to_idle),
            pinned: options.pinned,
        }
    }

    pub(crate) fn expires(self) -> bool {
        self.time_to_live.is_some() || self.time_to_idle.is_some()
    }
}
