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
//! A sequence with both lengths among the extensions takes a branch of its own: literals first,
//! then the match. What the loop cannot take (a length of more than one byte there, or a sequence
//! close to an end of the block) goes to `careful`, in which every access is checked.
//!
//! The one file of this crate with unsafe code: loads and stores of fixed widths without a bounds
//! check, at the end of the file. Debug builds check those of the block; [`DecodePosition::start`]
//! ensures that no pointer leaves its stream. With the feature `safe`, `copy_checked.rs` replaces
//! this file.

use zpool_core::compress::CodecError;

use crate::format::{MIN_MATCH, SHORT_NUMBER};
use crate::sequence::{DecodePosition, EncodedStreams, Stream, careful, finish, has_both_lengths};
use crate::tables::{SLOW, TokenEntry};

/// A sequence ends at least this far before the end of the block, because its stores may write up
/// to this many bytes behind its end.
const BLOCK_MARGIN: usize = SHORT;
/// Bytes that [`put_short`](Cursor::put_short) writes at once, whatever the length of the sequence.
const SHORT: usize = 32;
/// Further bytes that a longer sequence writes at once.
const STEP: usize = 16;
/// Bytes that are loaded from each stream at once, and so may be read beyond its end.
const LITERALS_AHEAD: usize = 16;
const OFFSETS_AHEAD: usize = 4;
const EXTENSIONS_AHEAD: usize = 2;

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

/// Decodes sequences until one has a length of more than one byte or is close to an end of the
/// block. Returns the tokens from that sequence on.
///
/// Each stream can be read as far beyond its end as the constants above say, and `at` is a position
/// that [`DecodePosition::start`] or [`careful`] returned. So each token finds the bytes that its
/// entry consumes, and the cursor's pointers advance by those.
#[inline(always)]
fn quick<'a, const XORED: bool>(
    entries: &[TokenEntry; 256],
    streams: &EncodedStreams<'_>,
    tokens: &'a [u8],
    at: &mut DecodePosition,
    block: &mut [u8],
) -> &'a [u8] {
    // If `last_end` were `SLOW` or more, a token without a length here could pass its check.
    let longest = SLOW as usize;
    let last_end = block.len().checked_sub(BLOCK_MARGIN).filter(|&end| end < longest);
    let Some(last_end) = last_end else { return tokens };
    let mut cursor = Cursor::new(streams, at);
    let mut rest = tokens;
    while let [token, behind @ ..] = rest {
        let entry = &entries[usize::from(*token)];
        // SAFETY: P1: the offsets of this token are within the stream, and 4 bytes behind it.
        let raw = u32::from_le_bytes(unsafe { peek(cursor.offsets) });
        // SAFETY: P1: as many extensions as the entry says are within the stream, and two behind
        // it.
        let [more] = unsafe { peek(cursor.extensions) };
        let offset = entry.offset(raw, cursor.distance) as usize;
        let end = cursor.here + entry.length(more);
        if end > last_end || offset > cursor.here {
            let long = has_both_lengths(*token) && offset <= cursor.here;
            // SAFETY: Q1: last_end is 32 less than the block's length. Q2: no offset is below 8;
            // the other bound was checked. Q3: each stream can be read that far behind its end.
            if long && unsafe { cursor.put_long::<XORED>(offset, last_end, block) } {
                cursor.distance = offset as u32;
                cursor.offsets = cursor.offsets.wrapping_add(entry.size.into());
                rest = behind;
                continue;
            }
            break;
        }
        // SAFETY: Q1, Q2: just checked. Q3: the literals of this token are within the stream, and
        // 16 bytes behind it.
        unsafe { cursor.put_short::<XORED>(entry, offset, end, block) };
        cursor.distance = offset as u32;
        cursor.offsets = cursor.offsets.wrapping_add(entry.size.into());
        rest = behind;
    }
    *at = cursor.position(streams);
    rest
}

/// The copy loop's place in the block and in the streams.
struct Cursor {
    literals: *const u8,
    offsets: *const u8,
    extensions: *const u8,
    here: usize,
    distance: u32,
    free_literals: usize,
    free_extensions: usize,
}

impl Cursor {
    #[inline(always)]
    fn new(streams: &EncodedStreams<'_>, at: &DecodePosition) -> Cursor {
        Cursor {
            literals: streams.literals.readable[at.literal..].as_ptr(),
            offsets: streams.offsets.readable[at.offset..].as_ptr(),
            extensions: streams.extensions.readable[at.extension..].as_ptr(),
            here: at.block,
            distance: at.distance as u32,
            free_literals: at.free_literals,
            free_extensions: at.free_extensions,
        }
    }

