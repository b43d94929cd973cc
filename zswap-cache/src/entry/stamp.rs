//! Stamps: what the cache knows of an entry beyond its value.
//!
//! ```text
//!   version  64 bits                                a number that is never used twice
//!   life     pinned 1 | expires at: 63 bits         milliseconds of the cache's clock
//!   idle     limit 24 bits | expires at: 40 bits    the same; a limit is 20 bits and a shift
//! ```
//!
//! Stamps are read and written under the lock of the entry's shard, so their atomics order nothing.
//! They are atomics because a look-up sees the stored key by a shared reference.

use std::fmt;

use zpool_core::internal::sync::atomic::{AtomicU64, Ordering};

use crate::entry::options::Lifetime;
use crate::time::{Millis, millis};

/// Names what was stored under a key at one moment. No two stores of a cache have the same version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Version(pub(crate) u64);

/// Attachment of a stored key: [`Stamp`] or [`Unstamped`].
pub trait EntryStamp: sealed::Sealed + fmt::Debug + Clone + Send + Sync + 'static {
    /// Whether entries can expire, have versions and be pinned.
    #[doc(hidden)]
    const STAMPED: bool;
    #[doc(hidden)]
    fn new(made: NewStamp) -> Self;
    #[doc(hidden)]
    fn is_expired(&self, now: Millis) -> bool;
    #[doc(hidden)]
    fn touch(&self, now: Millis);
    #[doc(hidden)]
    fn is_pinned(&self) -> bool;
    #[doc(hidden)]
    fn set_pinned(&self, pinned: bool);
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::Stamp {}
    impl Sealed for super::Unstamped {}
}

/// Contents of a new stamp.
#[doc(hidden)]
#[derive(Debug, Clone, Copy)]
pub struct NewStamp {
    pub(crate) version: u64,
    pub(crate) now: Millis,
    pub(crate) lifetime: Lifetime,
}

/// No stamp: entries cost nothing more than in a store, and have no expiry, versions or pins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unstamped;

impl EntryStamp for Unstamped {
    const STAMPED: bool = false;

    #[inline]
    fn new(_: NewStamp) -> Unstamped {
        Unstamped
    }

    #[inline]
    fn is_expired(&self, _: Millis) -> bool {
        false
    }

    #[inline]
    fn touch(&self, _: Millis) {}

    #[inline]
    fn is_pinned(&self) -> bool {
        false
    }

    fn set_pinned(&self, _: bool) {}
}

/// The stamp of an entry with a version, an expiry and a pin: 24 bytes of the index.
#[derive(Debug)]
pub struct Stamp {
    version: AtomicU64,
    life: AtomicU64,
    idle: AtomicU64,
}

const _: () = assert!(size_of::<Stamp>() == 24, "the documented cost of an entry");

const PINNED: u64 = 1 << 63;
/// The time that never comes.
const NEVER: u64 = PINNED - 1;
const IDLE_BITS: u32 = 40;
/// The latest time that an idle entry can expire at, some 34 years.
const LATEST_IDLE: u64 = (1 << IDLE_BITS) - 1;

impl EntryStamp for Stamp {
    const STAMPED: bool = true;

    fn new(made: NewStamp) -> Stamp {
        let NewStamp { version, now, lifetime } = made;
        let stamp = Stamp {
            version: AtomicU64::new(version),
            life: AtomicU64::new(NEVER),
            idle: AtomicU64::new(0),
        };
        stamp.set_time_to_live(lifetime.time_to_live.map(millis), now);
        stamp.set_time_to_idle(lifetime.time_to_idle.map(millis), now);
        stamp.set_pinned(lifetime.pinned);
        stamp
    }

    #[inline]
    fn is_expired(&self, now: Millis) -> bool {
        let idle = self.idle();
        self.expires() <= now || (idle != 0 && idle & LATEST_IDLE <= now)
    }

    /// Begins the idle time anew.
    #[inline]
    fn touch(&self, now: Millis) {
        let idle = self.idle();
        if idle != 0 {
            let limit = idle >> IDLE_BITS;
            let at = now.saturating_add(unpack_limit(limit)).min(LATEST_IDLE);
            // Only forward: another thread may have read the clock later and come here first.
            if at > idle & LATEST_IDLE {
                self.idle.store(limit << IDLE_BITS | at, Ordering::Relaxed);
            }
        }
    }

    #[inline]
    fn is_pinned(&self) -> bool {
        self.life() & PINNED != 0
    }

    fn set_pinned(&self, pinned: bool) {
        let pin = if pinned { PINNED } else { 0 };
        self.life.store(self.expires() | pin, Ordering::Relaxed);
    }
}

impl Stamp {
    #[inline]
    fn life(&self) -> u64 {
        self.life.load(Ordering::Relaxed)
    }

    #[inline]
    fn expires(&self) -> u64 {
        self.life() & NEVER
    }

