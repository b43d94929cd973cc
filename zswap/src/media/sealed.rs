//! A backing store behind a cipher.
//!
//! ```text
//!   segment of the inner store   | piece 0          | tag | piece 1          | tag | ...
//!   segment of the sealed store  | bytes of piece 0 | bytes of piece 1 | ...
//! ```
//!
//! A piece with its tag is a few aligned units, so that a record can be read without the rest of
//! its segment (`docs/decisions/0051`). The nonce is not written: it is the number of the write,
//! which stays in memory, and that of the piece. So a piece of an older write, or of another place,
//! does not open.

use std::error::Error;
use std::fmt;
use std::ops::Range;

use zpool_core::backing::{
    AlignedBytes, BackingCapabilities, BackingError, BackingStore, SegmentNumber,
};
use zpool_core::internal::sync::Mutex;
use zpool_core::internal::sync::atomic::{AtomicU64, Ordering};

use crate::media::seal::{Seal, SealNonce};

/// The bytes of a piece with its tag unless chosen otherwise, if the alignment is not greater.
const DEFAULT_PIECE_BYTES: usize = 4096;

/// Encrypts what a backing store keeps, a piece at a time.
///
/// The key is the [`Seal`]'s, and should die with the process. What comes back damaged, swapped or
/// from an older write is an error and never other bytes. Lengths, and which segments are written
/// and read when, are not hidden.
///
/// Takes 24 bytes of memory per segment, a buffer as long as a segment, and one per read for its
/// pieces. Parts can be read whatever the inner store can, and nothing has to be aligned. If the
/// inner store reads whole segments only, then so does each read of a part.
///
/// # Example
///
/// With `ChaCha20Poly1305` of the crate chacha20poly1305 and a key from the system:
///
/// ```
/// use chacha20poly1305::aead::{AeadInOut, KeyInit};
/// use chacha20poly1305::{ChaCha20Poly1305, Key};
/// use zswap::plugin::BackingStore;
/// use zswap::tier::{FileTier, Seal, SealError, SealNonce, SealedStore};
///
/// struct Cipher(ChaCha20Poly1305);
///
/// impl Cipher {
///     fn with_fresh_key() -> Result<Cipher, std::io::Error> {
///         use std::io::Read;
///         let mut key = Key::default();
///         std::fs::File::open("/dev/urandom")?.read_exact(&mut key)?;
///         Ok(Cipher(ChaCha20Poly1305::new(&key)))
///     }
/// }
///
/// impl std::fmt::Debug for Cipher {
///     fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
///         f.write_str("Cipher") // not the key
///     }
/// }
///
/// impl Seal for Cipher {
///     fn tag_bytes(&self) -> usize {
///         16
///     }
///
///     fn seal(&self, n: SealNonce, piece: &mut [u8], tag: &mut [u8]) -> Result<(), SealError> {
///         let made = self.0.encrypt_inout_detached(&n.bytes().into(), &[], piece.into())?;
///         tag.copy_from_slice(&made);
///         Ok(())
///     }
///
///     fn open(&self, n: SealNonce, piece: &mut [u8], tag: &[u8]) -> Result<(), SealError> {
///         let tag = tag.try_into()?;
///         self.0.decrypt_inout_detached(&n.bytes().into(), &[], piece.into(), tag)?;
///         Ok(())
///     }
/// }
///
/// let file = FileTier::temporary(std::env::temp_dir(), 8 << 20)?;
/// let tier = SealedStore::new(file, Cipher::with_fresh_key()?)?;
/// assert_eq!(tier.capabilities().segment_bytes(), 256 * (4096 - 16));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct SealedStore<B, S> {
    inner: B,
    seal: S,
    pieces: PieceLayout,
    capabilities: BackingCapabilities,
    /// The number of the next write. Never 0.
    next_write: AtomicU64,
    segments: Box<[Mutex<SealedSegment>]>,
    /// A buffer for writes, while no write uses it.
    staging: Mutex<Option<AlignedBytes>>,
}

/// The state of a segment that is kept in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct SealedSegment {
    /// The number of the write that made its contents, or 0 if it has none.
    write: u64,
    /// The pieces that were written.
    pieces: u32,
}

/// The lengths of pieces in the segments of the inner store.
#[derive(Debug, Clone, Copy)]
struct PieceLayout {
    /// Bytes of a piece with its tag.
    sealed: usize,
    /// Bytes of a piece without its tag.
    open: usize,
}

