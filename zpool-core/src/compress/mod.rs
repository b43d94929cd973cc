//! The contract of a compressor, and the [`Codec`] through which a pool uses one.
//!
//! ```text
//!   Compressor (shared, immutable: level, dictionary)
//!      │ compression_context()      │ decompression_context()        │ decompress()
//!      ▼                            ▼  (codecs with decode state)    ▼  (codecs without)
//!   PerCpu<context + scratch>    PerCpu<context>                   nothing
//!      └────────────── Codec, owned by a pool ─────────────────────┘
//! ```

mod budget;
mod codec;
mod panic;
mod wait_queue;

use core::fmt::{self, Debug};
use std::sync::Arc;

pub use budget::ContextBudget;
pub use codec::{Codec, CodecStats, Session};

use crate::error::CreateError;
use crate::spec::{Component, Params};

/// A compression algorithm with its settings, shared by all threads and never changed.
///
/// Its output is raw, without a length, a checksum, or any header that the format can do without.
/// The caller keeps the exact length of the block and of the compressed bytes.
pub trait Compressor: Send + Sync + Debug {
    /// Returns name and parameters in canonical form, without defaults, and with files (a
    /// dictionary) by content hash. Two compressors with equal identity decode each other's output.
    fn identity(&self) -> &Component;

    /// Returns facts about this compressor.
    fn capabilities(&self) -> CodecCapabilities;

    /// Returns an upper bound of the compressed length of a block of `block_size` bytes.
    fn compress_bound(&self, block_size: usize) -> usize;

    /// Returns the bytes that all contexts share, such as a dictionary.
    fn shared_bytes(&self) -> usize {
        0
    }

    /// Makes a context that compresses blocks of up to `max_block_size` bytes, one at a time.
    ///
    /// # Errors
    ///
    /// - K1. [`CodecError::OutOfMemory`] or [`CodecError::Failed`]; the next call may succeed.
    ///
    /// # Concurrency
    ///
    /// - K2. May block. Called with no lock held. Contexts may be dropped on any thread, and
    ///   dropping one may block.
    fn compression_context(
        &self,
        max_block_size: usize,
    ) -> Result<Box<dyn CompressionContext>, CodecError>;

    /// Makes a context that decompresses. Only called if
    /// [`CodecCapabilities::stateless_decompression`] is false.
    ///
    /// # Errors
    ///
    /// As for `compression_context`.
    fn decompression_context(&self) -> Result<Box<dyn DecompressionContext>, CodecError> {
        Err(CodecError::Failed(format!(
            "`{}` decompresses without a context: call the compressor's own `decompress`",
            self.identity()
        )))
    }

    /// Decompresses without a context. Only called if
    /// [`CodecCapabilities::stateless_decompression`] is true. The contract is that of
    /// [`DecompressionContext::decompress`].
    ///
    /// # Errors
    ///
    /// As for [`DecompressionContext::decompress`].
    fn decompress(&self, compressed: &[u8], block: &mut [u8]) -> Result<(), CodecError> {
        let _ = (compressed, block);
        Err(CodecError::Failed(format!(
            "`{}` decompresses with a context: make one with `decompression_context`",
            self.identity()
        )))
    }
}

/// Facts about a compressor.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CodecCapabilities {
    /// Decompression needs no context: [`Compressor::decompress`] works.
    pub stateless_decompression: bool,
    /// Once its contexts are warm (each has handled a block of the largest length), neither
    /// direction makes a heap call.
    pub warm_without_heap: bool,
    /// The licence of the code that compresses, as an SPDX expression.
    pub licence: &'static str,
}

impl CodecCapabilities {
    /// Returns the facts of a compressor of this licence (SPDX) that promises nothing else.
    pub const fn new(licence: &'static str) -> Self {
        CodecCapabilities { stateless_decompression: false, warm_without_heap: false, licence }
    }

    /// Adds that decompression needs no context.
    pub const fn with_stateless_decompression(self) -> Self {
        CodecCapabilities { stateless_decompression: true, ..self }
    }