    #[inline]
    fn idle(&self) -> u64 {
        self.idle.load(Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn version(&self) -> Version {
        Version(self.version.load(Ordering::Relaxed))
    }

    /// Sets when the entry expires, counted from `now`; `None` is never.
    pub(crate) fn set_time_to_live(&self, after: Option<Millis>, now: Millis) {
        let at = after.map_or(NEVER, |after| now.saturating_add(after.max(1)).min(NEVER));
        self.life.store(self.life() & PINNED | at, Ordering::Relaxed);
    }

    /// Sets after how long without a use the entry expires, counted from `now`.
    pub(crate) fn set_time_to_idle(&self, after: Option<Millis>, now: Millis) {
        let limit = after.map_or(0, |after| pack_limit(after.max(1)));
        self.idle.store(limit << IDLE_BITS, Ordering::Relaxed);
        self.touch(now);
    }

    /// Returns the milliseconds until the entry expires unless it is used, or `None` if it never
    /// does.
    pub(crate) fn expires_in(&self, now: Millis) -> Option<Millis> {
        let idle = self.idle();
        let idle = if idle == 0 { NEVER } else { idle & LATEST_IDLE };
        let at = self.expires().min(idle);
        (at != NEVER).then(|| at.saturating_sub(now))
    }

    /// Takes over all but the version, for a value that replaces another one.
    pub(crate) fn inherit(&self, older: &Stamp) {
        self.life.store(older.life(), Ordering::Relaxed);
        self.idle.store(older.idle(), Ordering::Relaxed);
    }
}

impl Clone for Stamp {
    fn clone(&self) -> Stamp {
        Stamp {
            version: AtomicU64::new(self.version().0),
            life: AtomicU64::new(self.life()),
            idle: AtomicU64::new(self.idle()),
        }
    }
}

const MANTISSA_BITS: u32 = 20;
const LARGEST_SHIFT: u32 = 15;

/// Packs an idle limit into 24 bits, rounded up: 20 bits, and by how many pairs of bits to shift.
fn pack_limit(limit: Millis) -> u64 {
    for shift in 0..=LARGEST_SHIFT {
        let mantissa = limit.div_ceil(1 << (2 * shift));
        if mantissa < 1 << MANTISSA_BITS {
            return mantissa << 4 | u64::from(shift);
        }
    }
    ((1 << MANTISSA_BITS) - 1) << 4 | u64::from(LARGEST_SHIFT)
}

#[inline]
fn unpack_limit(limit: u64) -> Millis {
    (limit >> 4) << (2 * (limit & 15))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn stamp(lifetime: Lifetime, now: Millis) -> Stamp {
        Stamp::new(NewStamp { version: 7, now, lifetime })
    }

    #[test]
    fn idle_limit_packed_is_never_shorter() {
        let limits = (1..49).flat_map(|bit| [1u64 << bit, (1 << bit) + 1, 3 << (bit - 1)]);
        for limit in limits.filter(|&limit| limit < 1 << 49) {
            let (packed, again) = (pack_limit(limit), unpack_limit(pack_limit(limit)));
            assert!(packed < 1 << 24 && again >= limit, "{limit} becomes {again}");
            assert!(again - limit <= limit >> 18, "{limit} becomes {again}");
        }
        assert!(unpack_limit(pack_limit(u64::MAX)) > LATEST_IDLE);
    }

    #[test]
    fn stamp_parts_do_not_touch_each_other() {
        let second = Duration::from_secs(1);
        let lifetime = Lifetime {
            time_to_live: Some(9 * second),
            time_to_idle: Some(2 * second),
            pinned: true,
        };
        let stamp = stamp(lifetime, 500);
        assert_eq!((stamp.version(), stamp.is_pinned()), (Version(7), true));
        assert_eq!(stamp.expires_in(1000), Some(1500));
        assert!(!stamp.is_expired(2499) && stamp.is_expired(2500));
        stamp.touch(2400);
        assert!(!stamp.is_expired(4399) && stamp.is_expired(4400));
        stamp.set_pinned(false);
        stamp.set_time_to_idle(None, 2400);
        assert_eq!((stamp.is_pinned(), stamp.expires_in(0)), (false, Some(9500)));
        assert!(!stamp.is_expired(9499) && stamp.is_expired(9500));
        stamp.set_time_to_live(None, 0);
        assert!(!stamp.is_expired(NEVER - 1) && stamp.expires_in(0).is_none());
    }

    #[test]
    fn times_without_end_do_not_overflow() {
        let lifetime = Lifetime {
            time_to_live: Some(Duration::MAX),
            time_to_idle: Some(Duration::MAX),
            pinned: false,
        };
        let stamp = stamp(lifetime, u64::from(u32::MAX));
        assert!(!stamp.is_expired(LATEST_IDLE - 1));
    }
}
