//! Observers of what happens to pools.

use std::cell::Cell;
use std::fmt::{self, Debug};
use std::sync::Arc;
use std::time::Duration;

use zpool_core::internal::{Foreign, catch};

use crate::pools::pool::{Pool, PoolLabel};

/// Receives the events in the life of pools.
pub trait PoolObserver: Send + Sync + Debug {
    /// Handles an event.
    ///
    /// Called on the thread that caused the event. Events of a switch are reported under the switch
    /// mutex, others with no lock held.
    ///
    /// - [`PoolEventKind::Emptied`] comes from the thread that dropped the last reference, inside a
    ///   [`NoBlock`](zpool_core::NoBlock) section: do not block.
    /// - A panic is caught and ignored.
    /// - A switch, flush or reap from inside this call is an error or does nothing, because it
    ///   could wait for the switch that made the call.
    fn observe(&self, event: &PoolEvent<'_>);
}

/// An event in the life of a pool.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct PoolEvent<'a> {
    /// The kind of event.
    pub kind: PoolEventKind,
    /// The pool.
    pub pool: &'a PoolLabel,
    /// Time since the pool was made.
    pub age: Duration,
    /// Bytes that the pool holds. 0 once it is destroyed, or if its allocator panicked when asked.
    pub bytes_held: usize,
}

/// The events of a pool's life, in order. Retired and revived may alternate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PoolEventKind {
    /// Made, and not yet visible to other threads.
    Created,
    /// Made current by a switch: new objects go there. Not reported for a cold pool.
    Published,
    /// No longer the current or the cold pool.
    Retired,
    /// Current again, or made the cold pool, after it was retired.
    Revived,
    /// The last reference is gone, and the destruction is handed to the executor.
    Emptied,
    /// Destroyed.
    Destroyed,
}

impl fmt::Display for PoolEventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PoolEventKind::Created => "created",
            PoolEventKind::Published => "published",
            PoolEventKind::Retired => "retired",
            PoolEventKind::Revived => "revived",
            PoolEventKind::Emptied => "emptied",
            PoolEventKind::Destroyed => "destroyed",
        })
    }
}

/// Notifies the observer, if there is one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Notifier(Option<Foreign<Arc<dyn PoolObserver>>>);

thread_local! {
    /// Calls of observers on this thread's stack.
    static OBSERVING: Cell<u32> = const { Cell::new(0) };
}

/// Returns whether the calling thread is inside an observer.
pub(crate) fn is_observing() -> bool {
    OBSERVING.with(Cell::get) > 0
}

impl Notifier {
    pub(crate) fn new(observer: Option<Foreign<Arc<dyn PoolObserver>>>) -> Notifier {
        Notifier(observer)
    }

    /// Reports an event of a live pool.
    pub(crate) fn notify_pool(&self, kind: PoolEventKind, pool: &Pool) {
        if self.0.is_some() {
            // Foreign code, on the release path among others.
            let bytes = catch(|| pool.bytes_held()).unwrap_or(0);
            self.notify(kind, pool.label(), pool.age(), bytes);
        }
    }

    /// Reports an event.
    pub(crate) fn notify(
        &self,
        kind: PoolEventKind,
        pool: &PoolLabel,
        age: Duration,
        bytes_held: usize,
    ) {
        if let Some(observer) = &self.0 {
            let event = PoolEvent { kind, pool, age, bytes_held };
            OBSERVING.with(|depth| depth.set(depth.get() + 1));
            catch(|| observer.observe(&event));
            OBSERVING.with(|depth| depth.set(depth.get() - 1));
        }
    }
}

/// Writes each event to [`tracing`], at debug level, target `zpool`.
#[cfg(feature = "tracing")]
#[derive(Debug, Clone, Copy, Default)]
pub struct TracingObserver;

#[cfg(feature = "tracing")]
impl PoolObserver for TracingObserver {
    fn observe(&self, event: &PoolEvent<'_>) {
        tracing::debug!(
            target: "zpool",
            pool = %event.pool.name,
            spec = %event.pool.spec,
            bytes_held = event.bytes_held,
            age_us = u64::try_from(event.age.as_micros()).unwrap_or(u64::MAX),
            "{}", event.kind
        );
    }
}
