//! Decompresses blocks.

use std::sync::Arc;

use zpool_core::compress::{CodecError, DecompressionContext};

use crate::copy::copy;
use crate::entropy::Lanes;
use crate::format::{
    EXTENSIONS, FIRST_TABLE, FIRST_XORED, LANES, LITERALS, OFFSETS, PLAIN_ORDER, TABLE_SHIFT,
    TABLES_PER_STREAM, TOKENS, far_bytes, max_stream_len, read_number, unfold,
};
use crate::heap::zeroed;
use crate::sequence::{DecodePosition, EncodedStreams, Stream};
use crate::tables::{Codes, Tables};

/// Blocks of up to this length are decompressed without a heap call.
const READY: usize = 16 << 10;

/// Zero bytes after a decoded stream, which may be read.
const SPARE: usize = 32;

/// Decompresses a block without coded streams, which needs no state.
///
/// # Errors
///
/// [`CodecError::Corrupt`].
#[inline]
pub(crate) fn decode_plain(
    tables: &Tables,
    input: &[u8],
    block: &mut [u8],
) -> Result<(), CodecError> {
    let mut header = HeaderReader::read(input, block.len())?;
    if header.coded != 0 {
        return Err(CodecError::Corrupt);
    }
    let plain = header.plain_streams(input)?;
    put_together(tables, &plain, false, block)
}

/// The state for decompressing blocks whose streams may be coded. Used by one thread at a time.
#[derive(Debug)]
pub(crate) struct Decoder {
    tables: Arc<Tables>,
    /// Decoded streams.
    scratch: [Vec<u8>; 4],
    max_block_size: usize,
}

impl Decoder {
    /// Makes a decoder with room for blocks of up to [`READY`] bytes. The room grows when a longer
    /// block comes.
    pub(crate) fn new(tables: Arc<Tables>) -> Result<Decoder, CodecError> {
        let mut decoder = Decoder { tables, scratch: [const { Vec::new() }; 4], max_block_size: 0 };
        decoder.reserve(READY)?;
        Ok(decoder)
    }

    /// Makes room for the longest streams that a block of this length can have, so that the next
    /// block of this length needs no more, whatever its contents.
    fn reserve(&mut self, block_len: usize) -> Result<(), CodecError> {
        if block_len <= self.max_block_size {
            return Ok(());
        }
        for (stream, scratch) in self.scratch.iter_mut().enumerate() {
            *scratch = zeroed(max_stream_len(stream, block_len) + SPARE)?;
        }
        self.max_block_size = block_len;
        Ok(())
    }
}

impl DecompressionContext for Decoder {
    fn decompress(&mut self, input: &[u8], block: &mut [u8]) -> Result<(), CodecError> {
        // Even if this block needs no room: the next one of this length may.
        self.reserve(block.len())?;
        let mut header = HeaderReader::read(input, block.len())?;
        if header.coded == 0 {
            let plain = header.plain_streams(input)?;
            return put_together(&self.tables, &plain, false, block);
        }
        let Decoder { tables, scratch, .. } = self;
        let codes = tables.codes.as_ref().ok_or(CodecError::Corrupt)?;
        let chosen = header.read_tables(input, block.len())?;
        let mut lanes = header.read_lanes(input)?;
        let mut streams = header.plain_streams(input)?;
        for (stream, scratch) in scratch.iter_mut().enumerate() {
            if header.is_coded(stream) {
                let len = header.len[stream];
                decode(
                    &mut lanes,
                    input,
                    codes,
                    stream,
                    chosen[stream],
                    &mut scratch[..len + SPARE],
                );
                streams[stream] = Stream::new(&scratch[..len + SPARE], len);
            }
        }
        lanes.finish()?;
        put_together(tables, &streams, chosen[LITERALS] >= FIRST_XORED, block)
    }

    fn bytes_held(&self) -> usize {
        size_of::<Self>() + self.scratch.iter().map(Vec::capacity).sum::<usize>()
    }
}

/// Decodes a stream to `out` and zeroes the rest of `out`, so that no byte of an earlier block can
/// be read.
fn decode(
    lanes: &mut Lanes,
    input: &[u8],
    codes: &Codes,
    stream: usize,
    table: usize,
    out: &mut [u8],
) {
    let (symbols, spare) = out.split_at_mut(out.len() - SPARE);
    lanes.decode(input, &codes.decoding[FIRST_TABLE[stream] + table], symbols);
    spare.fill(0);
}

