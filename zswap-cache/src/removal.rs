//! State of callbacks: counts of removals by cause, bytes of pins, calls of the listener.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use zpool_core::internal::catch;
use zpool_core::internal::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::entry::stamp::EntryStamp;
use crate::entry::stamped::Stamped;
use crate::time::Clock;

/// The reason why an entry is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RemovalCause {
    /// Evicted to make room, or lost by the store's tier.
    Evicted,
    /// Another value was stored under the key.
    Replaced,
    /// Its time to live or to idle was over.
    Expired,
    /// The program removed it, or a newer value could not be stored.
    Invalidated,
    /// The program cleared the cache.
    Cleared,
}

pub(crate) const CAUSES: [RemovalCause; 5] = [
    RemovalCause::Evicted,
    RemovalCause::Replaced,
    RemovalCause::Expired,
    RemovalCause::Invalidated,
    RemovalCause::Cleared,
];

/// Receives the key, the length in bytes and the cause of what is gone.
pub(crate) type RemovalListener<K> = Box<dyn Fn(&K, usize, RemovalCause) + Send + Sync>;

thread_local! {
    /// The caches whose listeners run on this thread, by address.
    static NOTIFYING: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

/// State that a cache shares with its store's callbacks.
pub(crate) struct CallbackState<K> {
    pub(crate) listener: Option<RemovalListener<K>>,
    pub(crate) clock: Clock,
    /// Bytes of pinned values, as they were given.
    pub(crate) pinned: AtomicUsize,
    by_cause: [AtomicU64; CAUSES.len()],
    pub(crate) listeners_panicked: AtomicU64,
}

impl<K> CallbackState<K> {
    pub(crate) fn new(listener: Option<RemovalListener<K>>, clock: Clock) -> Arc<CallbackState<K>> {
        Arc::new(CallbackState {
            listener,
            clock,
            pinned: AtomicUsize::new(0),
            by_cause: Default::default(),
            listeners_panicked: AtomicU64::new(0),
        })
    }

    /// Returns the number of entries that are gone for this cause.
    pub(crate) fn count(&self, cause: RemovalCause) -> u64 {
        // Relaxed, here and below: statistics.
        self.by_cause[cause as usize].load(Ordering::Relaxed)
    }

    /// Notes that an entry is gone, and calls the listener. Called once per entry, with no lock
    /// held, after its memory is freed. An entry that had expired is gone for that reason.
    pub(crate) fn note_removed<M: EntryStamp>(
        &self,
        key: &Stamped<K, M>,
        len: usize,
        cause: RemovalCause,
    ) {
        let expires = matches!(cause, RemovalCause::Evicted | RemovalCause::Replaced);
        let cause = if expires && key.stamp.is_expired(self.clock.now()) {
            RemovalCause::Expired
        } else {
            cause
        };
        self.by_cause[cause as usize].fetch_add(1, Ordering::Relaxed);
        if key.stamp.is_pinned() {
            self.unpin_bytes(len);
        }
        if let Some(listener) = &self.listener {
            self.notify(|| listener(&key.key, len, cause));
        }
    }

    /// Reserves `bytes` of the share of pinned values, which has `max`. Returns false if they do
    /// not fit.
    pub(crate) fn pin_bytes(&self, bytes: usize, max: usize) -> bool {
        // Relaxed: an account, exact because each entry's pin is set and cleared under a lock.
        let add = |pinned: usize| pinned.checked_add(bytes).filter(|&sum| sum <= max);
        self.pinned.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).is_ok()
    }

    pub(crate) fn unpin_bytes(&self, bytes: usize) {
        self.pinned.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Calls the listener, unless it runs on this thread already: a listener that stores what it
    /// receives would recurse for ever.
    fn notify(&self, call: impl FnOnce()) {
        let this = std::ptr::from_ref(self).addr();
        let entered = NOTIFYING.try_with(|notifying| {
            let mut notifying = notifying.borrow_mut();
            let enters = !notifying.contains(&this) && notifying.try_reserve(1).is_ok();
            if enters {
                notifying.push(this);
            }
            enters
        });
        // Without the list, the thread is about to end: there is nothing to recurse from.
        if entered == Ok(false) {
            return;
        }
        if catch(call).is_none() {
            self.listeners_panicked.fetch_add(1, Ordering::Relaxed);
        }
        let _ =
            NOTIFYING.try_with(|notifying| notifying.borrow_mut().retain(|&other| other != this));
    }
}

impl<K> fmt::Debug for CallbackState<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallbackState")
            .field("listener", &self.listener.is_some())
            .field("pinned", &self.pinned)
            .field("by_cause", &self.by_cause)
            .finish_non_exhaustive()
    }
}