    /// Adds that a compressor makes no heap call once its contexts are warm.
    pub const fn with_no_heap_once_warm(self) -> Self {
        CodecCapabilities { warm_without_heap: true, ..self }
    }
}

/// The mutable half of compression, such as tables. Used by one thread at a time, and kept between
/// blocks.
pub trait CompressionContext: Send + Debug {
    /// Compresses `block` (1 to the context's `max_block_size` bytes) to the front of `out`.
    ///
    /// # Behavior
    ///
    /// - K3. Deterministic: equal blocks compress to equal bytes, whatever the context did before.
    /// - K4. Never writes outside `out`, which may have any length. Bytes of `out` behind the
    ///   compressed form may change.
    /// - K5. Returns [`Compressed::DoesNotFit`], which is not an error, if the compressed form is
    ///   longer than `out`. It always fits in [`compress_bound`](Compressor::compress_bound) bytes.
    /// - K6. No byte of an earlier block appears in a later block's output.
    ///
    /// # Errors
    ///
    /// - K7. [`CodecError`]. The context stays usable.
    fn compress(&mut self, block: &[u8], out: &mut [u8]) -> Result<Compressed, CodecError>;

    /// Returns the bytes of memory that this context holds.
    fn bytes_held(&self) -> usize;
}

/// The outcome of a compression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compressed {
    /// Compressed to this many bytes, at least 1.
    Len(usize),
    /// The compressed form is longer than the output buffer.
    DoesNotFit,
}

/// The mutable half of decompression, for codecs that need one.
pub trait DecompressionContext: Send + Debug {
    /// Decompresses `compressed` into `block`, whose length is exactly that of the original block.
    ///
    /// # Behavior
    ///
    /// - K8. If a compressor of the same identity made `compressed` from a block of that length,
    ///   restores that block.
    /// - K9. If `compressed` is anything else (corrupt, truncated, hostile), returns an error, or
    ///   fills `block` with wrong bytes that depend on this input alone. Never panics, writes
    ///   outside `block`, or leaves an earlier byte in it.
    ///
    /// # Errors
    ///
    /// - K10. [`CodecError::Corrupt`]. Then the bytes of `block` are unspecified: they may depend
    ///   on `compressed` and on what `block` held before, but on no other block.
    fn decompress(&mut self, compressed: &[u8], block: &mut [u8]) -> Result<(), CodecError>;

    /// Returns the bytes of memory that this context holds.
    fn bytes_held(&self) -> usize;
}

/// Makes compressors of one kind.
pub trait CompressorDriver: Send + Sync + Debug {
    /// Returns the compressor's name in a [spec](crate::spec).
    fn name(&self) -> &str;

    /// Makes the compressor: checks parameters and reads a dictionary. Makes no context.
    ///
    /// # Errors
    ///
    /// [`CreateError`].
    ///
    /// # Concurrency
    ///
    /// May block. Called with no lock held.
    fn open(&self, params: &Params) -> Result<Arc<dyn Compressor>, CreateError>;
}

/// The error of a compressor.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CodecError {
    /// The bytes are not the compressed form of a block of that length.
    Corrupt,
    /// No memory for a context.
    OutOfMemory,
    /// The compressor panicked with this message. The panic was caught and the context dropped.
    Panicked(String),
    /// The compressor broke its contract in this way.
    Misbehaved(String),
    /// The compressor failed for a reason of its own.
    Failed(String),
}

impl fmt::Display for CodecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CodecError::Corrupt => f.write_str(
                "the compressed bytes are corrupt: discard them and store the block again",
            ),
            CodecError::OutOfMemory => {
                f.write_str("no memory for a codec context: free some and try again")
            }
            CodecError::Panicked(message) => {
                write!(f, "the codec panicked: {message}; switch to another one")
            }
            CodecError::Misbehaved(how) => {
                write!(f, "the codec broke its contract: {how}; switch to another one")
            }
            CodecError::Failed(why) => write!(f, "the codec failed: {why}"),
        }
    }
}

impl core::error::Error for CodecError {}
