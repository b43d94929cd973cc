//! The contract of a compressor, and the [`Codec`] that a pool runs one with.
//!
//! ```text
//!   Compressor (shared, immutable: level, dictionary)
//!      │ compression_context()      │ decompression_context()        │ decompress()
//!      ▼                            ▼  (codecs with decode state)    ▼  (codecs without)
//!   PerCpu<context + scratch>    PerCpu<context>                   nothing
//!      └────────────── Codec: what a pool owns ────────────────────┘
//! ```

mod budget;
mod codec;
mod contained;
mod line;

use core::fmt::{self, Debug};
use std::sync::Arc;

pub use budget::ContextBudget;
pub use codec::{Codec, CodecStats, Session};

use crate::error::CreateError;
use crate::spec::{Component, Params};

/// A compression algorithm with its settings: shared by every thread, never changed.
///
/// Its output is raw: no length, no checksum, no header beyond what the format cannot do without. The caller keeps the exact length of the block and of
/// the compressed bytes, and gives both back.
pub trait Compressor: Send + Sync + Debug {
    /// Name and parameters in canonical form, defaults left out, files (a dictionary) by content hash. Two compressors with equal
    /// identity decode each other's output.
    fn identity(&self) -> &Component;

    /// Facts about this codec.
    fn properties(&self) -> CodecProperties;

    /// An upper bound of the compressed length of a block of `block_len` bytes.
    fn compress_bound(&self, block_len: usize) -> usize;

    /// Bytes that the algorithm object itself holds, shared by all contexts: a dictionary.
    fn shared_bytes(&self) -> usize {
        0
    }

    /// Makes a context that compresses blocks of up to `max_block_len` bytes, one at a time.
    ///
    /// # Errors
    ///
    /// - K1. [`CodecError::OutOfMemory`] or [`CodecError::Failed`]; the next call may succeed.
    ///
    /// # Concurrency
    ///
    /// - K2. May block; called with no lock held. Contexts may be dropped on any thread, and dropping one may block.
    fn compression_context(
        &self,
        max_block_len: usize,
    ) -> Result<Box<dyn CompressionContext>, CodecError>;

    /// Makes a context that decompresses. Only called when [`CodecProperties::stateless_decompression`] is false.
    ///
    /// # Errors
    ///
    /// As for `compression_context`.
    fn decompression_context(&self) -> Result<Box<dyn DecompressionContext>, CodecError> {
        Err(CodecError::Failed(format!("{} decompresses without a context", self.identity())))
    }

    /// Decompresses without a context. Only called when [`CodecProperties::stateless_decompression`] is true; contract as for
    /// [`DecompressionContext::decompress`].
    ///
    /// # Errors
    ///
    /// As there.
    fn decompress(&self, compressed: &[u8], block: &mut [u8]) -> Result<(), CodecError> {
        let _ = (compressed, block);
        Err(CodecError::Failed(format!("{} decompresses with a context", self.identity())))
    }
}

/// What is true of a codec.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CodecProperties {
    /// Decompression needs no state: [`Compressor::decompress`] instead of a context.
    pub stateless_decompression: bool,
    /// Once its contexts exist, neither direction makes a heap call.
    pub warm_without_heap: bool,
    /// The licence of the code that compresses, as an SPDX expression.
    pub licence: &'static str,
}

impl CodecProperties {
    /// A codec of this licence (SPDX) that promises nothing else.
    pub const fn new(licence: &'static str) -> Self {
        CodecProperties { stateless_decompression: false, warm_without_heap: false, licence }
    }

    /// The same, and decompression needs no context.
    pub const fn with_stateless_decompression(self) -> Self {
        CodecProperties { stateless_decompression: true, ..self }
    }

    /// The same, and no heap call once warm.
    pub const fn with_no_heap_once_warm(self) -> Self {
        CodecProperties { warm_without_heap: true, ..self }
    }
}

/// The mutable half of compression: tables and the like, used by one thread at a time, kept warm between blocks.
pub trait CompressionContext: Send + Debug {
    /// Compresses `block` (1 to the context's `max_block_len` bytes) to the front of `out`.
    ///
    /// # Behavior
    ///
    /// - K3. Deterministic: the same block gives the same bytes, whatever the context did before.
    /// - K4. Never writes outside `out`; `out` may have any length. What the compressed form does not fill may be scribbled on.
    /// - K5. "Does not fit" is a result, not an error: [`Compressed::DoesNotFit`] when the compressed form is longer than `out`.
    ///   With `out` at least [`compress_bound`](Compressor::compress_bound) long it always fits.
    /// - K6. No byte of an earlier block appears in a later block's output.
    ///
    /// # Errors
    ///
    /// - K7. [`CodecError`]; the context is good for further blocks.
    fn compress(&mut self, block: &[u8], out: &mut [u8]) -> Result<Compressed, CodecError>;

    /// Bytes of memory this context holds.
    fn bytes_held(&self) -> usize;
}

/// What became of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compressed {
    /// Compressed to this many bytes, at least 1.
    Len(usize),
    /// The compressed form is longer than the buffer it was to go to.
    DoesNotFit,
}

/// The mutable half of decompression, for codecs that need one.
pub trait DecompressionContext: Send + Debug {
    /// Decompresses `compressed` into `block`, whose length is exactly that of the block that was compressed.
    ///
    /// # Behavior
    ///
    /// - K8. With the bytes that a compressor of the same identity made of a block of that length, gives that block.
    /// - K9. With any other bytes (corrupt, cut short, hostile) either an error, or bytes over the full length: wrong ones, made of this input
    ///   alone. Never a panic, a write outside `block`, or a byte left in it from before.
    ///
    /// # Errors
    ///
    /// - K10. [`CodecError::Corrupt`]; `block` is then unspecified, but holds nothing of other blocks except what it held before.
    fn decompress(&mut self, compressed: &[u8], block: &mut [u8]) -> Result<(), CodecError>;

    /// Bytes of memory this context holds.
    fn bytes_held(&self) -> usize;
}

/// Makes compressors of one kind.
pub trait CompressorDriver: Send + Sync + Debug {
    /// The compressor's name in a [spec](crate::spec).
    fn name(&self) -> &str;

    /// Makes the algorithm object: checks parameters, reads a dictionary. Makes no context.
    ///
    /// # Errors
    ///
    /// [`CreateError`].
    ///
    /// # Concurrency
    ///
    /// May block; called with no lock held.
    fn open(&self, params: &Params) -> Result<Arc<dyn Compressor>, CreateError>;
}

/// Why a codec did not do its work.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CodecError {
    /// The compressed bytes are no such thing, or not of a block of that length.
    Corrupt,
    /// No memory for a context.
    OutOfMemory,
    /// The codec panicked, with this message. The panic was contained and the context thrown away.
    Panicked(String),
    /// The codec broke its contract, with what it did.
    Misbehaved(String),
    /// The codec failed for a reason of its own.
    Failed(String),
}

impl fmt::Display for CodecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CodecError::Corrupt => f.write_str("the compressed bytes are corrupt"),
            CodecError::OutOfMemory => f.write_str("no memory for a codec context"),
            CodecError::Panicked(message) => write!(f, "the codec panicked: {message}"),
            CodecError::Misbehaved(how) => write!(f, "the codec broke its contract: {how}"),
            CodecError::Failed(why) => write!(f, "the codec failed: {why}"),
        }
    }
}

impl core::error::Error for CodecError {}
