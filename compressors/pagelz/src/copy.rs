//! Reassembles a block from its streams.
//!
//! ```text
//!   token ─► entry: literals, length, offset's bytes            one look-up, no branch
//!   8 bytes at (here - offset)  ──┐
//!   8 bytes of literals ──────────┴─ blended by a mask ─► 8 bytes here, and so on
//! ```
//!
//! Literals and the match after them are written by the same stores. So the bytes that a later
//! match loads mostly come from one earlier store, and the processor's store buffer forwards them
//! without a wait. If the last store of a sequence writes too much, the next sequence overwrites
//! the surplus.
//!
//! A sequence that the loop cannot take (one with both lengths among the extensions, or close to an
//! end of the block) goes to `careful`, in which every access is checked.
//!
//! The one file of this crate with unsafe code: loads and stores of fixed widths without a bounds
//! check, at the end of the file. Debug builds check those of the block; [`DecodePosition::start`]
//! ensures that no pointer leaves its stream. With the feature `safe`, `copy_checked.rs` replaces
//! this file.

use zpool_core::compress::CodecError;

use crate::sequence::{DecodePosition, EncodedStreams, Stream, careful, finish};
use crate::tables::{SLOW, TokenEntry};

/// A sequence ends at least this far before the end of the block: its last store begins before its
/// end, or within [`SHORT`] bytes.
const BLOCK_MARGIN: usize = SHORT;
/// Bytes that every sequence writes, whatever its length.
const SHORT: usize = 32;
/// Further bytes that a longer sequence writes at once.
const STEP: usize = 16;
/// Bytes that are loaded from each stream at once, and so may be read beyond its end.
const LITERALS_AHEAD: usize = 16;
const OFFSETS_AHEAD: usize = 4;
const EXTENSIONS_AHEAD: usize = 1;

/// Masks of the literals among the next 16 bytes, if there are `n`: `[n + 8]` for the first 8
/// bytes, `[n]` for the others.
static MASKS: [u64; 32] = {
    let mut masks = [u64::MAX; 32];
    let mut n = 0;
    while n < 16 {
        masks[n] = if n < 8 { 0 } else { (1 << (8 * (n - 8))) - 1 };
        n += 1;
    }
    masks
};

/// Fills `block` with what the streams stand for. `XORED` means that each literal is xored with the
/// byte at its offset.
///
/// # Errors
///
/// [`CodecError::Corrupt`] if the streams are not those of a block of this length. Each byte of
/// `block` is then unchanged, or depends on the streams alone.
pub(crate) fn copy<const XORED: bool>(
    entries: &[TokenEntry; 256],
    streams: &EncodedStreams<'_>,
    start: DecodePosition,
    block: &mut [u8],
) -> Result<(), CodecError> {
    let (mut at, mut rest) = (start, streams.tokens);
    let ahead = |stream: &Stream<'_>, ahead| stream.readable.len() - stream.len >= ahead;
    let all_ahead = ahead(&streams.literals, LITERALS_AHEAD)
        && ahead(&streams.offsets, OFFSETS_AHEAD)
        && ahead(&streams.extensions, EXTENSIONS_AHEAD);
    while let [token, behind @ ..] = rest {
        let entry = &entries[usize::from(*token)];
        at = careful::<XORED>(*token, entry, streams, at, block)?;
        rest = behind;
        if all_ahead {
            rest = quick::<XORED>(entries, streams, rest, &mut at, block);
        }
    }
    finish::<XORED>(streams, &at, block)
}

