//! Media of a tier pass the suite for backing stores, and a sealed one keeps its secrets.
#![cfg(unix)]

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{ChaCha20Poly1305, Key};
use zpool_conformance::backing_store_suite;
use zpool_testing::backing::{
    BackingCall, BackingFault, FaultyBacking, FaultyCalls, MemoryBacking,
};
use zswap::plugin::{BackingCapabilities, BackingError, BackingStore, SegmentNumber};
use zswap::tier::{FileTier, PageCache, Seal, SealError, SealNonce, SealedStore};

/// Files of 16 segments.
const SEGMENT_BYTES: usize = 1 << 16;
const BYTES: u64 = 16 << 16;

/// Returns a file system in memory, if this machine has one.
fn memory_directory() -> PathBuf {
    let shared = Path::new("/dev/shm");
    if shared.is_dir() { shared.to_owned() } else { std::env::temp_dir() }
}

fn file_in(directory: &Path, page_cache: PageCache) -> FileTier {
    let builder = FileTier::builder(directory, BYTES).segment_bytes(SEGMENT_BYTES);
    builder.page_cache(page_cache).build().unwrap()
}

backing_store_suite!(direct_file, [parts], || {
    file_in(&std::env::temp_dir(), PageCache::Bypass)
});
backing_store_suite!(buffered_file, [parts], || { file_in(&std::env::temp_dir(), PageCache::Use) });
backing_store_suite!(file_in_memory, [parts], || {
    file_in(&memory_directory(), PageCache::Bypass)
});
backing_store_suite!(sealed_file, [parts], || {
    let file = file_in(&std::env::temp_dir(), PageCache::Bypass);
    SealedStore::new(file, Cipher::new(7)).unwrap()
});
backing_store_suite!(sealed_remote_wholes, [parts, remote], || {
    let capabilities = BackingCapabilities::new(10_000, 20).unwrap();
    let wholes = MemoryBacking::new(capabilities.without_partial_reads().with_remote());
    SealedStore::with_pieces(wholes, Cipher::new(7), 100).unwrap()
});

/// ChaCha20-Poly1305 with a key from a seed, which only a test may do.
struct Cipher(ChaCha20Poly1305);

impl Cipher {
    fn new(seed: u8) -> Cipher {
        Cipher(ChaCha20Poly1305::new(&Key::from([seed; 32])))
    }
}

impl fmt::Debug for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cipher")
    }
}

impl Seal for Cipher {
    fn tag_bytes(&self) -> usize {
        16
    }

    fn seal(&self, nonce: SealNonce, piece: &mut [u8], tag: &mut [u8]) -> Result<(), SealError> {
        let made = self.0.encrypt_inout_detached(&nonce.bytes().into(), &[], piece.into())?;
        tag.copy_from_slice(&made);
        Ok(())
    }

    fn open(&self, nonce: SealNonce, piece: &mut [u8], tag: &[u8]) -> Result<(), SealError> {
        let tag = tag.try_into()?;
        self.0.decrypt_inout_detached(&nonce.bytes().into(), &[], piece.into(), tag)?;
        Ok(())
    }
}

/// Segments of 8 pieces of 512 bytes, of which 496 are contents.
struct Sealed {
    memory: Arc<MemoryBacking>,
    store: SealedStore<Arc<MemoryBacking>, Cipher>,
}

const PIECE: usize = 512;
const CONTENTS: usize = PIECE - 16;
const FIRST: SegmentNumber = SegmentNumber::new(0);
const SECOND: SegmentNumber = SegmentNumber::new(1);

fn sealed() -> Sealed {
    let capabilities = BackingCapabilities::new(8 * PIECE, 2).unwrap();
    let memory = Arc::new(MemoryBacking::new(capabilities));
    let store = SealedStore::with_pieces(memory.clone(), Cipher::new(1), PIECE).unwrap();
    Sealed { memory, store }
}

impl Sealed {
    /// Returns the bytes of a segment as the medium has them.
    fn stored(&self, segment: SegmentNumber) -> Vec<u8> {
        let mut bytes = vec![0; self.memory.written(segment).unwrap()];
        self.memory.read(segment, 0, &mut bytes).unwrap();
        bytes
    }

    fn assert_does_not_open(&self, segment: SegmentNumber, piece: usize) {
        let mut bytes = [0; CONTENTS];
        let error = self.store.read(segment, piece * CONTENTS, &mut bytes).unwrap_err();
        assert!(error.to_string().contains("does not open"), "{error}");
    }

    fn assert_opens(&self, segment: SegmentNumber, piece: usize, byte: u8) {
        let mut bytes = [0; CONTENTS];
        self.store.read(segment, piece * CONTENTS, &mut bytes).unwrap();
        assert_eq!(bytes, [byte; CONTENTS]);
    }
}

/// No 16 bytes of the contents are on the medium, and equal pieces differ there.
#[test]
fn sealed_bytes_show_no_contents() {
    let sealed = sealed();
    sealed.store.write(FIRST, &[7; 8 * CONTENTS]).unwrap();
    let stored = sealed.stored(FIRST);
    assert!(!stored.windows(16).any(|window| window == [7; 16]));
    assert!(
        !stored[..PIECE].windows(16).any(|window| stored[PIECE..].windows(16).any(|w| w == window))
    );
}