    #[inline(always)]
    fn position(&self, streams: &EncodedStreams<'_>) -> DecodePosition {
        let moved = |from: &Stream<'_>, to: *const u8| to.addr() - from.readable.as_ptr().addr();
        DecodePosition {
            block: self.here,
            literal: moved(&streams.literals, self.literals),
            offset: moved(&streams.offsets, self.offsets),
            extension: moved(&streams.extensions, self.extensions),
            distance: self.distance as usize,
            free_literals: self.free_literals,
            free_extensions: self.free_extensions,
        }
    }

    /// Writes a sequence whose literals are in its entry: they and the match leave in the same
    /// stores.
    ///
    /// # Safety
    ///
    /// - Q1. `end + 32` is at most `block.len()`, and `here < end`.
    /// - Q2. `offset` is 8 to `here`.
    /// - Q3. As many literals as the entry says, and 16 bytes more, are in the stream.
    #[inline(always)]
    unsafe fn put_short<const XORED: bool>(
        &mut self,
        entry: &TokenEntry,
        offset: usize,
        end: usize,
        block: &mut [u8],
    ) {
        let (here, count) = (self.here, usize::from(entry.literals));
        for (step, mask) in [(0, MASKS[(count + 8) & 31]), (8, MASKS[count & 31])] {
            // SAFETY: L1: before the place of the store below.
            let bytes = u64::from_le_bytes(unsafe { load(block, here + step - offset) });
            // SAFETY: P1: by Q3.
            let literal = u64::from_le_bytes(unsafe { peek(self.literals.wrapping_add(step)) });
            let blended = blend::<XORED>(bytes, literal, mask);
            // SAFETY: S1: by Q1.
            unsafe { store(block, here + step, blended.to_le_bytes()) };
        }
        // SAFETY: C1, C2: by Q1 and Q2.
        unsafe { copy_words::<2>(block, here + STEP, offset) };
        // SAFETY: M1, M2: by Q1 and Q2.
        unsafe { put_match(block, here + SHORT, end, offset) };
        self.here = end;
        self.literals = self.literals.wrapping_add(count);
        self.extensions = self.extensions.wrapping_add(entry.extensions.into());
    }

    /// Writes a sequence whose lengths are two extensions, if each is of one byte. Returns `false`
    /// and changes nothing that is not written again if one is longer, or beyond an end.
    ///
    /// # Safety
    ///
    /// - Q1. `last_end + 32` is at most `block.len()`.
    /// - Q2. `offset` is 8 to `here`.
    /// - Q3. Two extensions can be read, and the free literals and 16 bytes more.
    #[inline(always)]
    unsafe fn put_long<const XORED: bool>(
        &mut self,
        offset: usize,
        last_end: usize,
        block: &mut [u8],
    ) -> bool {
        // SAFETY: P1: by Q3.
        let [count, length] = unsafe { peek(self.extensions) }.map(usize::from);
        let behind = self.here + count;
        let end = behind + length + MIN_MATCH;
        let taken = count.max(length) < SHORT_NUMBER
            && count <= self.free_literals
            && self.free_extensions >= 2
            && end <= last_end;
        if !taken {
            return false;
        }
        let (mut to, mut from) = (self.here, self.literals);
        while to < behind {
            for step in [0, 8] {
                // SAFETY: P1: by Q3, since `count` of them are free.
                let mut bytes = u64::from_le_bytes(unsafe { peek(from.wrapping_add(step)) });
                if XORED {
                    // SAFETY: L1: before the place of the store below (Q2).
                    bytes ^= u64::from_le_bytes(unsafe { load(block, to + step - offset) });
                }
                // SAFETY: S1: to < end, and by Q1.
                unsafe { store(block, to + step, bytes.to_le_bytes()) };
            }
            (to, from) = (to + STEP, from.wrapping_add(STEP));
        }
        // SAFETY: M1, M2: by Q1 and Q2.
        unsafe { put_match(block, behind, end, offset) };
        self.here = end;
        self.literals = self.literals.wrapping_add(count);
        self.extensions = self.extensions.wrapping_add(2);
        self.free_literals -= count;
        self.free_extensions -= 2;
        true
    }
}

/// Copies a match to `to`, up to `end` or at most [`STEP`] bytes further.
///
/// # Safety
///
/// - M1. `end + STEP` is at most `block.len()`.
/// - M2. `offset` is 8 to `to`.
#[inline(always)]
unsafe fn put_match(block: &mut [u8], mut to: usize, end: usize, offset: usize) {
    while to < end {
        // SAFETY: C1: by M1. C2: by M2.
        unsafe { copy_words::<2>(block, to, offset) };
        to += STEP;
    }
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