/// Decodes sequences until one has a long length or is close to an end of the block. Returns the
/// tokens from that one on.
///
/// Each stream can be read as far beyond its end as the constants above say, and `at` is a position
/// that [`DecodePosition::start`] or [`careful`] returned. So each token finds the bytes that its
/// entry consumes, and the pointers below advance by those.
#[inline(always)]
fn quick<'a, const XORED: bool>(
    entries: &[TokenEntry; 256],
    streams: &EncodedStreams<'_>,
    tokens: &'a [u8],
    at: &mut DecodePosition,
    block: &mut [u8],
) -> &'a [u8] {
    // In a block of at least `SLOW` bytes, a slow token could not be recognized by its length.
    let longest = SLOW as usize;
    let last_end = block.len().checked_sub(BLOCK_MARGIN).filter(|&end| end < longest);
    let Some(last_end) = last_end else { return tokens };
    let mut literals = streams.literals.readable[at.literal..].as_ptr();
    let mut offsets = streams.offsets.readable[at.offset..].as_ptr();
    let mut extensions = streams.extensions.readable[at.extension..].as_ptr();
    let (mut here, mut distance) = (at.block, at.distance as u32);
    let mut rest = tokens;
    while let [token, behind @ ..] = rest {
        let entry = &entries[usize::from(*token)];
        // SAFETY: P1: the offsets of this token are within the stream, and 4 bytes behind it.
        let raw = u32::from_le_bytes(unsafe { peek(offsets) });
        // SAFETY: P1: as many extensions as the entry says are within the stream, and one behind
        // it.
        let [more] = unsafe { peek(extensions) };
        let offset = entry.offset(raw, distance) as usize;
        let end = here + entry.length(more);
        if end > last_end || offset > here {
            break;
        }
        distance = offset as u32;
        let count = usize::from(entry.literals);
        for (step, mask) in [(0, MASKS[(count + 8) & 31]), (8, MASKS[count & 31])] {
            // SAFETY: L1: before the place of the store below.
            let bytes = u64::from_le_bytes(unsafe { load(block, here + step - offset) });
            // SAFETY: P1: the literals of this token are within the stream, and 16 bytes behind it.
            let literal = u64::from_le_bytes(unsafe { peek(literals.wrapping_add(step)) });
            let blended = blend::<XORED>(bytes, literal, mask);
            // SAFETY: S1: here < end <= last_end, and the margin is 32.
            unsafe { store(block, here + step, blended.to_le_bytes()) };
        }
        // SAFETY: C1: here + 32 <= last_end + 32. C2: no offset is below 8; the other was checked.
        unsafe { copy_words::<2>(block, here + STEP, offset) };
        let mut to = here + SHORT;
        while to < end {
            // SAFETY: C1: to < end <= last_end. C2: as before.
            unsafe { copy_words::<2>(block, to, offset) };
            to += STEP;
        }
        here = end;
        literals = literals.wrapping_add(count);
        offsets = offsets.wrapping_add(entry.size.into());
        extensions = extensions.wrapping_add(entry.extensions.into());
        rest = behind;
    }
    let moved = |from: &[u8], to: *const u8| to.addr() - from.as_ptr().addr();
    at.literal = moved(streams.literals.readable, literals);
    at.offset = moved(streams.offsets.readable, offsets);
    at.extension = moved(streams.extensions.readable, extensions);
    (at.block, at.distance) = (here, distance as usize);
    rest
}

/// Copies `N` words of 8 bytes to `to` from `offset` bytes before, one after the other.
///
/// # Safety
///
/// - C1. `to + 8 * N` is at most `block.len()`.
/// - C2. `offset` is 8 to `to`.
#[inline(always)]
unsafe fn copy_words<const N: usize>(block: &mut [u8], to: usize, offset: usize) {
    for to in (0..N).map(|i| to + 8 * i) {
        // SAFETY: L1: the word ends where that of the store begins, or before (C2).
        let bytes: [u8; 8] = unsafe { load(block, to - offset) };
        // SAFETY: S1: by C1.
        unsafe { store(block, to, bytes) };
    }
}

/// Returns literals where the mask has ones, and bytes of the match elsewhere.
#[inline(always)]
fn blend<const XORED: bool>(bytes: u64, literal: u64, mask: u64) -> u64 {
    let change = if XORED { literal } else { bytes ^ literal };
    bytes ^ (change & mask)
}

/// Loads `N` bytes of a stream.
///
/// # Safety
///
/// - P1. `N` bytes from there on are of a slice that is borrowed.
#[inline(always)]
unsafe fn peek<const N: usize>(from: *const u8) -> [u8; N] {
    // SAFETY: they are initialized (P1), and arrays of bytes have no alignment.
    unsafe { from.cast::<[u8; N]>().read() }
}

/// Loads `N` bytes at `at`.
///
/// # Safety
///
/// - L1. `at + N` is at most `bytes.len()`, and does not overflow.
#[inline(always)]
unsafe fn load<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    debug_assert!(at.checked_add(N).is_some_and(|end| end <= bytes.len()), "L1: {at} + {N}");
    // SAFETY: the place lies within the slice's allocation (L1).
    let place = unsafe { bytes.as_ptr().add(at) };
    // SAFETY: N bytes from there on are of the slice (L1), initialized, and arrays of bytes have no
    // alignment.
    unsafe { place.cast::<[u8; N]>().read() }
}

/// Stores `N` bytes at `at`.
///
/// # Safety
///
/// - S1. `at + N` is at most `bytes.len()`, and does not overflow.
#[inline(always)]
unsafe fn store<const N: usize>(bytes: &mut [u8], at: usize, value: [u8; N]) {
    debug_assert!(at.checked_add(N).is_some_and(|end| end <= bytes.len()), "S1: {at} + {N}");
    // SAFETY: the place lies within the slice's allocation (S1).
    let place = unsafe { bytes.as_mut_ptr().add(at) };
    // SAFETY: N bytes from there on are of the slice (S1), which is borrowed mutably, and arrays of
    // bytes have no alignment.
    unsafe { place.cast::<[u8; N]>().write(value) }
}
