//! Settings of a tier, and the errors of building one.

use std::collections::hash_map::RandomState;
use std::error::Error;
use std::fmt;
use std::hash::BuildHasher;
use std::time::Duration;

use redis::{Client, RedisError};
use zpool_core::backing::{BackingCapabilities, CapabilitiesError};

use crate::connections::Connections;
use crate::tier::RedisTier;

/// Default segment size in bytes: 1 MiB. A server handles one command at a time, so longer values
/// make its other clients wait.
pub const DEFAULT_SEGMENT_BYTES: usize = 1 << 20;

/// Default timeout of a connect, a send or a receive.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);

/// Default number of idle connections that are kept.
pub const DEFAULT_IDLE_CONNECTIONS: usize = 8;

/// Default prefix of keys.
pub const DEFAULT_PREFIX: &str = "zswap-tier";

/// The most bytes of a value: 512 MiB, the default `proto-max-bulk-len` of servers.
const MAX_VALUE_BYTES: usize = 512 << 20;

/// Settings of a [`RedisTier`].
#[derive(Debug, Clone)]
pub struct RedisTierBuilder {
    client: Client,
    bytes: u64,
    segment_bytes: usize,
    timeout: Duration,
    idle_connections: usize,
    prefix: String,
    expire_after: Option<Duration>,
}

impl RedisTierBuilder {
    pub(crate) fn new(client: Client, bytes: u64) -> RedisTierBuilder {
        RedisTierBuilder {
            client,
            bytes,
            segment_bytes: DEFAULT_SEGMENT_BYTES,
            timeout: DEFAULT_TIMEOUT,
            idle_connections: DEFAULT_IDLE_CONNECTIONS,
            prefix: DEFAULT_PREFIX.to_owned(),
            expire_after: None,
        }
    }

    /// Sets the bytes of a segment, which is a value (default: [`DEFAULT_SEGMENT_BYTES`]; at most
    /// 512 MiB).
    pub fn segment_bytes(self, segment_bytes: usize) -> RedisTierBuilder {
        RedisTierBuilder { segment_bytes, ..self }
    }

    /// Sets the timeout (default: [`DEFAULT_TIMEOUT`]; at least 1 ms).
    ///
    /// The timeout bounds each connect, send and receive; a call may need several.
    pub fn timeout(self, timeout: Duration) -> RedisTierBuilder {
        RedisTierBuilder { timeout: timeout.max(Duration::from_millis(1)), ..self }
    }

    /// Sets how many idle connections are kept (default: [`DEFAULT_IDLE_CONNECTIONS`]).
    ///
    /// Each concurrent call has its own connection. This limits only how many are kept when idle.
    pub fn idle_connections(self, idle_connections: usize) -> RedisTierBuilder {
        RedisTierBuilder { idle_connections, ..self }
    }

    /// Sets the first part of keys (default: [`DEFAULT_PREFIX`]). Behind it is a part that each
    /// tier draws at random.
    pub fn prefix(self, prefix: impl Into<String>) -> RedisTierBuilder {
        RedisTierBuilder { prefix: prefix.into(), ..self }
    }

    /// Lets the server delete values that are older than this (default: never).
    pub fn expire_after(self, age: Duration) -> RedisTierBuilder {
        RedisTierBuilder { expire_after: Some(age.max(Duration::from_millis(1))), ..self }
    }

    /// Builds the tier, and connects once. The bytes are rounded down to whole segments.
    ///
    /// # Errors
    ///
    /// [`RedisTierError`] if the bytes are less than a segment or more than [`u32::MAX`] segments,
    /// the segment is too long for a value, or the server cannot be reached.
    ///
    /// # Concurrency
    ///
    /// May block.
    pub fn build(self) -> Result<RedisTier, RedisTierError> {
        if self.segment_bytes > MAX_VALUE_BYTES {
            return Err(RedisTierError::SegmentTooLong { bytes: self.segment_bytes });
        }
        let capabilities = BackingCapabilities::with_capacity(self.bytes, self.segment_bytes)
            .map_err(RedisTierError::Capabilities)?
            .with_remote();
        let connections = Connections::new(self.client, self.timeout, self.idle_connections);
        connections.try_connect().map_err(RedisTierError::Connect)?;
        let own = RandomState::new().hash_one(std::process::id());
        let prefix = format!("{}:{own:016x}", self.prefix);
        Ok(RedisTier::new(connections, capabilities, prefix, self.expire_after))
    }
}

/// Error of building a [`RedisTier`].
#[derive(Debug)]
#[non_exhaustive]
pub enum RedisTierError {
    /// The size of the tier or of its segments, or the number of segments, is out of range.
    Capabilities(CapabilitiesError),
    /// A segment does not fit in one value of a server.
    SegmentTooLong {
        /// Bytes of a segment.
        bytes: usize,
    },
    /// The server cannot be reached.
    Connect(RedisError),
}

impl fmt::Display for RedisTierError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RedisTierError::Capabilities(error) => write!(f, "cannot build a Redis tier: {error}"),
            RedisTierError::SegmentTooLong { bytes } => write!(
                f,
                "a segment of {bytes} bytes is too long for a Redis value: choose at most \
                 {MAX_VALUE_BYTES}"
            ),
            RedisTierError::Connect(error) => write!(
                f,
                "cannot connect to the server of a tier: {error}; start it, or correct the \
                 address of the client"
            ),
        }
    }
}

/// The text contains its cause, so there is no source.
impl Error for RedisTierError {}