/// Fills the block from its streams.
#[inline]
fn put_together(
    tables: &Tables,
    streams: &[Stream<'_>; 4],
    xored: bool,
    block: &mut [u8],
) -> Result<(), CodecError> {
    let size = far_bytes(block.len()) - 2;
    let (entries, needs) = (&tables.entries[size], &tables.needs[size]);
    let streams = EncodedStreams {
        tokens: &streams[TOKENS].readable[..streams[TOKENS].len],
        offsets: streams[OFFSETS],
        extensions: streams[EXTENSIONS],
        literals: streams[LITERALS],
    };
    let start = DecodePosition::start(needs, &streams)?;
    match xored {
        true => copy::<true>(entries, &streams, start, block),
        false => copy::<false>(entries, &streams, start, block),
    }
}

/// The numbers before the streams.
struct HeaderReader {
    /// One bit per stream.
    coded: u8,
    len: [usize; 4],
    /// The end of what was read so far.
    end: usize,
}

impl HeaderReader {
    /// Reads the part of the header that every block has, and derives the number of literals as for
    /// a block without coded streams.
    fn read(input: &[u8], block_len: usize) -> Result<HeaderReader, CodecError> {
        let coded = *input.first().ok_or(CodecError::Corrupt)?;
        let mut header = HeaderReader { coded, len: [0; 4], end: 1 };
        for stream in [TOKENS, OFFSETS, EXTENSIONS] {
            header.len[stream] = header.read_count(stream, input, block_len)?;
        }
        if coded == 0 {
            let others = header.len.iter().sum::<usize>() + header.end;
            header.len[LITERALS] = input.len().checked_sub(others).ok_or(CodecError::Corrupt)?;
        }
        if coded >> 4 == 0 { Ok(header) } else { Err(CodecError::Corrupt) }
    }

    #[inline]
    fn read_count(
        &mut self,
        stream: usize,
        input: &[u8],
        block_len: usize,
    ) -> Result<usize, CodecError> {
        let len = read_number(input, &mut self.end)?;
        if len <= max_stream_len(stream, block_len) { Ok(len) } else { Err(CodecError::Corrupt) }
    }

    fn is_coded(&self, stream: usize) -> bool {
        self.coded >> stream & 1 == 1
    }

    /// Reads the number of literals and the table of each stream.
    fn read_tables(&mut self, input: &[u8], block_len: usize) -> Result<[usize; 4], CodecError> {
        self.len[LITERALS] = self.read_count(LITERALS, input, block_len)?;
        let bytes = input.get(self.end..self.end + 2).ok_or(CodecError::Corrupt)?;
        self.end += 2;
        let word = usize::from(u16::from_le_bytes([bytes[0], bytes[1]]));
        let tables = std::array::from_fn(|i| word >> TABLE_SHIFT[i] & (TABLES_PER_STREAM[i] - 1));
        let meant = (0..4).filter(|&stream| self.is_coded(stream));
        let known = meant.fold(0, |word, stream| word | tables[stream] << TABLE_SHIFT[stream]);
        // All other bits must be zero.
        if word == known { Ok(tables) } else { Err(CodecError::Corrupt) }
    }

    /// Reads the lengths of the lanes, which follow the plain streams.
    fn read_lanes(&mut self, input: &[u8]) -> Result<Lanes, CodecError> {
        let mut differences = [0; LANES - 1];
        for difference in &mut differences {
            *difference = unfold(read_number(input, &mut self.end)?);
        }
        let plain = (0..4).filter(|&stream| !self.is_coded(stream));
        let start = self.end + plain.map(|stream| self.len[stream]).sum::<usize>();
        let all = input.len().checked_sub(start).ok_or(CodecError::Corrupt)?;
        let (mut lens, mut rest) = ([0; LANES], all);
        for (len, difference) in lens.iter_mut().zip(differences) {
            *len = (all / LANES).checked_add_signed(difference).ok_or(CodecError::Corrupt)?;
            rest = rest.checked_sub(*len).ok_or(CodecError::Corrupt)?;
        }
        lens[LANES - 1] = rest;
        Ok(Lanes::new(start, lens))
    }

    /// Returns the plain streams, and empty ones in place of the coded.
    #[inline]
    fn plain_streams<'a>(&mut self, input: &'a [u8]) -> Result<[Stream<'a>; 4], CodecError> {
        let mut streams = [Stream::new(&[], 0); 4];
        for stream in PLAIN_ORDER {
            if !self.is_coded(stream) {
                let len = self.len[stream];
                let readable = input.get(self.end..).ok_or(CodecError::Corrupt)?;
                if len > readable.len() {
                    return Err(CodecError::Corrupt);
                }
                streams[stream] = Stream::new(readable, len);
                self.end += len;
            }
        }
        Ok(streams)
    }
}
