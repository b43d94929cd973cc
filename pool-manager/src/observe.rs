//! Watching pools come and go.

use std::cell::Cell;
use std::fmt::{self, Debug};
use std::sync::Arc;
use std::time::Duration;

use zpool_core::internal::{Contained, contained};

use crate::pool::{Pool, PoolLabel};

/// Is told what happens to pools.
pub trait PoolObserver: Send + Sync + Debug {
    /// Something happened. Called on the thread that made it happen, with no lock held but, for all
    /// events of a switch, the switchers' own.
    ///
    /// [`PoolEventKind::Emptied`] comes from the thread that dropped the last reference, inside a
    /// [`NoBlock`](zpool_core::NoBlock) section: do not block. A panic is contained and ignored. A
    /// switch, a flush or a reap from inside this call is an error or does nothing: it could wait
    /// for the switch that called.
    fn observe(&self, event: &PoolEvent<'_>);
}

/// What happened to a pool.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct PoolEvent<'a> {
    /// What.
    pub kind: PoolEventKind,
    /// To which pool.
    pub pool: &'a PoolLabel,
    /// Time since the pool was made.
    pub age: Duration,
    /// Bytes it holds; 0 once it is destroyed, and if its allocator panicked when asked.
    pub bytes_held: usize,
}

/// The stations of a pool's life, in order; retired and revived may alternate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PoolEventKind {
    /// Made, not yet visible to anybody.
    Created,
    /// Current: new objects go there.
    Published,
    /// Not current any more.
    Retired,
    /// Current again.
    Revived,
    /// The last reference has gone: its destruction is handed over.
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

/// An observer, or none.
#[derive(Debug, Clone, Default)]
pub(crate) struct Watch(Option<Contained<Arc<dyn PoolObserver>>>);

thread_local! {
    /// Calls of observers on this thread's stack.
    static OBSERVING: Cell<u32> = const { Cell::new(0) };
}

/// Is the calling thread inside an observer?
pub(crate) fn is_observing() -> bool {
    OBSERVING.with(Cell::get) > 0
}

impl Watch {
    pub(crate) fn new(observer: Option<Contained<Arc<dyn PoolObserver>>>) -> Watch {
        Watch(observer)
    }

    pub(crate) fn pool(&self, kind: PoolEventKind, pool: &Pool) {
        if self.0.is_some() {
            // Foreign code, on the release path among others.
            let bytes = contained(|| pool.bytes_held()).unwrap_or(0);
            self.tell(kind, pool.label(), pool.age(), bytes);
        }
    }

    pub(crate) fn tell(
        &self,
        kind: PoolEventKind,
        pool: &PoolLabel,
        age: Duration,
        bytes_held: usize,
    ) {
        if let Some(observer) = &self.0 {
            let event = PoolEvent { kind, pool, age, bytes_held };
            OBSERVING.with(|o| o.set(o.get() + 1));
            contained(|| observer.observe(&event));
            OBSERVING.with(|o| o.set(o.get() - 1));
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
