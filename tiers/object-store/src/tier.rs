//! Segments as objects.

use std::fmt;
use std::sync::Arc;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use zpool_core::backing::{
    BackingCapabilities, BackingError, BackingStore, SegmentNumber, SegmentVersions,
};

use crate::builder::ObjectStoreTierBuilder;
use crate::requests::Requests;

/// A tier whose segments are objects.
///
/// Calls wait for the network, at most for the timeout. The request runs as a task, so it owns a
/// copy of the bytes. The server may carry out a write after its call timed out, so each write has
/// its own object name.
pub struct ObjectStoreTier {
    store: Arc<dyn ObjectStore>,
    capabilities: BackingCapabilities,
    prefix: Path,
    requests: Requests,
    versions: SegmentVersions,
}

impl ObjectStoreTier {
    /// Starts to build a tier of `bytes` in `store`.
    ///
    /// # Example
    ///
    /// ```
    /// use std::sync::Arc;
    /// use std::time::Duration;
    ///
    /// use zswap_tier_object_store::ObjectStoreTier;
    /// use zswap_tier_object_store::object_store::memory::InMemory;
    ///
    /// let tier = ObjectStoreTier::builder(Arc::new(InMemory::new()), 64 << 20)
    ///     .prefix("cache/of/this-service")
    ///     .timeout(Duration::from_secs(5))
    ///     .build()?;
    /// assert!(tier.prefix().as_ref().starts_with("cache/of/this-service/"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn builder(store: Arc<dyn ObjectStore>, bytes: u64) -> ObjectStoreTierBuilder {
        ObjectStoreTierBuilder::new(store, bytes)
    }

    pub(crate) fn new(
        store: Arc<dyn ObjectStore>,
        capabilities: BackingCapabilities,
        prefix: Path,
        requests: Requests,
    ) -> ObjectStoreTier {
        ObjectStoreTier { store, capabilities, prefix, requests, versions: SegmentVersions::new() }
    }

    /// Returns the prefix of this tier's objects, which no other tier uses.
    pub fn prefix(&self) -> &Path {
        &self.prefix
    }

    fn path(&self, segment: SegmentNumber, version: u64) -> Path {
        self.prefix.clone().join(format!("{:08x}-{version}", segment.get()))
    }

    /// Deletes all objects that no segment refers to.
    fn delete_strays(&self) -> Result<(), BackingError> {
        self.versions.delete_strays(|strays| {
            let paths: Vec<_> =
                strays.iter().map(|(segment, version)| Ok(self.path(*segment, *version))).collect();
            let store = self.store.clone();
            let deleted = self.requests.wait(async move {
                let deletions = store.delete_stream(stream::iter(paths).boxed());
                deletions.map(ignore_missing).try_collect::<Vec<()>>().await
            });
            deleted.map(drop)
        })
    }
}

/// Treats a missing object as deleted.
fn ignore_missing(deleted: object_store::Result<Path>) -> object_store::Result<()> {
    match deleted {
        Ok(_) | Err(object_store::Error::NotFound { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

impl BackingStore for ObjectStoreTier {
    fn capabilities(&self) -> BackingCapabilities {
        self.capabilities
    }

    fn write(&self, segment: SegmentNumber, bytes: &[u8]) -> Result<(), BackingError> {
        self.capabilities.check_write(segment, bytes);
        let payload = PutPayload::from(bytes.to_vec());
        self.versions.write(segment, |version| {
            let (store, path) = (self.store.clone(), self.path(segment, version));
            self.requests.wait(async move { store.put(&path, payload).await.map(drop) })
        })
    }

    fn read(
        &self,
        segment: SegmentNumber,
        offset: usize,
        into: &mut [u8],
    ) -> Result<(), BackingError> {
        self.capabilities.check_read(segment, offset, into);
        let version = self.versions.current(segment).ok_or(BackingError::Gone)?;
        let (store, path) = (self.store.clone(), self.path(segment, version));
        let range = offset as u64..(offset + into.len()) as u64;
        let bytes = self.requests.wait(async move { store.get_range(&path, range).await })?;
        if bytes.len() != into.len() {
            return Err(BackingError::short_read(offset, into.len(), bytes.len()));
        }
        into.copy_from_slice(&bytes);
        Ok(())
    }

    fn discard(&self, segment: SegmentNumber) -> Result<(), BackingError> {
        self.capabilities.check_discard(segment);
        self.versions.discard(segment);
        self.delete_strays()
    }
}

impl Drop for ObjectStoreTier {
    /// Deletes the objects. Those that cannot be deleted within the timeout stay.
    fn drop(&mut self) {
        self.versions.discard_all();
        // A drop has no way to report what is left.
        let _ = self.delete_strays();
    }
}

impl fmt::Debug for ObjectStoreTier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ObjectStoreTier { store, capabilities, prefix, .. } = self;
        write!(f, "ObjectStoreTier({store}, {prefix}, {capabilities:?})")
    }
}
