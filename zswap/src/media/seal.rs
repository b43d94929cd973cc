//! The cipher that a sealed store uses, which its user brings.

use std::error::Error;
use std::fmt::Debug;

/// Encrypts and authenticates the pieces of a [`SealedStore`](crate::tier::SealedStore): an AEAD
/// with a key.
///
/// The crate brings no cipher. `ChaCha20Poly1305` and `Aes256Gcm` of RustCrypto fit as they are.
///
/// # Behavior
///
/// - The key is drawn at random when the value is made, and used by one `SealedStore` only. Each
///   `SealedStore` begins with the same nonces, so two of them with one key would use a nonce
///   twice, which reveals contents and lets tags be forged.
/// - `open` with the same nonce and tag restores what `seal` encrypted. If a bit of piece or tag
///   differs, or the nonce, it is an error.
///
/// # Concurrency
///
/// Called from several threads at once, under no lock.
pub trait Seal: Send + Sync + Debug {
    /// Returns the bytes of a tag. The number never changes.
    fn tag_bytes(&self) -> usize;

    /// Encrypts `piece` in place, and writes its tag.
    ///
    /// # Errors
    ///
    /// An error fails the write.
    fn seal(&self, nonce: SealNonce, piece: &mut [u8], tag: &mut [u8]) -> Result<(), SealError>;

    /// Decrypts `piece` in place, if it and the tag are what `seal` made with this nonce.
    ///
    /// # Errors
    ///
    /// An error fails the read, and its bytes are not returned.
    fn open(&self, nonce: SealNonce, piece: &mut [u8], tag: &[u8]) -> Result<(), SealError>;
}

/// The error of a cipher.
pub type SealError = Box<dyn Error + Send + Sync>;

/// The nonce of a piece: a [`SealedStore`](crate::tier::SealedStore) uses none twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SealNonce {
    write: u64,
    piece: u32,
}

impl SealNonce {
    pub(super) fn new(write: u64, piece: u32) -> SealNonce {
        SealNonce { write, piece }
    }

    /// Returns the 12 bytes, as `ChaCha20Poly1305` and `Aes256Gcm` take them.
    pub fn bytes(self) -> [u8; 12] {
        let mut bytes = [0; 12];
        bytes[..8].copy_from_slice(&self.write.to_le_bytes());
        bytes[8..].copy_from_slice(&self.piece.to_le_bytes());
        bytes
    }
}
