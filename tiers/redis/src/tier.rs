//! Segments as values.

use std::fmt;
use std::time::Duration;

use redis::{Client, Cmd, cmd};
use zpool_core::backing::{
    BackingCapabilities, BackingError, BackingStore, SegmentNumber, SegmentVersions,
};

use crate::builder::RedisTierBuilder;
use crate::connections::Connections;

/// The most keys of one `UNLINK` command.
const UNLINK_BATCH: usize = 256;

/// A tier whose segments are values of a server.
///
/// Each write uses a new key, so a write that the server performs late cannot replace a newer one.
pub struct RedisTier {
    connections: Connections,
    capabilities: BackingCapabilities,
    prefix: String,
    expire_after: Option<Duration>,
    versions: SegmentVersions,
}

impl RedisTier {
    /// Starts to build a tier of `bytes` in the server of `client`.
    ///
    /// # Example
    ///
    /// ```no_run
    /// use std::time::Duration;
    ///
    /// use zswap_tier_redis::{RedisTier, redis};
    ///
    /// let client = redis::Client::open("redis://127.0.0.1:6379")?;
    /// let tier = RedisTier::builder(client, 64 << 20)
    ///     .segment_bytes(256 << 10)
    ///     .timeout(Duration::from_millis(500))
    ///     .expire_after(Duration::from_secs(24 * 3600))
    ///     .build()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn builder(client: Client, bytes: u64) -> RedisTierBuilder {
        RedisTierBuilder::new(client, bytes)
    }

    pub(crate) fn new(
        connections: Connections,
        capabilities: BackingCapabilities,
        prefix: String,
        expire_after: Option<Duration>,
    ) -> RedisTier {
        let versions = SegmentVersions::new();
        RedisTier { connections, capabilities, prefix, expire_after, versions }
    }

    /// Returns the prefix of this tier's keys, which no other tier uses.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    fn key(&self, segment: SegmentNumber, version: u64) -> String {
        format!("{}:{segment}:{version}", self.prefix)
    }

    fn set(&self, key: String, bytes: &[u8]) -> Cmd {
        let mut set = cmd("SET");
        set.arg(key).arg(bytes);
        if let Some(age) = self.expire_after {
            set.arg("PX").arg(u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
        }
        set
    }

    /// Unlinks all values that no segment refers to.
    fn unlink_strays(&self) -> Result<(), BackingError> {
        self.versions.delete_strays(|strays| {
            strays.chunks(UNLINK_BATCH).try_for_each(|batch| {
                let mut unlink = cmd("UNLINK");
                batch.iter().for_each(|(segment, version)| {
                    unlink.arg(self.key(*segment, *version));
                });
                self.connections.run::<()>(&unlink)
            })
        })
    }
}

impl BackingStore for RedisTier {
    fn capabilities(&self) -> BackingCapabilities {
        self.capabilities
    }

    fn write(&self, segment: SegmentNumber, bytes: &[u8]) -> Result<(), BackingError> {
        self.capabilities.check_write(segment, bytes);
        self.versions.write(segment, |version| {
            self.connections.run::<()>(&self.set(self.key(segment, version), bytes))
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
        let mut range = cmd("GETRANGE");
        range.arg(self.key(segment, version)).arg(offset).arg(offset + into.len() - 1);
        let bytes: Vec<u8> = self.connections.run(&range)?;
        if bytes.is_empty() {
            // The answer for a missing key, and for a value that ends before `offset`.
            return Err(BackingError::Gone);
        }
        if bytes.len() != into.len() {
            return Err(BackingError::short_read(offset, into.len(), bytes.len()));
        }
        into.copy_from_slice(&bytes);
        Ok(())
    }

    fn discard(&self, segment: SegmentNumber) -> Result<(), BackingError> {
        self.capabilities.check_discard(segment);
        self.versions.discard(segment);
        self.unlink_strays()
    }
}

impl Drop for RedisTier {
    /// Unlinks the values. Those that cannot be unlinked because the server does not answer stay.
    fn drop(&mut self) {
        self.versions.discard_all();
        // A drop has no way to report what is left.
        let _ = self.unlink_strays();
    }
}

impl fmt::Debug for RedisTier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RedisTier { capabilities, prefix, expire_after, .. } = self;
        f.debug_struct("RedisTier")
            .field("prefix", prefix)
            .field("capabilities", capabilities)
            .field("expire_after", expire_after)
            .finish_non_exhaustive()
    }
}
