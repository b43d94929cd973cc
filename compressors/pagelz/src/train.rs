//! Trains a model on blocks.
//!
//! ```text
//!   blocks ─► sequences ─► which (kind, literals, length) save most ─► codebook
//!   blocks ─► streams, with that codebook ─► a histogram per block ─► clusters ─► a table each
//! ```
//!
//! A model depends on its blocks alone, not on the machine: all arithmetic is in whole numbers.

use std::collections::BTreeMap;

use zpool_core::might_block;

use crate::clusters::{SymbolCounts, best, cluster};
use crate::format::{
    ENTRY_LITERALS, ENTRY_MATCH, EXTENSIONS, FEW_LITERALS, FIRST_OFFSET, FIRST_XORED, LITERALS,
    MAX_ENTRIES, OFFSETS, OffsetKind, TABLES_PER_STREAM, TOKENS,
};
use crate::huffman::Lengths;
use crate::judge::TrainError;
use crate::matcher::{Effort, Matcher};
use crate::model::{CodebookEntry, Model};
use crate::streams::Streams;
use crate::tables::Tables;

/// The fewest blocks to train on. Fewer say too little about other blocks.
pub const MIN_SAMPLES: usize = 64;

/// The most blocks to train on. More do not make a better model, so a larger sample is thinned
/// evenly.
const MAX_SAMPLES: usize = 12_000;

/// Rounds of dividing the blocks into those whose literals are xored and the others.
const DIVISIONS: usize = 3;

/// The weights of an entry per sequence. Without the entry, a sequence takes one or two extension
/// bytes more. The weights are a compromise between these bytes and the slower decoding of two.
const ONE_EXTENSION: u64 = 4;
const TWO_EXTENSIONS: u64 = 7;

/// Makes a model from samples of the blocks that will be stored. Returns its bytes, for a file for
/// `model=` or for [`PagelzCompressor::with_model`](crate::PagelzCompressor::with_model).
///
/// May take seconds. [`train_and_judge`](crate::train_and_judge) also says whether it pays.
///
/// # Errors
///
/// [`TrainError::TooFewSamples`] for fewer than [`MIN_SAMPLES`] blocks;
/// [`TrainError::OutOfMemory`].
pub fn train(blocks: &[&[u8]]) -> Result<Vec<u8>, TrainError> {
    might_block("training a model");
    if blocks.len() < MIN_SAMPLES {
        return Err(TrainError::TooFewSamples { samples: blocks.len(), needed: MIN_SAMPLES });
    }
    let step = blocks.len().div_ceil(MAX_SAMPLES);
    let blocks: Vec<&[u8]> = blocks.iter().copied().step_by(step).collect();
    let longest = blocks.iter().map(|block| block.len()).max().unwrap_or(0);
    let mut matcher = Matcher::new(longest, Effort::Greedy)?;
    let codebook = codebook(&blocks, &mut matcher);
    let lengths = tables(&blocks, &codebook, &mut matcher, longest)?;
    Ok(Model { codebook, lengths }.to_bytes())
}

/// Returns the entries that save the most, by a weight per sequence.
fn codebook(blocks: &[&[u8]], matcher: &mut Matcher) -> Vec<CodebookEntry> {
    let mut saved: BTreeMap<CodebookEntry, u64> = BTreeMap::new();
    for block in blocks {
        let mut last = FIRST_OFFSET;
        let found = matcher.find(block, |_, literals, offset, length| {
            let (kind, _) = OffsetKind::of(offset, last);
            last = offset;
            if literals < ENTRY_LITERALS && length < ENTRY_MATCH {
                let entry = CodebookEntry { kind, literals: literals as u8, length: length as u8 };
                let few = literals < FEW_LITERALS;
                *saved.entry(entry).or_default() +=
                    if few { ONE_EXTENSION } else { TWO_EXTENSIONS };
            }
        });
        found.expect("it was made for the longest block");
    }
    let mut entries: Vec<(CodebookEntry, u64)> = saved.into_iter().collect();
    entries.sort_by_key(|&(entry, saved)| (core::cmp::Reverse(saved), entry));
    entries.truncate(MAX_ENTRIES);
    entries.into_iter().map(|(entry, _)| entry).collect()
}

/// The histograms of each block: of plain and xored literals, tokens, offsets, extensions.
type Histograms = [Vec<SymbolCounts>; 5];

/// Returns the code lengths of all tables.
fn tables(
    blocks: &[&[u8]],
    codebook: &[CodebookEntry],
    matcher: &mut Matcher,
    longest: usize,
) -> Result<Vec<Lengths>, TrainError> {
    let model = Model { codebook: codebook.to_vec(), lengths: Vec::new() };
    let tables = Tables::new(&model, false);
    let mut streams = Streams::new(longest, true)?;
    let mut histograms = Histograms::default();
    for block in blocks {
        streams.fill(block, matcher, &tables)?;
        let of = [LITERALS, TOKENS, OFFSETS, EXTENSIONS].map(|stream| streams.get(stream));
        let [plain, tokens, offsets, extensions] = of;
        let of = [plain, streams.xored(), tokens, offsets, extensions];
        for (all, symbols) in histograms.iter_mut().zip(of) {
            all.push(SymbolCounts::of(symbols));
        }
    }
    let [plain, xored, tokens, offsets, extensions] = &histograms;
    let mut lengths = literal_tables(plain, xored);
    for (stream, histograms) in [(TOKENS, tokens), (OFFSETS, offsets), (EXTENSIONS, extensions)] {
        lengths.extend(cluster(&histograms.iter().collect::<Vec<_>>(), TABLES_PER_STREAM[stream]));
    }
    Ok(lengths)
}

/// Returns the tables for literals: half of them for blocks whose plain literals take fewer bits,
/// half for those whose xored ones do.
fn literal_tables(plain: &[SymbolCounts], xored: &[SymbolCounts]) -> Vec<Lengths> {
    let mut is_xored = vec![false; plain.len()];
    let mut first = true;
    let mut tables = (Vec::new(), Vec::new());
    for _ in 0..DIVISIONS {
        let side = |histograms: &[SymbolCounts], xored: bool| {
            let here = |&(i, _): &(usize, &SymbolCounts)| first || is_xored[i] == xored;
            let chosen: Vec<_> =
                histograms.iter().enumerate().filter(here).map(|(_, h)| h.clone()).collect();
            cluster(&chosen.iter().collect::<Vec<_>>(), FIRST_XORED)
        };
        tables = (side(plain, false), side(xored, true));
        first = false;
        for (i, is_xored) in is_xored.iter_mut().enumerate() {
            *is_xored = best(&xored[i], &tables.1).0 < best(&plain[i], &tables.0).0;
        }
    }
    tables.0.into_iter().chain(tables.1).collect()
}
