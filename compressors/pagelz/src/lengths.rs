//! Computes code lengths for known counts.

use crate::huffman::{Lengths, MAX_BITS};

/// A symbol, or several symbols that together get one more bit.
#[derive(Clone)]
struct Package {
    weight: u64,
    symbols: Vec<u8>,
}

/// Returns the lengths, none over [`MAX_BITS`], with which symbols of these weights take the fewest
/// bits, by the package-merge algorithm (Larmore and Hirschberg 1990).
///
/// A symbol of weight 0 gets a code as well, because a model also has to code what it was not
/// trained on.
pub(crate) fn optimal_lengths(weights: &[u64; 256]) -> Lengths {
    let mut symbols: Vec<Package> = (0..=u8::MAX)
        .map(|symbol| Package { weight: weights[usize::from(symbol)], symbols: vec![symbol] })
        .collect();
    symbols.sort_by_key(|package| package.weight);
    let mut packages = symbols.clone();
    for _ in 1..MAX_BITS {
        let pairs = packages.chunks_exact(2).map(|pair| Package {
            weight: pair[0].weight + pair[1].weight,
            symbols: [&pair[0].symbols[..], &pair[1].symbols].concat(),
        });
        // Among equal weights, symbols come first. So a symbol that is taken at one length is taken
        // at all shorter ones.
        packages = symbols.iter().cloned().chain(pairs).collect();
        packages.sort_by_key(|package| package.weight);
    }
    let mut lengths = [0; 256];
    for package in &packages[..2 * lengths.len() - 2] {
        for &symbol in &package.symbols {
            lengths[usize::from(symbol)] += 1;
        }
    }
    lengths
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::huffman::is_complete;

    #[test]
    fn equal_weights_take_byte() {
        assert_eq!(optimal_lengths(&[1; 256]), [8; 256]);
        assert_eq!(optimal_lengths(&[0; 256]), [8; 256]);
    }

    #[test]
    fn any_weights_are_complete() {
        let mut steep = [0; 256];
        (0..40).for_each(|i| steep[i] = 1 << i);
        let slow: [u64; 256] = std::array::from_fn(|i| (i * i) as u64);
        for weights in [steep, slow] {
            let lengths = optimal_lengths(&weights);
            assert!(is_complete(&lengths));
            for (a, b) in (0..256).flat_map(|a| (0..256).map(move |b| (a, b))) {
                assert!(weights[a] <= weights[b] || lengths[a] <= lengths[b], "{a} {b}");
            }
        }
    }
}
