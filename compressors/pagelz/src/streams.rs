//! Splits a block into its streams: literals, tokens, offsets and extensions.

use zpool_core::compress::CodecError;

use crate::format::{
    BOTH, ENTRY_LITERALS, ENTRY_MATCH, EXTENSIONS, FEW_LITERALS, FIRST_OFFSET, LITERALS, MIN_MATCH,
    OFFSETS, OffsetKind, TOKENS, encode_number, max_stream_len,
};
use crate::heap::zeroed;
use crate::matcher::Matcher;
use crate::tables::{Tables, token_index};

/// Up to this many literals are copied at once.
const STEP: usize = 16;

/// Room after each stream, so that its last bytes are written like all others.
const SPARE: usize = 32;

/// The streams of one block, and room for those of the largest.
#[derive(Debug)]
pub(crate) struct Streams {
    bytes: [Vec<u8>; 4],
    /// The literals, each xored with the byte that the current offset reaches. Empty if no stream
    /// is coded.
    xored: Vec<u8>,
    len: [usize; 4],
    max_block_size: usize,
}

impl Streams {
    /// Makes room for blocks of this length. `xored` means that literals will be coded.
    pub(crate) fn new(max_block_size: usize, xored: bool) -> Result<Streams, CodecError> {
        let mut bytes = [const { Vec::new() }; 4];
        for (stream, place) in bytes.iter_mut().enumerate() {
            *place = zeroed(max_stream_len(stream, max_block_size) + SPARE)?;
        }
        let xored = if xored { zeroed(max_block_size + SPARE)? } else { Vec::new() };
        Ok(Streams { bytes, xored, len: [0; 4], max_block_size })
    }

    /// Returns a stream of the block.
    #[inline]
    pub(crate) fn get(&self, stream: usize) -> &[u8] {
        &self.bytes[stream][..self.len[stream]]
    }

    /// Returns the xored literals.
    #[inline]
    pub(crate) fn xored(&self) -> &[u8] {
        &self.xored[..self.len[LITERALS]]
    }

    /// Takes a block apart.
    ///
    /// # Errors
    ///
    /// [`CodecError::OutOfMemory`].
    pub(crate) fn fill(
        &mut self,
        block: &[u8],
        matcher: &mut Matcher,
        tables: &Tables,
    ) -> Result<(), CodecError> {
        if block.len() > self.max_block_size {
            *self = Streams::new(block.len(), !self.xored.is_empty())?;
        }
        if self.xored.is_empty() {
            self.fill_with::<false>(block, matcher, tables)
        } else {
            self.fill_with::<true>(block, matcher, tables)
        }
    }

    fn fill_with<const XORED: bool>(
        &mut self,
        block: &[u8],
        matcher: &mut Matcher,
        tables: &Tables,
    ) -> Result<(), CodecError> {
        let [literals, tokens, offsets, extensions] = &mut self.bytes;
        let mut writer = StreamWriter::<XORED> {
            tables,
            block,
            literals,
            xored: &mut self.xored,
            tokens,
            offsets,
            extensions,
            len: [0; 4],
            last: FIRST_OFFSET,
        };
        let rest = matcher.find(block, |from, literals, offset, length| {
            writer.put(from, literals, offset, length);
        })?;
        writer.put_literals(rest, block.len() - rest, writer.last);
        self.len = writer.len;
        Ok(())
    }

    /// Returns the bytes on the heap.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.bytes.iter().map(Vec::capacity).sum::<usize>() + self.xored.capacity()
    }
}

/// Writes sequences to the streams.
struct StreamWriter<'a, const XORED: bool> {
    tables: &'a Tables,
    block: &'a [u8],
    literals: &'a mut [u8],
    xored: &'a mut [u8],
    tokens: &'a mut [u8],
    offsets: &'a mut [u8],
    extensions: &'a mut [u8],
    len: [usize; 4],
    last: usize,
}

impl<const XORED: bool> StreamWriter<'_, XORED> {
    #[inline(always)]
    fn put(&mut self, from: usize, literals: usize, offset: usize, length: usize) {
        self.put_literals(from, literals, offset);
        let (kind, value) = OffsetKind::of(offset, self.last);
        self.last = offset;
        let at = self.len[OFFSETS];
        self.offsets[at..at + 4].copy_from_slice(&value.to_le_bytes());
        self.len[OFFSETS] += kind.bytes(self.block.len());
        let mut token = 0;
        if literals < ENTRY_LITERALS && length < ENTRY_MATCH {
            token = self.tables.tokens[token_index(kind, literals, length)];
        }
        if token == 0 {
            token = self.extend(kind, literals, length);
        }
        self.tokens[self.len[TOKENS]] = token;
        self.len[TOKENS] += 1;
    }

    /// Writes the lengths of a sequence that is not in the codebook as extensions, and returns its
    /// token.
    #[inline(always)]
    fn extend(&mut self, kind: OffsetKind, literals: usize, length: usize) -> u8 {
        let more = length - MIN_MATCH;
        if literals < FEW_LITERALS && more <= usize::from(u8::MAX) {
            self.extensions[self.len[EXTENSIONS]] = more as u8;
            self.len[EXTENSIONS] += 1;
            return (kind as usize * FEW_LITERALS + literals) as u8;
        }
        for value in [literals, more] {
            let (bytes, count) = encode_number(value);
            let at = self.len[EXTENSIONS];
            self.extensions[at..at + count].copy_from_slice(&bytes[..count]);
            self.len[EXTENSIONS] += count;
        }
        (BOTH + kind as usize) as u8
    }

    #[inline(always)]
    fn put_literals(&mut self, from: usize, count: usize, offset: usize) {
        let at = self.len[LITERALS];
        self.len[LITERALS] += count;
        if count <= STEP && from + STEP <= self.block.len() && (!XORED || from >= offset) {
            let plain = bytes16(self.block, from);
            self.literals[at..at + STEP].copy_from_slice(&plain.to_le_bytes());
            if XORED {
                let other = plain ^ bytes16(self.block, from - offset);
                self.xored[at..at + STEP].copy_from_slice(&other.to_le_bytes());
            }
            return;
        }
        self.literals[at..at + count].copy_from_slice(&self.block[from..from + count]);
        if XORED {
            for (k, place) in self.xored[at..at + count].iter_mut().enumerate() {
                let before = (from + k).checked_sub(offset).map_or(0, |i| self.block[i]);
                *place = self.block[from + k] ^ before;
            }
        }
    }
}

#[inline(always)]
fn bytes16(block: &[u8], at: usize) -> u128 {
    u128::from_le_bytes(block[at..at + STEP].try_into().expect("16 bytes"))
}