impl PieceLayout {
    /// Returns the numbers of the pieces that contain `len` bytes at `offset`.
    fn numbers(self, offset: usize, len: usize) -> Range<usize> {
        offset / self.open..(offset + len).div_ceil(self.open)
    }
}

impl<B: BackingStore, S: Seal> SealedStore<B, S> {
    /// Puts `seal` in front of `inner`, in pieces of 4096 bytes, or of the alignment if that is
    /// greater.
    ///
    /// # Errors
    ///
    /// [`SealedStoreError`] if a segment of `inner` has no room for a piece.
    pub fn new(inner: B, seal: S) -> Result<SealedStore<B, S>, SealedStoreError> {
        let capabilities = inner.capabilities();
        let common = DEFAULT_PIECE_BYTES.min(capabilities.segment_bytes());
        SealedStore::with_pieces(inner, seal, capabilities.round_up(common))
    }

    /// Puts `seal` in front of `inner`, in pieces of `piece_bytes` with their tags. Shorter pieces
    /// read less for a record, and longer ones have fewer tags.
    ///
    /// # Errors
    ///
    /// [`SealedStoreError`] if a piece is not longer than its tag, is longer than a segment, or is
    /// not a multiple of the alignment that `inner` has.
    pub fn with_pieces(
        inner: B,
        seal: S,
        piece_bytes: usize,
    ) -> Result<SealedStore<B, S>, SealedStoreError> {
        let (below, tag_bytes) = (inner.capabilities(), seal.tag_bytes());
        let count = below.segment_bytes() / piece_bytes.max(1);
        let error = SealedStoreError { piece_bytes, tag_bytes, capabilities: below };
        if piece_bytes <= tag_bytes || !piece_bytes.is_multiple_of(below.alignment()) {
            return Err(error);
        }
        let pieces = PieceLayout { sealed: piece_bytes, open: piece_bytes - tag_bytes };
        // No pieces make a segment of no bytes, which is an error.
        let capabilities = BackingCapabilities::new(count * pieces.open, below.segments());
        let capabilities = capabilities.map_err(|_| error)?;
        let capabilities = if below.remote() { capabilities.with_remote() } else { capabilities };
        let segments = (0..below.segments()).map(|_| Mutex::default()).collect();
        let (next_write, staging) = (AtomicU64::new(1), Mutex::new(None));
        Ok(SealedStore { inner, seal, pieces, capabilities, next_write, segments, staging })
    }

    /// Returns the backing store behind the cipher.
    pub fn inner(&self) -> &B {
        &self.inner
    }

    fn state(&self, segment: SegmentNumber) -> SealedSegment {
        *self.segments[segment.get() as usize].lock()
    }

    fn set_state(&self, segment: SegmentNumber, state: SealedSegment) {
        *self.segments[segment.get() as usize].lock() = state;
    }

    /// Lends a buffer as long as a segment of the inner store to `write`.
    fn with_staging(
        &self,
        write: impl FnOnce(&mut [u8]) -> Result<(), BackingError>,
    ) -> Result<(), BackingError> {
        let kept = self.staging.lock().take();
        let mut staging = match kept {
            Some(kept) => kept,
            None => self.inner.capabilities().segment_buffer()?,
        };
        let outcome = write(&mut staging);
        let surplus = self.staging.lock().replace(staging);
        drop(surplus);
        outcome
    }

    /// Seals `bytes` into `staging`, and returns the number of pieces.
    fn seal_pieces(
        &self,
        write: u64,
        bytes: &[u8],
        staging: &mut [u8],
    ) -> Result<u32, BackingError> {
        let mut number = 0;
        let sealed = staging.chunks_exact_mut(self.pieces.sealed);
        for (contents, sealed) in bytes.chunks(self.pieces.open).zip(sealed) {
            let (piece, tag) = sealed.split_at_mut(self.pieces.open);
            piece[..contents.len()].copy_from_slice(contents);
            piece[contents.len()..].fill(0);
            let nonce = SealNonce::new(write, number);
            self.seal.seal(nonce, piece, tag).map_err(BackingError::Failed)?;
            number += 1;
        }
        Ok(number)
    }

