//! Chooses which streams of a block are coded, and with which tables.

use crate::format::{EXTENSIONS, FIRST_XORED, LITERALS, OFFSETS, PAGE, TOKENS};
use crate::streams::Streams;
use crate::tables::{Codes, GROUPS};

/// Streams shorter than this stay plain.
const SHORTEST: usize = 16;

/// The most symbols of a sample; longer streams are sampled. The sum of their code lengths fits 16
/// bits.
const SAMPLE: usize = 768;
/// Neighbouring symbols that a sample takes together.
const RUN: usize = 24;

/// The table of each coded stream, by its index among the tables of that stream; `None` for plain
/// ones.
pub(crate) type TableChoice = [Option<usize>; 4];

/// The divisors of the saving for which a stream is coded: 4 means that more than 1/4 of its bytes
/// are saved. Long blocks need more, because coding their streams saves less for its time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MinSaving {
    /// For blocks of up to a page.
    pub(crate) page_divisor: usize,
    /// For longer ones.
    pub(crate) long_divisor: usize,
}

impl MinSaving {
    pub(crate) fn divisor(&self, block_len: usize) -> usize {
        if block_len <= PAGE { self.page_divisor } else { self.long_divisor }
    }
}

/// Chooses the tables of a block's streams. A stream is coded if that saves more than
/// `1 / min_saving_divisor` of it.
pub(crate) fn choose(streams: &Streams, codes: &Codes, min_saving_divisor: usize) -> TableChoice {
    let pays = |(bits, table): (usize, usize), len: usize| {
        (len >= SHORTEST && bits.div_ceil(8) + len / min_saving_divisor < len).then_some(table)
    };
    let best = |stream: usize, group: usize| {
        let symbols = streams.get(stream);
        pays(cheapest_table(symbols, codes, group), symbols.len())
    };
    let plain = cheapest_table(streams.get(LITERALS), codes, 0);
    let (bits, table) = cheapest_table(streams.xored(), codes, 1);
    let literals = if bits < plain.0 { (bits, table + FIRST_XORED) } else { plain };
    let mut tables = [None; 4];
    tables[LITERALS] = pays(literals, streams.get(LITERALS).len());
    tables[TOKENS] = best(TOKENS, 2);
    tables[OFFSETS] = best(OFFSETS, 3);
    tables[EXTENSIONS] = best(EXTENSIONS, 4);
    tables
}

/// Returns the bits that the symbols take with the best table of a group, estimated from a sample,
/// and the index of that table.
fn cheapest_table(symbols: &[u8], codes: &Codes, group: usize) -> (usize, usize) {
    /// Every other byte of a word.
    const EVEN: u64 = 0x00FF_00FF_00FF_00FF;
    let lengths = &codes.lengths[group];
    let (mut even, mut odd, mut seen) = (0u64, 0u64, 0);
    let step = symbols.len() / SAMPLE + 1;
    for run in symbols.chunks(RUN).step_by(step) {
        // RUN lengths fit a byte: at most 240.
        let sums = run.iter().fold(0, |sum, &symbol| sum + lengths[usize::from(symbol)]);
        even += sums & EVEN;
        odd += sums >> 8 & EVEN;
        seen += run.len();
    }
    let bits = |table: usize| {
        let sums = if table.is_multiple_of(2) { even } else { odd };
        (sums >> (16 * (table / 2)) & 0xFFFF) as usize
    };
    let best = (0..GROUPS[group].1).map(|table| (bits(table), table)).min();
    let (bits, table) = best.expect("every group has tables");
    (if seen == symbols.len() { bits } else { bits * symbols.len() / seen }, table)
}
