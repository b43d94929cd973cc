//! Encodes and decodes coded streams: symbols in four lanes of bits, decoded side by side.
//!
//! ```text
//!   symbol  0 1 2 3 4 5 6 7 ...        of each coded stream, one stream after the other
//!   lane    0 1 2 3 0 1 2 3 ...
//! ```
//!
//! There are four lanes because a code's length is known only after a look-up. While one lane waits
//! for that, the processor works on the others.

use zpool_core::compress::CodecError;

use crate::format::LANES;
use crate::heap::zeroed;
use crate::huffman::{DECODE_ENTRIES, MAX_BITS};

/// Symbols of a lane that one load of 8 bytes is sure to contain, even if up to 7 of its bits are
/// used already.
const ROUNDS: usize = (u64::BITS as usize - 7) / MAX_BITS as usize;

/// Reading positions of the lanes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lanes {
    /// In bits.
    at: [usize; LANES],
    /// In bytes.
    ends: [usize; LANES],
}

impl Lanes {
    /// Returns the positions of lanes of these lengths, the first of which begins at `start`.
    pub(crate) fn new(start: usize, lens: [usize; LANES]) -> Lanes {
        let (mut at, mut ends, mut end) = ([0; LANES], [0; LANES], start);
        for lane in 0..LANES {
            at[lane] = end * 8;
            end += lens[lane];
            ends[lane] = end;
        }
        Lanes { at, ends }
    }

    /// Decodes the symbols of a stream to `out`. Reads zeros beyond the end of `input`.
    #[inline(never)]
    pub(crate) fn decode(&mut self, input: &[u8], table: &[u16; DECODE_ENTRIES], out: &mut [u8]) {
        let mut at = self.at;
        let mut rounds = out.chunks_exact_mut(ROUNDS * LANES);
        for round in rounds.by_ref() {
            let mut bits = [0; LANES];
            for lane in 0..LANES {
                bits[lane] = load(input, at[lane]);
            }
            for symbols in round.chunks_exact_mut(LANES) {
                let mut four = 0;
                for lane in 0..LANES {
                    let entry = table[bits[lane] as usize % DECODE_ENTRIES];
                    bits[lane] >>= entry & 63;
                    four |= u32::from(entry >> 8) << (8 * lane);
                }
                symbols.copy_from_slice(&four.to_le_bytes());
            }
            for lane in 0..LANES {
                at[lane] += bits[lane].leading_zeros() as usize;
            }
        }
        let rest = rounds.into_remainder();
        if !rest.is_empty() {
            let mut bits = [0; LANES];
            for lane in 0..LANES {
                bits[lane] = load(input, at[lane]);
            }
            for symbols in rest.chunks_mut(LANES) {
                for (symbol, bits) in symbols.iter_mut().zip(&mut bits) {
                    let entry = table[*bits as usize % DECODE_ENTRIES];
                    *bits >>= entry & 63;
                    *symbol = (entry >> 8) as u8;
                }
            }
            for lane in 0..LANES {
                at[lane] += bits[lane].leading_zeros() as usize;
            }
        }
        self.at = at;
    }

    /// Checks that every lane was read to its end and not beyond.
    ///
    /// # Errors
    ///
    /// [`CodecError::Corrupt`].
    pub(crate) fn finish(&self) -> Result<(), CodecError> {
        let whole = self.at.iter().zip(self.ends).all(|(at, end)| at.div_ceil(8) == end);
        if whole { Ok(()) } else { Err(CodecError::Corrupt) }
    }
}

/// Loads the bits from a position on, with the highest bit set as a marker. The caller shifts bits
/// out, and the position of the marker then tells how many.
#[inline(always)]
fn load(input: &[u8], bit: usize) -> u64 {
    let at = bit / 8;
    let word = match input.get(at..).and_then(|rest| rest.first_chunk()) {
        Some(bytes) => u64::from_le_bytes(*bytes),
        None => last_bytes(input, at),
    };
    word >> (bit % 8) | 1 << 63
}

/// Loads eight bytes, some of them beyond the end.
#[cold]
fn last_bytes(input: &[u8], at: usize) -> u64 {
    let mut bytes = [0; 8];
    for (place, &byte) in bytes.iter_mut().zip(input.get(at..).unwrap_or_default()) {
        *place = byte;
    }
    u64::from_le_bytes(bytes)
}

/// Writes the lanes.
#[derive(Debug)]
pub(crate) struct LaneWriter {
    lanes: [Vec<u8>; LANES],
    len: [usize; LANES],
    /// The bits of each lane that are not written yet, and their number.
    bits: [(u64, u32); LANES],
    max_symbols: usize,
}