/// A flipped bit, in contents or tag, concerns its piece and no other.
#[test]
fn damaged_piece_does_not_open() {
    let sealed = sealed();
    for at in [3 * PIECE, 3 * PIECE + CONTENTS - 1, 4 * PIECE - 1] {
        sealed.store.write(FIRST, &[7; 8 * CONTENTS]).unwrap();
        let mut stored = sealed.stored(FIRST);
        stored[at] ^= 0x10;
        sealed.memory.write(FIRST, &stored).unwrap();
        sealed.assert_does_not_open(FIRST, 3);
        sealed.assert_opens(FIRST, 2, 7);
        sealed.assert_opens(FIRST, 4, 7);
    }
}

/// A medium that swaps pieces or segments, or returns an older write, is found out.
#[test]
fn misplaced_and_older_pieces_do_not_open() {
    let sealed = sealed();
    sealed.store.write(FIRST, &[7; 8 * CONTENTS]).unwrap();
    sealed.store.write(SECOND, &[8; 8 * CONTENTS]).unwrap();
    let (first, second) = (sealed.stored(FIRST), sealed.stored(SECOND));
    let mut swapped = first.clone();
    swapped[..PIECE].copy_from_slice(&first[PIECE..2 * PIECE]);
    sealed.memory.write(FIRST, &swapped).unwrap();
    sealed.assert_does_not_open(FIRST, 0);
    sealed.memory.write(FIRST, &second).unwrap();
    sealed.assert_does_not_open(FIRST, 0);
    sealed.memory.write(FIRST, &first).unwrap();
    sealed.assert_opens(FIRST, 0, 7);
    sealed.store.write(FIRST, &[9; 8 * CONTENTS]).unwrap();
    sealed.memory.write(FIRST, &first).unwrap();
    sealed.assert_does_not_open(FIRST, 0);
}

/// Segments that were discarded, lost, or not written are gone, whatever the medium has.
#[test]
fn sealed_segments_without_contents_are_gone() {
    let sealed = sealed();
    let read = |segment| sealed.store.read(segment, 0, &mut [0; 10]);
    assert!(matches!(read(FIRST), Err(BackingError::Gone)));
    sealed.store.write(FIRST, &[7; 8 * CONTENTS]).unwrap();
    let stored = sealed.stored(FIRST);
    sealed.memory.lose(FIRST);
    assert!(matches!(read(FIRST), Err(BackingError::Gone)));
    sealed.store.discard(FIRST).unwrap();
    sealed.memory.write(FIRST, &stored).unwrap();
    assert!(matches!(read(FIRST), Err(BackingError::Gone)));
}

/// A write that fails leaves a segment that is gone, and the next write is good.
#[test]
fn failed_sealed_write_leaves_nothing() {
    let faulty = FaultyBacking::in_memory(BackingCapabilities::new(8 * PIECE, 2).unwrap());
    let store = SealedStore::with_pieces(faulty, Cipher::new(1), PIECE).unwrap();
    let read = || store.read(FIRST, 0, &mut [0; 10]);
    for fault in [BackingFault::Torn, BackingFault::Failed] {
        store.write(FIRST, &[7; 8 * CONTENTS]).unwrap();
        store.inner().inject(BackingCall::Write, FaultyCalls::Numbered(0..1), fault);
        assert!(store.write(FIRST, &[8; 8 * CONTENTS]).is_err());
        assert!(matches!(read(), Err(BackingError::Gone)));
    }
    store.write(FIRST, &[9; 8 * CONTENTS]).unwrap();
    read().unwrap();
}

/// A read whose segment is written again meanwhile is gone, and not damaged.
#[test]
fn sealed_read_that_races_with_write_is_gone() {
    let faulty = FaultyBacking::in_memory(BackingCapabilities::new(8 * PIECE, 2).unwrap());
    let store = SealedStore::with_pieces(faulty, Cipher::new(1), PIECE).unwrap();
    store.write(FIRST, &[7; 8 * CONTENTS]).unwrap();
    store.inner().inject(BackingCall::Read, FaultyCalls::Numbered(0..1), BackingFault::Stalled);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| store.read(FIRST, 0, &mut [0; 10]));
        store.inner().wait_until_stalled(1);
        store.write(FIRST, &[8; 8 * CONTENTS]).unwrap();
        store.inner().release();
        assert!(matches!(reader.join().unwrap(), Err(BackingError::Gone)));
    });
}

/// Pieces that cannot be are an error that names what can.
#[test]
fn impossible_pieces_are_refused() {
    let make = |piece_bytes| {
        let capabilities = BackingCapabilities::new(4096, 2).unwrap().with_alignment(512).unwrap();
        SealedStore::with_pieces(MemoryBacking::new(capabilities), Cipher::new(1), piece_bytes)
    };
    for piece_bytes in [0, 16, 700, 8192] {
        let error = make(piece_bytes).unwrap_err().to_string();
        assert!(error.contains("a multiple of 512, and at most the 4096"), "{error}");
    }
    assert_eq!(make(1024).unwrap().capabilities().segment_bytes(), 4 * (1024 - 16));
}
