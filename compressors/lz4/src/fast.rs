//! Decodes sequences that are far from both ends, by loads and stores of fixed widths.
//!
//! ```text
//!   literals    16 bytes at once, of which the first 0 to 14 count
//!   match       8, 8 and 2 bytes; a long one 8, 8, 8, 8 and then 32 at a time
//! ```
//!
//! These widths are guesses at what comes next in memory pages. Most sequences have up to 14
//! literals and a match of up to 18 bytes from at least 8 bytes before, so they take one branch for
//! both lengths and no loop. Matches are loaded by words of 8 bytes, because a wider load would
//! need what several earlier stores wrote, and wait until all of them have left the processor's
//! store buffer. If a store writes too much, the next sequence overwrites the surplus.
//!
//! The one file of this crate with unsafe code: loads and stores without a bounds check, at the end
//! of the file. Debug builds check them. `cargo run --release -p benches --bin codecs` compares
//! with the decoder of `lz4_flex` and with lz4's own.

use crate::decode::{CONTINUES, Cursors, MIN_MATCH};

/// Bytes of literals that are copied at once.
const STEP: usize = 16;

/// Bytes of a word. Matches with at least this offset are copied by words.
const WORD: usize = 8;

/// Bytes of a long match that are copied at once, if its offset is at least this.
const FAR: usize = 4 * WORD;

/// A sequence begins at least this far before the end of the input: a token, 14 literals, an offset
/// and a byte by which a length continues; or a token and [`STEP`] bytes.
const INPUT_MARGIN: usize = 18;

/// A sequence begins at least this far before the end of the block: 14 literals and a match of 18
/// bytes.
const BLOCK_MARGIN: usize = 32;

/// A long sequence begins, and its match ends, at least this far before the end of the block: 14
/// literals and three words; or [`FAR`] bytes.
const LONG_MARGIN: usize = 40;

/// Decodes sequences until one is close to an end, has a length that continues beyond one byte, or
/// is corrupt. Returns where that one begins.
#[inline(always)]
pub(crate) fn decode_fast(input: &[u8], block: &mut [u8], at: Cursors) -> Cursors {
    let Cursors { mut read, mut written } = at;
    let last_read = input.len().checked_sub(INPUT_MARGIN);
    let last_written = block.len().checked_sub(BLOCK_MARGIN);
    let (Some(last_read), Some(last_written)) = (last_read, last_written) else { return at };
    while read <= last_read && written <= last_written {
        // SAFETY: L1: read <= last_read.
        let [token] = unsafe { load(input, read) };
        let (literals, length) = (usize::from(token >> 4), usize::from(token & 15));
        if literals == CONTINUES || length == CONTINUES {
            let at = Cursors { read, written };
            let last = Cursors::new(last_read, block.len().saturating_sub(LONG_MARGIN));
            let Some(next) = decode_long(input, block, at, last, literals, length) else { break };
            Cursors { read, written } = next;
            continue;
        }
        // SAFETY: L1: read <= last_read, and the margin is 18.
        let bytes: [u8; STEP] = unsafe { load(input, read + 1) };
        // SAFETY: S1: written <= last_written, and the margin is 32.
        unsafe { store(block, written, bytes) };
        let (next, here) = (read + 1 + literals, written + literals);
        // SAFETY: L1: literals <= 14, so next + 2 <= last_read + 17.
        let offset = usize::from(u16::from_le_bytes(unsafe { load(input, next) }));
        let Some(from) = here.checked_sub(offset) else { break };
        let length = MIN_MATCH + length;
        if offset >= WORD {
            // SAFETY: C1: here + 18 <= last_written + 32, and the margin is 32. C2: both were
            // compared.
            unsafe { copy::<WORD>(block, from, here) };
            // SAFETY: likewise.
            unsafe { copy::<WORD>(block, from + WORD, here + WORD) };
            // SAFETY: likewise; a match of this branch has at most 18 bytes, so it is whole.
            unsafe { copy::<2>(block, from + 2 * WORD, here + 2 * WORD) };
        } else if offset > 0 && here + 3 * WORD <= block.len() {
            // SAFETY: R1: the length is at most 18, so three words. R2: both were compared.
            unsafe { repeat(block, here, offset, length) };
        } else {
            break;
        }
        (read, written) = (next + 2, here + length);
    }
    Cursors { read, written }
}

