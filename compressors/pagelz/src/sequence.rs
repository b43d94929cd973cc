//! Decodes one sequence at a time, with every access checked, for the sequences that the copy loop
//! leaves.

use zpool_core::compress::CodecError;

use crate::format::{BOTH, FIRST_ENTRY, FIRST_OFFSET, MIN_MATCH, WORD, read_number};
use crate::tables::TokenEntry;

/// A stream, with the bytes after it that may be read as well.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stream<'a> {
    /// The stream, and further bytes.
    pub(crate) readable: &'a [u8],
    pub(crate) len: usize,
}

impl<'a> Stream<'a> {
    /// Wraps the first `len` bytes of `readable`, which has at least as many.
    pub(crate) fn new(readable: &'a [u8], len: usize) -> Stream<'a> {
        debug_assert!(len <= readable.len());
        Stream { readable, len }
    }

    /// Returns the stream alone.
    #[inline]
    fn bytes(&self) -> &'a [u8] {
        &self.readable[..self.len]
    }
}

/// The streams of a block.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EncodedStreams<'a> {
    pub(crate) tokens: &'a [u8],
    pub(crate) offsets: Stream<'a>,
    pub(crate) extensions: Stream<'a>,
    pub(crate) literals: Stream<'a>,
}

/// The positions of a decoder in the block and in its streams.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DecodePosition {
    pub(crate) block: usize,
    pub(crate) literal: usize,
    /// In the stream of offsets.
    pub(crate) offset: usize,
    pub(crate) extension: usize,
    /// The offset in force.
    pub(crate) distance: usize,
    /// Literals and extensions that the entries of the remaining tokens do not claim: those of
    /// tokens with both numbers among the extensions, and the literals after the last token.
    pub(crate) free_literals: usize,
    pub(crate) free_extensions: usize,
}

impl DecodePosition {
    /// Returns the beginning of a block, after checking that each token finds the bytes that its
    /// entry claims.
    ///
    /// # Errors
    ///
    /// [`CodecError::Corrupt`] if one does not.
    pub(crate) fn start(
        needs: &[Needs; 256],
        streams: &EncodedStreams<'_>,
    ) -> Result<DecodePosition, CodecError> {
        // Summed in parts, so that no sum overflows.
        let (mut literals, mut offsets, mut extensions) = (0, 0, 0);
        for part in streams.tokens.chunks(Needs::MOST) {
            let sum = part.iter().fold(0, |sum, &token| sum + needs[usize::from(token)].0);
            literals += (sum & 0xFFFF) as usize;
            offsets += (sum >> 16 & 0xFFFF) as usize;
            extensions += (sum >> 32) as usize;
        }
        let free = |stream: &Stream<'_>, used| stream.len.checked_sub(used);
        let free = (free(&streams.literals, literals), free(&streams.extensions, extensions));
        match free {
            (Some(free_literals), Some(free_extensions)) if offsets == streams.offsets.len => {
                Ok(DecodePosition {
                    block: 0,
                    literal: 0,
                    offset: 0,
                    extension: 0,
                    distance: FIRST_OFFSET,
                    free_literals,
                    free_extensions,
                })
            }
            _ => Err(CodecError::Corrupt),
        }
    }
}

/// The numbers of literals, bytes of offsets and extensions that a token takes by its entry, 16
/// bits each.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Needs(u64);

impl Needs {
    /// The most tokens whose needs can be added up.
    const MOST: usize = 4096;

    pub(crate) fn of(entry: &TokenEntry) -> Needs {
        let [literals, offsets, extensions] = [entry.literals, entry.size, entry.extensions];
        Needs(u64::from(literals) | u64::from(offsets) << 16 | u64::from(extensions) << 32)
    }
}

const _: () = assert!(Needs::MOST * 15 < 1 << 16, "a token has at most 15 literals by its entry");

/// Decodes the sequence of one token.
///
/// # Errors
///
/// [`CodecError::Corrupt`] if a stream or the block is too short for it, or if the offset is too
/// large.
#[inline(never)]
pub(crate) fn careful<const XORED: bool>(
    token: u8,
    entry: &TokenEntry,
    streams: &EncodedStreams<'_>,
    mut at: DecodePosition,
    block: &mut [u8],
) -> Result<DecodePosition, CodecError> {
    let raw = take(&streams.offsets, &mut at.offset, entry.size.into())?;
    if entry.size > 0 {
        let raw = raw.iter().rev().fold(0, |value, &byte| value << 8 | usize::from(byte));
        at.distance = raw * usize::from(entry.factor) + usize::from(entry.bias);
    }
    let (literals, length) = lengths(token, entry, streams, &mut at)?;

    let source = take(&streams.literals, &mut at.literal, literals)?;
    let start = at.block;
    put_literals::<XORED>(source, start, at.distance, block)?;
    let here = start + literals;
    if at.distance > here || length > block.len() - here {
        return Err(CodecError::Corrupt);
    }
    repeat(&mut block[here - at.distance..here + length], at.distance);
    at.block = here + length;
    Ok(at)
}

