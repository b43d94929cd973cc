//! The facts about a pool by which callers and test suites choose what to do with it.

/// Facts about a pool. Use them to choose policy and test cases, instead of making calls that fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// The largest object in bytes. Every length from 1 to this is accepted.
    pub max_object_len: usize,
    /// Objects may change their address while no guard holds them.
    pub moves_objects: bool,
    /// Whether [`ZPool::compact`](crate::ZPool::compact) is implemented.
    pub can_compact: bool,
    /// `compact` reports an [estimate](crate::CompactionReport::estimated_bytes), in which 0 means
    /// that there is nothing to gain.
    pub estimates_compaction: bool,
    /// Whether [`ZPool::reclaim`](crate::ZPool::reclaim) is implemented.
    pub can_reclaim: bool,
    /// With [`PoolConfig::wipe_on_free`](crate::PoolConfig::wipe_on_free), no byte of a freed
    /// object remains.
    pub wipes_on_free: bool,
    /// The most objects that share a page, whatever their length; `None` if only length matters.
    pub objects_per_page: Option<u32>,
}

impl Capabilities {
    /// Returns the facts of a pool that takes objects up to `max_object_len` bytes, never moves
    /// them, and does nothing beyond the required methods.
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

    /// Adds that `compact` works, and moves objects.
    pub const fn compacting(self) -> Capabilities {
        Capabilities { moves_objects: true, can_compact: true, ..self }
    }

    /// Adds that `compact` estimates what there is to gain.
    pub const fn estimating(self) -> Capabilities {
        Capabilities { estimates_compaction: true, ..self }
    }

    /// Adds that `reclaim` works.
    pub const fn reclaiming(self) -> Capabilities {
        Capabilities { can_reclaim: true, ..self }
    }

    /// Adds that freed objects are wiped on request.
    pub const fn wiping(self) -> Capabilities {
        Capabilities { wipes_on_free: true, ..self }
    }

    /// Adds a bound on the objects that share a page.
    pub const fn with_objects_per_page(self, bound: u32) -> Capabilities {
        Capabilities { objects_per_page: Some(bound), ..self }
    }
}