/// Bytes of a lane that are written at once.
const STEP: usize = 8;

impl LaneWriter {
    /// Makes a writer for blocks with up to `max_symbols` coded symbols.
    pub(crate) fn new(max_symbols: usize) -> Result<LaneWriter, CodecError> {
        // Each stream may give a lane one symbol more than its share.
        let lane = (max_symbols / LANES + 4) * MAX_BITS as usize / 8 + 2 * STEP;
        let mut lanes = [const { Vec::new() }; LANES];
        for place in &mut lanes {
            *place = zeroed(lane)?;
        }
        Ok(LaneWriter { lanes, len: [0; LANES], bits: [(0, 0); LANES], max_symbols })
    }

    /// Begins another block.
    ///
    /// # Errors
    ///
    /// [`CodecError::OutOfMemory`], if it needs more room.
    pub(crate) fn begin(&mut self, max_symbols: usize) -> Result<(), CodecError> {
        if max_symbols > self.max_symbols {
            *self = LaneWriter::new(max_symbols)?;
        }
        (self.len, self.bits) = ([0; LANES], [(0, 0); LANES]);
        Ok(())
    }

    /// Adds a stream.
    pub(crate) fn encode(&mut self, symbols: &[u8], table: &[u32; 256]) {
        for lane in 0..LANES {
            let (mut bits, mut count) = self.bits[lane];
            let (out, mut len) = (&mut self.lanes[lane][..], self.len[lane]);
            for round in symbols.chunks(ROUNDS * LANES) {
                for &symbol in round.iter().skip(lane).step_by(LANES) {
                    let code = table[usize::from(symbol)];
                    bits |= u64::from(code & 0xFFFF) << (count & 63);
                    count += code >> 16;
                }
                out[len..len + STEP].copy_from_slice(&bits.to_le_bytes());
                len += (count / 8) as usize;
                bits >>= count & 56;
                count %= 8;
            }
            (self.bits[lane], self.len[lane]) = ((bits, count), len);
        }
    }

    /// Ends the block after its last stream, and returns the lanes.
    pub(crate) fn finish(&mut self) -> [&[u8]; LANES] {
        for lane in 0..LANES {
            let (bits, count) = self.bits[lane];
            if count > 0 {
                self.lanes[lane][self.len[lane]] = bits as u8;
                self.len[lane] += 1;
            }
        }
        std::array::from_fn(|lane| &self.lanes[lane][..self.len[lane]])
    }

    /// Returns the bytes on the heap.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.lanes.iter().map(Vec::capacity).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::huffman::{fill_decoding, fill_encoding};

    /// Streams of every length modulo the number of lanes come back, with codes of all lengths.
    #[test]
    fn decode_encoded_streams_comes_back() {
        let mut lengths = [9; 256];
        (lengths[0], lengths[255]) = (1, 8);
        let (mut decoding, mut encoding) = ([0; DECODE_ENTRIES], [0; 256]);
        fill_decoding(&lengths, &mut decoding);
        fill_encoding(&lengths, &mut encoding);
        for len in (0..70).chain([1000, 4095]) {
            let first: Vec<u8> = (0..len).map(|i| (i * i % 256) as u8).collect();
            let second = vec![0; len / 3];
            let mut writer = LaneWriter::new(1).unwrap();
            writer.begin(first.len() + second.len()).unwrap();
            writer.encode(&first, &encoding);
            writer.encode(&second, &encoding);
            let written = writer.finish();
            let mut lanes = Lanes::new(0, written.map(<[u8]>::len));
            let input = written.concat();
            let (mut one, mut other) = (vec![1; first.len()], vec![1; second.len()]);
            lanes.decode(&input, &decoding, &mut one);
            lanes.decode(&input, &decoding, &mut other);
            assert!((one, other) == (first, second), "{len}");
            assert_eq!(lanes.finish(), Ok(()));
        }
    }

    #[test]
    fn lanes_read_too_far_or_too_little_are_refused() {
        let mut table = [0; DECODE_ENTRIES];
        fill_decoding(&[8; 256], &mut table);
        for (symbols, fine) in [(3, false), (4, true), (5, false), (400, false)] {
            let mut lanes = Lanes::new(0, [1; LANES]);
            lanes.decode(&[1, 2, 3, 4], &table, &mut vec![0; symbols]);
            assert_eq!(lanes.finish().is_ok(), fine, "{symbols} symbols");
        }
    }
}
