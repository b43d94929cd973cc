//! Settings of a tier, and the errors of building one.

use std::collections::hash_map::RandomState;
use std::error::Error;
use std::fmt;
use std::hash::BuildHasher;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use object_store::ObjectStore;
use object_store::path::Path;
use tokio::runtime::Handle;
use zpool_core::backing::{BackingCapabilities, CapabilitiesError};

use crate::requests::Requests;
use crate::tier::ObjectStoreTier;

/// Default segment size in bytes: 8 MiB, because a request costs a round trip whatever its length.
pub const DEFAULT_SEGMENT_BYTES: usize = 8 << 20;

/// Default time that a call waits for its answer.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// Default prefix of object names.
pub const DEFAULT_PREFIX: &str = "zswap-tier";

/// Settings of an [`ObjectStoreTier`].
#[derive(Debug, Clone)]
pub struct ObjectStoreTierBuilder {
    store: Arc<dyn ObjectStore>,
    bytes: u64,
    segment_bytes: usize,
    timeout: Duration,
    prefix: Path,
    runtime: Option<Handle>,
}

impl ObjectStoreTierBuilder {
    pub(crate) fn new(store: Arc<dyn ObjectStore>, bytes: u64) -> ObjectStoreTierBuilder {
        ObjectStoreTierBuilder {
            store,
            bytes,
            segment_bytes: DEFAULT_SEGMENT_BYTES,
            timeout: DEFAULT_TIMEOUT,
            prefix: Path::from(DEFAULT_PREFIX),
            runtime: None,
        }
    }

    /// Sets the bytes of a segment, which is an object (default: [`DEFAULT_SEGMENT_BYTES`]).
    pub fn segment_bytes(self, segment_bytes: usize) -> ObjectStoreTierBuilder {
        ObjectStoreTierBuilder { segment_bytes, ..self }
    }

    /// Sets how long a call waits for its answer before it fails (default: [`DEFAULT_TIMEOUT`]).
    /// The object store may repeat a request within that time.
    pub fn timeout(self, timeout: Duration) -> ObjectStoreTierBuilder {
        ObjectStoreTierBuilder { timeout, ..self }
    }

    /// Sets the first part of the objects' names (default: [`DEFAULT_PREFIX`]). Behind it is a part
    /// that each tier draws at random.
    pub fn prefix(self, prefix: impl Into<Path>) -> ObjectStoreTierBuilder {
        ObjectStoreTierBuilder { prefix: prefix.into(), ..self }
    }

    /// Sets the runtime on which requests run (default: one of the tier's own, with one thread).
    ///
    /// Calls wait on the calling thread, so the runtime has to make progress without it. Do not
    /// call the tier on a worker thread of this runtime: tokio keeps a new task on the worker that
    /// spawned it, so the call times out. Use `spawn_blocking` there.
    pub fn runtime(self, runtime: Handle) -> ObjectStoreTierBuilder {
        ObjectStoreTierBuilder { runtime: Some(runtime), ..self }
    }

    /// Builds the tier. The bytes are rounded down to whole segments. Makes no request.
    ///
    /// # Errors
    ///
    /// [`ObjectStoreTierError`] if the bytes are less than a segment or more than [`u32::MAX`]
    /// segments, or if the runtime cannot start its thread.
    pub fn build(self) -> Result<ObjectStoreTier, ObjectStoreTierError> {
        let capabilities = BackingCapabilities::with_capacity(self.bytes, self.segment_bytes)
            .map_err(ObjectStoreTierError::Capabilities)?
            .with_remote();
        let requests = match self.runtime {
            Some(handle) => Requests::on(handle, self.timeout),
            None => {
                Requests::on_own_runtime(self.timeout).map_err(ObjectStoreTierError::Runtime)?
            }
        };
        let own = format!("{:016x}", RandomState::new().hash_one(std::process::id()));
        let prefix: Path = self.prefix.parts().chain([own.into()]).collect();
        Ok(ObjectStoreTier::new(self.store, capabilities, prefix, requests))
    }
}

/// Error of building an [`ObjectStoreTier`].
#[derive(Debug)]
#[non_exhaustive]
pub enum ObjectStoreTierError {
    /// The size of the tier or of its segments, or the number of segments, is out of range.
    Capabilities(CapabilitiesError),
    /// The runtime could not start.
    Runtime(io::Error),
}

impl fmt::Display for ObjectStoreTierError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ObjectStoreTierError::Capabilities(error) => {
                write!(f, "cannot build an object-store tier: {error}")
            }
            ObjectStoreTierError::Runtime(error) => write!(
                f,
                "cannot start a runtime for requests to an object store: {error}; free resources, \
                 or name a runtime of your own"
            ),
        }
    }
}

/// The text contains its cause, so there is no source.
impl Error for ObjectStoreTierError {}
