//! The cache's clock, in milliseconds since the cache was made.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use zpool_core::internal::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Milliseconds since the cache was made.
pub(crate) type Millis = u64;

/// A clock that moves only by calls of [`advance`](Self::advance): for tests of expiry.
///
/// ```
/// use std::sync::Arc;
/// use std::time::Duration;
///
/// use zswap_cache::{Cache, ManualTime};
///
/// let time = Arc::new(ManualTime::new());
/// let cache: Cache<u32> =
///     Cache::builder().time_to_live(Duration::from_secs(60)).manual_time(&time).build()?;
/// cache.insert(1, b"one")?;
/// time.advance(Duration::from_secs(59));
/// assert!(cache.contains(&1));
/// time.advance(Duration::from_secs(1));
/// assert!(!cache.contains(&1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Default)]
pub struct ManualTime(AtomicU64);

impl ManualTime {
    /// Makes a clock that stands at zero.
    pub fn new() -> ManualTime {
        ManualTime::default()
    }

    /// Moves the clock forward, by whole milliseconds.
    pub fn advance(&self, by: Duration) {
        // Relaxed: a thread that sees the time late finds an entry not expired yet.
        self.0.fetch_add(millis(by), Ordering::Relaxed);
    }
}

/// The cache's clock. It is read only once something may expire.
pub(crate) struct Clock {
    source: Source,
    /// Whether anything that expires was stored.
    used: AtomicBool,
}

enum Source {
    System(Instant),
    Manual(Arc<ManualTime>),
}

impl Clock {
    pub(crate) fn new(manual: Option<Arc<ManualTime>>) -> Clock {
        let source = manual.map_or_else(|| Source::System(Instant::now()), Source::Manual);
        Clock { source, used: AtomicBool::new(false) }
    }

    /// Returns the time, or 0 as long as nothing expires.
    #[inline]
    pub(crate) fn now(&self) -> Millis {
        // Relaxed: a thread that finds an entry that expires has seen its shard's lock released
        // after the flag was set. One that reads the clock before finds the entry fresh.
        if self.used.load(Ordering::Relaxed) { self.read() } else { 0 }
    }

    /// Returns the time, for an entry that will expire.
    pub(crate) fn now_for_deadline(&self) -> Millis {
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
        self.read()
    }

    fn read(&self) -> Millis {
        match &self.source {
            Source::System(start) => millis(start.elapsed()),
            Source::Manual(time) => time.0.load(Ordering::Relaxed),
        }
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ms", self.now())
    }
}

/// Returns the whole milliseconds of a duration.
pub(crate) fn millis(duration: Duration) -> Millis {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