/// Decodes the sequence at `at`, of which one length or both continue in one byte. Returns where
/// the next one begins, or `None` if this one is not to be decoded here.
///
/// `at.read` is at most `last.read`. Both positions in `last` are as far from the ends as the
/// margins say, or 0 if the block is shorter than its margin.
#[inline(always)]
fn decode_long(
    input: &[u8],
    block: &mut [u8],
    at: Cursors,
    last: Cursors,
    mut literals: usize,
    mut length: usize,
) -> Option<Cursors> {
    let (mut read, mut here) = (at.read + 1, at.written);
    if here >= last.written {
        return None;
    }
    if literals == CONTINUES {
        // SAFETY: L1: at.read <= last.read, and the margin is 18.
        let [more] = unsafe { load(input, read) };
        read += 1;
        literals += usize::from(more);
        if more == u8::MAX || read + literals > last.read || here + literals > last.written {
            return None;
        }
        // SAFETY: L1: read + 15 <= last.read, and the margin is 18.
        let bytes: [u8; 2 * STEP] = unsafe { load(input, read) };
        // SAFETY: S1: here <= last.written, and the margin is 40.
        unsafe { store(block, here, bytes) };
        for done in (2 * STEP..literals).step_by(STEP) {
            // SAFETY: L1: read + done < last.read, and the margin is 18.
            let bytes: [u8; STEP] = unsafe { load(input, read + done) };
            // SAFETY: S1: here + done < last.written, and the margin is 40.
            unsafe { store(block, here + done, bytes) };
        }
    } else {
        // SAFETY: L1: at.read <= last.read, and the margin is 18.
        let bytes: [u8; STEP] = unsafe { load(input, read) };
        // SAFETY: S1: at.written <= last.written, and the margin is 40.
        unsafe { store(block, here, bytes) };
    }
    read += literals;
    here += literals;
    // SAFETY: L1: read <= last.read after long literals, and read <= last.read + 15 after others.
    let offset = usize::from(u16::from_le_bytes(unsafe { load(input, read) }));
    read += 2;
    if length == CONTINUES {
        // SAFETY: L1: as before, and the margin is 18.
        let [more] = unsafe { load(input, read) };
        read += 1;
        length += usize::from(more);
        if more == u8::MAX {
            return None;
        }
    }
    length += MIN_MATCH;
    if offset == 0 || offset > here || here + length > last.written {
        return None;
    }
    if offset < WORD {
        // SAFETY: R1: here + length <= last.written, and the margin is 40. R2: both were compared.
        unsafe { repeat(block, here, offset, length) };
    } else {
        for done in (0..FAR).step_by(WORD) {
            // SAFETY: C1: here + done + 8 <= last.written + 32. C2: both were compared.
            unsafe { copy::<WORD>(block, here - offset + done, here + done) };
        }
        // The bytes in place repeat, so they can be copied from any multiple of the offset before.
        let distance = if offset < FAR { offset * FAR.div_ceil(offset) } else { offset };
        for to in (here + FAR..here + length).step_by(FAR) {
            // SAFETY: C1: to < last.written, and the margin is 40. C2: the distance is less than
            // 32 + offset if it is not the offset, and to is at least here + 32.
            unsafe { copy::<FAR>(block, to - distance, to) };
        }
    }
    Some(Cursors { read, written: here + length })
}

/// Copies `N` bytes.
///
/// # Safety
///
/// - C1. `to + N` is at most `block.len()`.
/// - C2. `from + N` is at most `to`.
#[inline(always)]
unsafe fn copy<const N: usize>(block: &mut [u8], from: usize, to: usize) {
    // SAFETY: L1: it ends where the store begins, or before (C2).
    let bytes: [u8; N] = unsafe { load(block, from) };
    // SAFETY: S1: by C1.
    unsafe { store(block, to, bytes) };
}

/// For each offset below a word: its bytes in a word, the factor that repeats them over the word,
/// and its smallest multiple that is a word or more.
static REPEATS: [(u64, u64, usize); WORD] = {
    let mut repeats = [(0, 0, WORD); WORD];
    let mut offset = 1;
    while offset < WORD {
        let (mut factor, mut bit) = (0, 0);
        while bit < u64::BITS as usize {
            factor |= 1 << bit;
            bit += 8 * offset;
        }
        let mask = (1 << (8 * offset)) - 1;
        repeats[offset] = (mask, factor, WORD.div_ceil(offset) * offset);
        offset += 1;
    }
    repeats
};

/// Writes `length` bytes to `to`, rounded up to words, that repeat the `offset` bytes before.
///
/// # Safety
///
/// - R1. `to + length`, with the length rounded up to words, is at most `block.len()`; the length
///   is not 0.
/// - R2. `offset` is 1 to 7, and at most `to`.
#[inline(always)]
unsafe fn repeat(block: &mut [u8], to: usize, offset: usize, length: usize) {
    let (mask, factor, distance) = REPEATS[offset % WORD];
    // SAFETY: L1: it begins before `to`, from where on there is a word (R1). What it reads behind
    // the offset's bytes is masked out.
    let bytes = u64::from_le_bytes(unsafe { load(block, to - offset) });
    // SAFETY: S1: by R1.
    unsafe { store(block, to, (bytes & mask).wrapping_mul(factor).to_le_bytes()) };
    for to in (to..to + length).step_by(WORD).skip(1) {
        // SAFETY: C1: by R1. C2: the distance is 8 to 14. It is less than 8 + offset, and this word
        // is at least 8 bytes behind the first.
        unsafe { copy::<WORD>(block, to - distance, to) };
    }
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
