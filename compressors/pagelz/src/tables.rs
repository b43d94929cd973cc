//! The tables of a model, for both directions.

use std::sync::Arc;

use crate::format::{
    ALL_TABLES, BOTH, ENTRY_LITERALS, ENTRY_MATCH, FEW_LITERALS, FIRST_ENTRY, MIN_MATCH,
    MIN_OFFSET, OffsetKind, WORD,
};
use crate::huffman::{DECODE_ENTRIES, fill_decoding, fill_encoding};
use crate::model::Model;
use crate::sequence::Needs;

/// The parts of a token's meaning that the copy loop needs.
///
/// An offset is `(last & keep) + (next bytes & mask) * factor + bias`, a length
/// `base + (next byte & more)`: there is no branch, because it could not be predicted from the
/// tokens before.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub(crate) struct TokenEntry {
    pub(crate) mask: u32,
    /// The sum of literals and match; [`SLOW`] if both are extensions, or if there is no such
    /// token.
    pub(crate) base: u32,
    /// -1, which is all ones, if the last offset stays.
    pub(crate) keep: i16,
    pub(crate) literals: u8,
    /// The number of bytes of the offset.
    pub(crate) size: u8,
    pub(crate) factor: u8,
    pub(crate) bias: u8,
    /// All ones if an extension byte counts.
    pub(crate) more: u8,
    pub(crate) extensions: u8,
}

impl TokenEntry {
    /// Returns whether the token has no length here: both of its lengths are extensions, or neither
    /// the format nor the model has it.
    pub(crate) fn is_slow(&self) -> bool {
        self.base == SLOW
    }

    /// Returns the offset of a sequence, from the next bytes of the offsets. It is at least 8.
    #[inline(always)]
    pub(crate) fn offset(&self, raw: u32, last: u32) -> u32 {
        (last & i32::from(self.keep).cast_unsigned())
            + (raw & self.mask) * u32::from(self.factor)
            + u32::from(self.bias)
    }

    /// Returns the length of a sequence, from the next extension.
    #[inline(always)]
    pub(crate) fn length(&self, more: u8) -> usize {
        self.base as usize + usize::from(more & self.more)
    }
}

/// Longer than any block that the fast loop takes, so such a token always fails its check of the
/// end and is handled apart.
pub(crate) const SLOW: u32 = 1 << 31;

/// All tables of a model.
#[derive(Debug)]
pub(crate) struct Tables {
    /// For blocks of up to 64 KiB, and for longer ones.
    pub(crate) entries: [[TokenEntry; 256]; 2],
    pub(crate) needs: [[Needs; 256]; 2],
    /// The token of each kind, number of literals and match length, by [`token_index`]; 0 if there
    /// is no such entry in the codebook.
    pub(crate) tokens: [u8; TOKEN_PLACES],
    /// `None` at a level that codes no stream.
    pub(crate) codes: Option<Box<Codes>>,
}

/// Tables of the streams' codes.
#[derive(Debug)]
pub(crate) struct Codes {
    pub(crate) decoding: [[u16; DECODE_ENTRIES]; ALL_TABLES],
    pub(crate) encoding: [[u32; 256]; ALL_TABLES],
    /// For each group of up to 8 tables and each symbol, the lengths of its codes, one byte per
    /// table.
    pub(crate) lengths: [[u64; 256]; 5],
}

const LENGTHS_PER_KIND: usize = ENTRY_MATCH - MIN_MATCH;
pub(crate) const TOKEN_PLACES: usize = OffsetKind::ALL.len() * ENTRY_LITERALS * LENGTHS_PER_KIND;

/// Returns the index of a codebook entry's token in [`Tables::tokens`]. The lengths must be within
/// its bounds.
#[inline(always)]
pub(crate) fn token_index(kind: OffsetKind, literals: usize, length: usize) -> usize {
    (kind as usize * ENTRY_LITERALS + literals) * LENGTHS_PER_KIND + (length - MIN_MATCH)
}

/// The groups of tables whose code lengths one look-up returns: first table and number.
pub(crate) const GROUPS: [(usize, usize); 5] = [(0, 8), (8, 8), (16, 4), (20, 4), (24, 4)];

impl Tables {
    /// Makes the tables of a model, with those of its codes if `coded`.
    pub(crate) fn new(model: &Model, coded: bool) -> Arc<Tables> {
        let entries = [entries(model, 2), entries(model, 3)];
        let mut tables = Tables {
            needs: entries.map(|entries| entries.map(|entry| Needs::of(&entry))),
            entries,
            tokens: [0; TOKEN_PLACES],
            codes: None,
        };
        for (token, entry) in (FIRST_ENTRY..).zip(&model.codebook) {
            let index = token_index(entry.kind, entry.literals.into(), entry.length.into());
            tables.tokens[index] = token as u8;
        }
        tables.codes = coded.then(|| codes(model));
        Arc::new(tables)
    }

    /// Returns the bytes that the tables hold.
    pub(crate) fn bytes_held(&self) -> usize {
        // The two counters of an `Arc` stand before it.
        let counters = 2 * size_of::<usize>();
        counters + size_of::<Self>() + self.codes.as_ref().map_or(0, |codes| size_of_val(&**codes))
    }
}

fn entries(model: &Model, far: u8) -> [TokenEntry; 256] {
    let entry = |kind: OffsetKind, base: u32, literals: usize, extensions: u8| {
        let (size, factor, bias) = match kind {
            OffsetKind::Repeat => (0, 0, 0),
            OffsetKind::Words => (1, WORD as u8, WORD as u8),
            OffsetKind::Near => (1, 1, MIN_OFFSET as u8),
            OffsetKind::Far => (far, 1, MIN_OFFSET as u8),
        };
        let more = if extensions > 0 { u8::MAX } else { 0 };
        let mask = (1 << (8 * u32::from(size))) - 1;
        let keep = if size == 0 { -1 } else { 0 };
        TokenEntry {
            mask,
            keep,
            base,
            literals: literals as u8,
            size,
            factor,
            bias,
            more,
            extensions,
        }
    };
    let mut entries = [entry(OffsetKind::Repeat, SLOW, 0, 0); 256];
    for kind in OffsetKind::ALL {
        for literals in 0..FEW_LITERALS {
            let base = (literals + MIN_MATCH) as u32;
            entries[kind as usize * FEW_LITERALS + literals] = entry(kind, base, literals, 1);
        }
        entries[BOTH + kind as usize] = entry(kind, SLOW, 0, 0);
    }
    for (place, known) in entries[FIRST_ENTRY..].iter_mut().zip(&model.codebook) {
        let base = u32::from(known.literals) + u32::from(known.length);
        *place = entry(known.kind, base, known.literals.into(), 0);
    }
    entries
}

fn codes(model: &Model) -> Box<Codes> {
    let mut codes = Box::new(Codes {
        decoding: [[0; DECODE_ENTRIES]; ALL_TABLES],
        encoding: [[0; 256]; ALL_TABLES],
        lengths: [[0; 256]; 5],
    });
    for (i, lengths) in model.lengths.iter().enumerate() {
        fill_decoding(lengths, &mut codes.decoding[i]);
        fill_encoding(lengths, &mut codes.encoding[i]);
    }
    for ((first, tables), packed) in GROUPS.into_iter().zip(&mut codes.lengths) {
        for (symbol, word) in packed.iter_mut().enumerate() {
            for table in 0..tables {
                *word |= u64::from(model.lengths[first + table][symbol]) << (8 * table);
            }
        }
    }
    codes
}
