//! The record of facts by which callers and suites choose what to do with a pool.

/// What a pool can do. Used to select policy and test cases; never probe by calling and catching an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// The largest object in bytes; every length from 1 to this is accepted.
    pub max_object_len: usize,
    /// Objects may change their address while no guard holds them.
    pub moves_objects: bool,
    /// [`ZPool::compact`](crate::ZPool::compact) does something.
    pub can_compact: bool,
    /// What `compact` reports as its [estimate](crate::CompactionReport::estimated_bytes) is one: 0
    /// means that there is nothing to gain.
    pub estimates_compaction: bool,
    /// [`ZPool::reclaim`](crate::ZPool::reclaim) does something.
    pub can_reclaim: bool,
    /// With [`PoolConfig::wipe_on_free`](crate::PoolConfig::wipe_on_free) nothing is left of an object that is gone.
    pub wipes_on_free: bool,
    /// At most this many objects share a page, whatever their length; `None` where only their length counts.
    pub objects_per_page: Option<u32>,
}

impl Capabilities {
    /// A pool that takes objects up to `max_object_len` bytes, leaves them where they are, and does nothing beyond the required methods.
    pub const fn new(max_object_len: usize) -> Capabilities {
        Capabilities {
            max_object_len,
            moves_objects: false,
            can_compact: false,
            estimates_compaction: false,
            can_reclaim: false,
            wipes_on_free: false,
            objects_per_page: None,
        }
    }

    /// The same with objects that move, and a `compact` that moves them.
    pub const fn compacting(self) -> Capabilities {
        Capabilities { moves_objects: true, can_compact: true, ..self }
    }

    /// Adds that `compact` estimates what there is to gain.
    pub const fn estimating(self) -> Capabilities {
        Capabilities { estimates_compaction: true, ..self }
    }

    /// The same with a `reclaim`.
    pub const fn reclaiming(self) -> Capabilities {
        Capabilities { can_reclaim: true, ..self }
    }

    /// The same, wiping what is freed where that is asked for.
    pub const fn wiping(self) -> Capabilities {
        Capabilities { wipes_on_free: true, ..self }
    }

    /// The same with a bound on the objects of a page.
    pub const fn with_objects_per_page(self, bound: u32) -> Capabilities {
        Capabilities { objects_per_page: Some(bound), ..self }
    }
}
