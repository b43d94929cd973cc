//! Does what `copy.rs` does, in safe Rust: the accesses that are unchecked there are checked here,
//! by the compiler. Both restore the same blocks and refuse the same input.

use zpool_core::compress::CodecError;

use crate::sequence::{DecodePosition, EncodedStreams, careful, finish};
use crate::tables::TokenEntry;

/// Bytes of a block that are written at once, and bytes of literals that are read at once.
const STEP: usize = 16;

/// Masks of the literals among the next 16 bytes, by their number.
static MASKS: [u128; 16] = {
    let mut masks = [0; 16];
    let mut n = 1;
    while n < 16 {
        masks[n] = masks[n - 1] << 8 | 0xFF;
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
    let mut at = start;
    for &token in streams.tokens {
        let entry = &entries[usize::from(token)];
        if quick::<XORED>(entry, streams, &mut at, block).is_none() {
            at = careful::<XORED>(token, entry, streams, at, block)?;
        }
    }
    finish::<XORED>(streams, &at, block)
}

/// Decodes a sequence with short lengths, away from all ends. Returns `None` for any other
/// sequence, and then has changed nothing but bytes that are still to be written.
#[inline(always)]
fn quick<const XORED: bool>(
    entry: &TokenEntry,
    streams: &EncodedStreams<'_>,
    at: &mut DecodePosition,
    block: &mut [u8],
) -> Option<()> {
    let raw = u32::from_le_bytes(*streams.offsets.readable.get(at.offset..)?.first_chunk()?);
    let more = *streams.extensions.readable.get(at.extension)?;
    let offset = entry.offset(raw, at.distance as u32) as usize;
    let length = entry.length(more);
    let literals: &[u8; STEP] = streams.literals.readable.get(at.literal..)?.first_chunk()?;
    let literals = u128::from_le_bytes(*literals);

    let here = at.block;
    let end = here + length;
    if end + STEP > block.len() || offset > here || entry.is_slow() {
        return None;
    }
    let count = usize::from(entry.literals);
    let mask = MASKS[count % MASKS.len()];
    // The bytes before the sequence, and then the sequence with room for one more step.
    let window = block.get_mut(here - offset..end + STEP)?;
    for (step, shift) in [(0, 0), (8, 64)] {
        let bytes = u64::from_le_bytes(*window.get(step..)?.first_chunk()?);
        let (literal, mask) = ((literals >> shift) as u64, (mask >> shift) as u64);
        let change = if XORED { literal } else { bytes ^ literal };
        let blended = bytes ^ (change & mask);
        window.get_mut(offset + step..)?.first_chunk_mut().map(|p| *p = blended.to_le_bytes())?;
    }
    let mut to = STEP;
    while to < length {
        let bytes: [u8; 8] = *window.get(to..)?.first_chunk()?;
        *window.get_mut(offset + to..)?.first_chunk_mut()? = bytes;
        to += 8;
    }
    at.distance = offset;
    at.offset += usize::from(entry.size);
    at.extension += usize::from(entry.extensions);
    at.literal += count;
    at.block = end;
    Some(())
}