/// Returns whether both lengths of a token's sequence are numbers among the extensions.
#[inline(always)]
pub(crate) fn has_both_lengths(token: u8) -> bool {
    (BOTH..FIRST_ENTRY).contains(&usize::from(token))
}

/// Returns the numbers of literals and of match bytes.
#[inline]
fn lengths(
    token: u8,
    entry: &TokenEntry,
    streams: &EncodedStreams<'_>,
    at: &mut DecodePosition,
) -> Result<(usize, usize), CodecError> {
    if has_both_lengths(token) {
        let (extensions, before) = (streams.extensions.bytes(), at.extension);
        let literals = read_number(extensions, &mut at.extension)?;
        let length = read_number(extensions, &mut at.extension)?.checked_add(MIN_MATCH);
        let free = |free: &mut usize, used: usize| -> Result<(), CodecError> {
            *free = free.checked_sub(used).ok_or(CodecError::Corrupt)?;
            Ok(())
        };
        free(&mut at.free_literals, literals)?;
        free(&mut at.free_extensions, at.extension - before)?;
        return Ok((literals, length.ok_or(CodecError::Corrupt)?));
    }
    if entry.is_slow() {
        return Err(CodecError::Corrupt);
    }
    let more = match take(&streams.extensions, &mut at.extension, entry.extensions.into())? {
        [byte] => usize::from(*byte),
        _ => 0,
    };
    let literals = usize::from(entry.literals);
    Ok((literals, entry.base as usize - literals + more))
}

/// Takes the next `count` bytes of a stream.
#[inline]
fn take<'a>(stream: &Stream<'a>, at: &mut usize, count: usize) -> Result<&'a [u8], CodecError> {
    let rest = stream.bytes().get(*at..).ok_or(CodecError::Corrupt)?;
    let (taken, _) = rest.split_at_checked(count).ok_or(CodecError::Corrupt)?;
    *at += count;
    Ok(taken)
}

/// Copies literals to the block, from `start` on.
#[inline]
fn put_literals<const XORED: bool>(
    source: &[u8],
    start: usize,
    distance: usize,
    block: &mut [u8],
) -> Result<(), CodecError> {
    let place = block.get_mut(start..).and_then(|rest| rest.get_mut(..source.len()));
    place.ok_or(CodecError::Corrupt)?.copy_from_slice(source);
    if XORED {
        for k in start.max(distance)..start + source.len() {
            block[k] ^= block[k - distance];
        }
    }
    Ok(())
}

/// Decodes what follows the last token: literals to the end of the block.
///
/// # Errors
///
/// [`CodecError::Corrupt`] if anything is left over or missing.
pub(crate) fn finish<const XORED: bool>(
    streams: &EncodedStreams<'_>,
    at: &DecodePosition,
    block: &mut [u8],
) -> Result<(), CodecError> {
    let literals = streams.literals.bytes().get(at.literal..).ok_or(CodecError::Corrupt)?;
    let whole = block.len() - at.block == literals.len()
        && at.offset == streams.offsets.len
        && at.extension == streams.extensions.len;
    if !whole {
        return Err(CodecError::Corrupt);
    }
    put_literals::<XORED>(literals, at.block, at.distance, block)
}

/// With at least this offset, bytes are copied by this many at once.
const FAR: usize = 32;

/// Fills the bytes after the first `offset` ones with repetitions of those.
#[inline]
fn repeat(bytes: &mut [u8], offset: usize) {
    let length = bytes.len() - offset;
    if offset >= FAR {
        let mut done = 0;
        while done < length {
            let step = offset.min(length - done);
            bytes.copy_within(done..done + step, done + offset);
            done += step;
        }
        return;
    }
    let words = length / WORD * WORD;
    for at in (0..words).step_by(WORD) {
        let word: [u8; WORD] = bytes[at..at + WORD].try_into().expect("its length");
        bytes[at + offset..at + offset + WORD].copy_from_slice(&word);
    }
    for at in words..length {
        bytes[at + offset] = bytes[at];
    }
}