    /// Opens the pieces `numbers`, which are in `window`, and copies their bytes from `offset` on
    /// to `into`.
    fn open_pieces(
        &self,
        write: u64,
        window: &mut [u8],
        numbers: Range<usize>,
        offset: usize,
        into: &mut [u8],
    ) -> Result<(), BackingError> {
        let mut rest = into;
        let mut skip = offset - numbers.start * self.pieces.open;
        for (number, sealed) in numbers.zip(window.chunks_exact_mut(self.pieces.sealed)) {
            let (piece, tag) = sealed.split_at_mut(self.pieces.open);
            let nonce = SealNonce::new(write, number as u32);
            self.seal.open(nonce, piece, tag).map_err(|error| {
                BackingError::failed(format!("piece {number} of a segment does not open: {error}"))
            })?;
            let len = rest.len().min(piece.len() - skip);
            let (now, later) = rest.split_at_mut(len);
            now.copy_from_slice(&piece[skip..skip + len]);
            (rest, skip) = (later, 0);
        }
        Ok(())
    }

    /// Reads the pieces that contain `into.len()` bytes at `offset`, with what the alignment of the
    /// inner store adds, and copies those bytes to `into`.
    fn read_pieces(
        &self,
        segment: SegmentNumber,
        state: SealedSegment,
        offset: usize,
        into: &mut [u8],
    ) -> Result<(), BackingError> {
        let numbers = self.pieces.numbers(offset, into.len());
        let sealed = self.pieces.sealed;
        let wanted = numbers.start * sealed..numbers.end * sealed;
        let below = self.inner.capabilities();
        let window = below.window(wanted.clone(), state.pieces as usize * sealed);
        let mut buffer = AlignedBytes::zeroed(window.len(), below.alignment())?;
        self.inner.read(segment, window.start, &mut buffer)?;
        let pieces = &mut buffer[wanted.start - window.start..wanted.end - window.start];
        self.open_pieces(state.write, pieces, numbers, offset, into)
    }
}

impl<B: BackingStore, S: Seal> BackingStore for SealedStore<B, S> {
    fn capabilities(&self) -> BackingCapabilities {
        self.capabilities
    }

    fn write(&self, segment: SegmentNumber, bytes: &[u8]) -> Result<(), BackingError> {
        self.capabilities.check_write(segment, bytes);
        self.set_state(segment, SealedSegment::default());
        // Relaxed: only uniqueness matters.
        let write = self.next_write.fetch_add(1, Ordering::Relaxed);
        self.with_staging(|staging| {
            let pieces = self.seal_pieces(write, bytes, staging)?;
            self.inner.write(segment, &staging[..pieces as usize * self.pieces.sealed])?;
            self.set_state(segment, SealedSegment { write, pieces });
            Ok(())
        })
    }

    /// Reads the pieces that contain the range, and opens them.
    ///
    /// If the segment is discarded or written meanwhile, it is gone.
    fn read(
        &self,
        segment: SegmentNumber,
        offset: usize,
        into: &mut [u8],
    ) -> Result<(), BackingError> {
        self.capabilities.check_read(segment, offset, into);
        let state = self.state(segment);
        if state.write == 0 {
            return Err(BackingError::Gone);
        }
        if offset + into.len() > state.pieces as usize * self.pieces.open {
            return Err(BackingError::failed("a read beyond what was written of a segment"));
        }
        let outcome = self.read_pieces(segment, state, offset, into);
        if outcome.is_err() && self.state(segment) != state {
            return Err(BackingError::Gone);
        }
        outcome
    }

    fn discard(&self, segment: SegmentNumber) -> Result<(), BackingError> {
        self.capabilities.check_discard(segment);
        self.set_state(segment, SealedSegment::default());
        self.inner.discard(segment)
    }
}

impl<B: fmt::Debug, S: fmt::Debug> fmt::Debug for SealedStore<B, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealedStore")
            .field("inner", &self.inner)
            .field("seal", &self.seal)
            .field("pieces", &self.pieces)
            .finish_non_exhaustive()
    }
}

/// The error of pieces that do not fit a backing store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SealedStoreError {
    piece_bytes: usize,
    tag_bytes: usize,
    capabilities: BackingCapabilities,
}

impl fmt::Display for SealedStoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SealedStoreError { piece_bytes, tag_bytes, capabilities } = self;
        write!(
            f,
            "pieces of {piece_bytes} bytes do not fit the backing store: choose more than the \
             {tag_bytes} of a tag, a multiple of {}, and at most the {} of a segment",
            capabilities.alignment(),
            capabilities.segment_bytes()
        )
    }
}

impl Error for SealedStoreError {}
