//! Compresses blocks, with the state that this needs.

use core::fmt;
use std::sync::Arc;

use zpool_core::compress::{CodecError, Compressed, CompressionContext};

use crate::choice::{self, MinSaving, choose};
use crate::entropy::LaneWriter;
use crate::format::{
    EXTENSIONS, FIRST_TABLE, FIRST_XORED, LANES, LITERALS, OFFSETS, PLAIN_ORDER, TABLE_SHIFT,
    TOKENS, encode_number, fold, max_stream_len,
};
use crate::matcher::{Effort, Matcher};
use crate::streams::Streams;
use crate::tables::{Codes, Tables};

/// The state for compressing blocks. Used by one thread at a time.
pub(crate) struct Context {
    tables: Arc<Tables>,
    matcher: Matcher,
    streams: Streams,
    /// `None` at a level that codes no stream.
    coder: Option<Coder>,
}

struct Coder {
    min_saving: MinSaving,
    writer: LaneWriter,
}

/// The longest header: a byte of flags, four numbers, two bytes of tables, and three more numbers.
const MAX_HEADER: usize = 1 + 4 * 5 + 2 + 3 * 5;

impl Context {
    /// Makes a context for blocks of up to `max_block_size` bytes. Streams are coded only if there
    /// is a `min_saving`.
    pub(crate) fn new(
        tables: Arc<Tables>,
        min_saving: Option<MinSaving>,
        max_block_size: usize,
    ) -> Result<Context, CodecError> {
        let coder = match min_saving {
            None => None,
            Some(min_saving) => {
                Some(Coder { min_saving, writer: LaneWriter::new(max_symbols(max_block_size))? })
            }
        };
        let effort = if coder.is_some() { Effort::Lazy } else { Effort::Greedy };
        let matcher = Matcher::new(max_block_size, effort)?;
        let streams = Streams::new(max_block_size, coder.is_some())?;
        Ok(Context { tables, matcher, streams, coder })
    }
}

/// Returns the most symbols that all streams of a block have together.
fn max_symbols(block_len: usize) -> usize {
    (0..4).map(|stream| max_stream_len(stream, block_len)).sum()
}

impl CompressionContext for Context {
    fn compress(&mut self, block: &[u8], out: &mut [u8]) -> Result<Compressed, CodecError> {
        let Context { tables, matcher, streams, coder } = self;
        streams.fill(block, matcher, tables)?;
        let mut header = HeaderWriter::new();
        let written = match (coder, &tables.codes) {
            (Some(coder), Some(codes)) => {
                write_coded(block.len(), streams, coder, codes, &mut header, out)?
            }
            _ => write_plain(streams, &mut header, out),
        };
        match written {
            Some(len) if len <= block.len() => Ok(Compressed::Len(len)),
            _ => Ok(write_literals(block, out)),
        }
    }

    fn bytes_held(&self) -> usize {
        let writer = self.coder.as_ref().map_or(0, |coder| coder.writer.heap_bytes());
        size_of::<Self>() + self.matcher.heap_bytes() + self.streams.heap_bytes() + writer
    }
}

/// Writes a block without coded streams. Returns `None` if it does not fit.
fn write_plain(streams: &Streams, header: &mut HeaderWriter, out: &mut [u8]) -> Option<usize> {
    header.counts(streams);
    let parts = PLAIN_ORDER.map(|stream| streams.get(stream));
    write(out, [header.bytes()].into_iter().chain(parts))
}

/// Writes a block whose streams may be coded.
fn write_coded(
    block_len: usize,
    streams: &Streams,
    coder: &mut Coder,
    codes: &Codes,
    header: &mut HeaderWriter,
    out: &mut [u8],
) -> Result<Option<usize>, CodecError> {
    let chosen = choose(streams, codes, coder.min_saving.divisor(block_len));
    if chosen == [None; 4] {
        return Ok(write_plain(streams, header, out));
    }
    let writer = &mut coder.writer;
    writer.begin((0..4).map(|stream| streams.get(stream).len()).sum())?;
    for (stream, table) in chosen.into_iter().enumerate() {
        let Some(table) = table else { continue };
        let xored = stream == LITERALS && table >= FIRST_XORED;
        let symbols = if xored { streams.xored() } else { streams.get(stream) };
        writer.encode(symbols, &codes.encoding[FIRST_TABLE[stream] + table]);
    }
    let lanes = writer.finish();
    header.coded(&chosen);
    header.counts(streams);
    header.tables(streams, &chosen);
    header.lanes(lanes);
    let plain = PLAIN_ORDER.into_iter().filter(|&stream| chosen[stream].is_none());
    let plain = plain.map(|stream| streams.get(stream));
    Ok(write(out, [header.bytes()].into_iter().chain(plain).chain(lanes)))
}

/// Writes a block that does not shrink.
fn write_literals(block: &[u8], out: &mut [u8]) -> Compressed {
    match write(out, [&[0; 4], block].into_iter()) {
        Some(len) => Compressed::Len(len),
        None => Compressed::DoesNotFit,
    }
}

/// Writes the parts one after the other. Returns their total length, or `None` if they do not fit.
#[inline]
fn write<'a>(out: &mut [u8], parts: impl Iterator<Item = &'a [u8]> + Clone) -> Option<usize> {
    let len = parts.clone().map(<[u8]>::len).sum();
    let mut rest = out.get_mut(..len)?;
    for part in parts {
        let place;
        (place, rest) = rest.split_at_mut(part.len());
        place.copy_from_slice(part);
    }
    Some(len)
}

/// The first bytes of a block.
struct HeaderWriter {
    bytes: [u8; MAX_HEADER],
    len: usize,
}

impl HeaderWriter {
    fn new() -> HeaderWriter {
        HeaderWriter { bytes: [0; MAX_HEADER], len: 1 }
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    fn add(&mut self, bytes: &[u8]) {
        self.bytes[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    fn add_number(&mut self, value: usize) {
        let (bytes, count) = encode_number(value);
        self.add(&bytes[..count]);
    }

    /// Adds the flags of the streams that are coded.
    fn coded(&mut self, tables: &choice::TableChoice) {
        for (stream, table) in tables.iter().enumerate() {
            self.bytes[0] |= u8::from(table.is_some()) << stream;
        }
    }

    fn counts(&mut self, streams: &Streams) {
        for stream in [TOKENS, OFFSETS, EXTENSIONS] {
            self.add_number(streams.get(stream).len());
        }
    }

    /// Adds the number of literals, which does not follow from the block's length when streams are
    /// coded, and then the tables.
    fn tables(&mut self, streams: &Streams, tables: &choice::TableChoice) {
        self.add_number(streams.get(LITERALS).len());
        let word = tables
            .iter()
            .zip(TABLE_SHIFT)
            .fold(0, |word, (table, shift)| word | (table.unwrap_or(0) as u16) << shift);
        self.add(&word.to_le_bytes());
    }

    /// Adds the lengths of all lanes but the last, as differences from a quarter of the total.
    fn lanes(&mut self, lanes: [&[u8]; LANES]) {
        let quarter = lanes.iter().map(|lane| lane.len()).sum::<usize>() / LANES;
        for lane in &lanes[..LANES - 1] {
            self.add_number(fold(lane.len().cast_signed() - quarter.cast_signed()));
        }
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("bytes_held", &self.bytes_held()).finish_non_exhaustive()
    }
}
