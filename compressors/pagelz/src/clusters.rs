//! Groups of blocks whose symbols are alike, and a code for each.

use crate::huffman::Lengths;
use crate::lengths::optimal_lengths;

/// Rounds of assigning blocks to codes and making a code from each group of blocks.
const ROUNDS: usize = 12;

/// The symbols that occur in a block, with their counts.
#[derive(Debug, Clone)]
pub(crate) struct SymbolCounts(Vec<(u8, u32)>);

impl SymbolCounts {
    pub(crate) fn of(symbols: &[u8]) -> SymbolCounts {
        let mut counts = [0u32; 256];
        symbols.iter().for_each(|&symbol| counts[usize::from(symbol)] += 1);
        let counts = (0..=u8::MAX).zip(counts).filter(|&(_, count)| count > 0);
        SymbolCounts(counts.collect())
    }

    fn total(&self) -> u64 {
        self.0.iter().map(|&(_, count)| u64::from(count)).sum()
    }

    /// Returns the bits that the symbols take with a code.
    fn bits(&self, lengths: &Lengths) -> u64 {
        let bits = |&(symbol, count): &(u8, u32)| {
            u64::from(count) * u64::from(lengths[usize::from(symbol)])
        };
        self.0.iter().map(bits).sum()
    }

    /// Returns the share of the most frequent symbol, in 1/1000, as a measure of how uneven the
    /// counts are.
    fn peak(&self) -> u64 {
        let most = self.0.iter().map(|&(_, count)| u64::from(count)).max().unwrap_or(0);
        1000 * most / self.total().max(1)
    }
}

/// Returns the fewest bits that the symbols take with one of the codes, and the index of that code.
pub(crate) fn best(histogram: &SymbolCounts, codes: &[Lengths]) -> (u64, usize) {
    let bits = codes.iter().enumerate().map(|(i, lengths)| (histogram.bits(lengths), i));
    bits.min().expect("there is a code")
}

/// Makes `count` codes, of which each block uses the best: k-means, with bits as the distance.
pub(crate) fn cluster(histograms: &[&SymbolCounts], count: usize) -> Vec<Lengths> {
    // The first clusters are cut from the blocks in the order of their unevenness, so they begin
    // apart.
    let mut order: Vec<&SymbolCounts> = histograms.to_vec();
    order.sort_by_key(|histogram| (histogram.peak(), histogram.total()));
    let part = |i: usize| i * order.len() / count;
    let mut codes: Vec<Lengths> =
        (0..count).map(|i| code_of(order[part(i)..part(i + 1)].iter().copied())).collect();
    for _ in 0..ROUNDS {
        let mut groups = vec![Vec::new(); count];
        for &histogram in histograms {
            groups[best(histogram, &codes).1].push(histogram);
        }
        codes = groups.into_iter().map(|group| code_of(group.into_iter())).collect();
    }
    codes
}

/// Returns the best code for the symbols of all these blocks together.
fn code_of<'a>(histograms: impl Iterator<Item = &'a SymbolCounts>) -> Lengths {
    /// A symbol counts once more per this many symbols of the blocks, and half a count more, so
    /// that the codes of symbols that never occur are not too long.
    const RARE: u64 = 50_000;
    let mut counts = [0u64; 256];
    for histogram in histograms {
        histogram.0.iter().for_each(|&(symbol, n)| counts[usize::from(symbol)] += u64::from(n));
    }
    let total: u64 = counts.iter().sum();
    optimal_lengths(&counts.map(|count| count * RARE + total + RARE / 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two kinds of blocks get a code each, which is shorter for their own symbols.
    #[test]
    fn cluster_two_kinds_get_codes() {
        let of = |symbols: &[u8]| SymbolCounts::of(&symbols.repeat(100));
        let histograms: Vec<_> =
            (0..40).map(|i| of(if i % 2 == 0 { b"abbb" } else { b"xyz." })).collect();
        let codes = cluster(&histograms.iter().collect::<Vec<_>>(), 2);
        let (one, other) = (best(&histograms[0], &codes), best(&histograms[1], &codes));
        assert_ne!(one.1, other.1);
        assert!(one.0 < 2 * 400 && other.0 < 3 * 400, "{one:?} {other:?}");
    }

    #[test]
    fn cluster_no_blocks_still_makes_codes() {
        assert_eq!(cluster(&[], 3), [[8; 256]; 3]);
    }
}
