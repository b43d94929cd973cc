//! Decodes a compressed form to a block whose length is known.
//!
//! ```text
//!   input   token │ literals │ offset │ token │ ...             block   ... │ literals │ match │
//!           └─ decode_fast: while both are far from their ends ─┘
//!                     └─ decode_checked: one sequence of any kind, then decode_fast again ─┘
//! ```
//!
//! A sequence is some literals and a match, which repeats bytes of the block from `offset` bytes
//! before. Its token has the number of literals and the length of the match, 4 bits each. A length
//! that does not fit continues in further bytes (LZ4 block format).
//!
//! [`decode_fast`] only takes sequences that it can decode in steps of a fixed width. All others
//! are decoded here, where every access is checked: those close to an end, those with a length of
//! more than one further byte, and corrupt ones.

use zpool_core::compress::CodecError;

use crate::fast::decode_fast;

/// The positions of a decoder in its input and in the block.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cursors {
    /// Bytes of the input that were read.
    pub(crate) read: usize,
    /// Bytes of the block that are in place.
    pub(crate) written: usize,
}

impl Cursors {
    pub(crate) fn new(read: usize, written: usize) -> Cursors {
        Cursors { read, written }
    }
}

/// The shortest match. A token has the length minus this.
pub(crate) const MIN_MATCH: usize = 4;

/// A length of 4 bits with this value continues in further bytes.
pub(crate) const CONTINUES: usize = 15;

/// Matches that overlap themselves are copied byte by byte up to this length.
const SHORT: usize = 18;

/// Decodes `input` to the whole of `block`.
///
/// # Errors
///
/// [`CodecError::Corrupt`] if the input is not an LZ4 block, or one of another length. Then each
/// byte of `block` is unchanged or depends on the input alone.
pub(crate) fn decode(input: &[u8], block: &mut [u8]) -> Result<(), CodecError> {
    let mut at = Cursors::default();
    loop {
        at = decode_fast(input, block, at);
        if decode_checked(input, block, &mut at).ok_or(CodecError::Corrupt)? {
            return Ok(());
        }
    }
}

/// Decodes one sequence. Returns whether it was the last one, and `None` if the input is corrupt.
#[inline(never)]
fn decode_checked(input: &[u8], block: &mut [u8], at: &mut Cursors) -> Option<bool> {
    let (&token, mut rest) = input.get(at.read..)?.split_first()?;
    let (literals, length) = (usize::from(token >> 4), usize::from(token & 15));

    let literals = literals + take_more(literals, &mut rest)?;
    let source = rest.split_off(..literals)?;
    copy_short(source, block.get_mut(at.written..)?.get_mut(..literals)?);
    at.written += literals;
    if rest.is_empty() {
        return (at.written == block.len()).then_some(true);
    }

    let offset = usize::from(u16::from_le_bytes(*rest.split_off(..2)?.first_chunk()?));
    let length = MIN_MATCH + length + take_more(length, &mut rest)?;
    let start = at.written.checked_sub(offset)?;
    let window = block.get_mut(start..)?.get_mut(..offset.checked_add(length)?)?;
    (offset > 0).then_some(())?;
    repeat(window, offset);
    at.written += length;
    at.read = input.len() - rest.len();
    Some(false)
}

/// Takes the bytes by which a length continues, if it does: up to the first that is not 255.
#[inline]
fn take_more(length: usize, rest: &mut &[u8]) -> Option<usize> {
    let mut more = 0usize;
    if length == CONTINUES {
        loop {
            let &byte = rest.split_off_first()?;
            more = more.checked_add(byte.into())?;
            if byte < u8::MAX {
                break;
            }
        }
    }
    Some(more)
}

/// Copies to a slice of the same length, without a call or a loop if the slice is short.
#[inline]
fn copy_short(from: &[u8], to: &mut [u8]) {
    match from.len() {
        0..4 => to.iter_mut().zip(from).for_each(|(to, from)| *to = *from),
        4..8 => copy_ends::<4>(from, to),
        8..=16 => copy_ends::<8>(from, to),
        _ => to.copy_from_slice(from),
    }
}

/// Copies `N` to `2 * N` bytes: the first and the last `N`, which may overlap.
#[inline]
fn copy_ends<const N: usize>(from: &[u8], to: &mut [u8]) {
    if let (Some(from), Some(to)) = (from.first_chunk::<N>(), to.first_chunk_mut::<N>()) {
        *to = *from;
    }
    if let (Some(from), Some(to)) = (from.last_chunk::<N>(), to.last_chunk_mut::<N>()) {
        *to = *from;
    }
}

/// Fills the bytes after the first `offset` ones with repetitions of those.
#[inline]
fn repeat(window: &mut [u8], offset: usize) {
    let length = window.len() - offset;
    if offset >= length {
        let (from, to) = window.split_at_mut(offset);
        return copy_short(&from[..length], to);
    }
    if length <= SHORT {
        (offset..window.len()).for_each(|at| window[at] = window[at - offset]);
        return;
    }
    // The length of the bytes in place is a multiple of the offset, so they can be repeated as a
    // whole.
    let mut ready = offset;
    while ready < window.len() {
        let step = ready.min(window.len() - ready);
        window.copy_within(..step, ready);
        ready += step;
    }
}
