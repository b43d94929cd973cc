//! Samples a large input: short runs of blocks, spread over all of it.

use std::ops::Range;

use super::rng::Rng;

/// Blocks per run. Neighbouring pages resemble each other, and a tool that packs or deduplicates
/// neighbours must see some.
pub const RUN_BLOCKS: usize = 16;

/// A constant, so that two runs of a program on one file see the same blocks.
const SEED: u64 = 1;

/// Chooses `limit` of `total` blocks. Returns ranges of indices, ascending and without overlap,
/// each of at most [`RUN_BLOCKS`] blocks.
///
/// ```text
///     input   ├────────────┼────────────┼────────────┼────────────┤   one stratum per run
///     sample      ▓▓           ▓▓                 ▓▓   ▓▓             at a random place of it
/// ```
///
/// If `limit >= total`, all blocks are chosen. Otherwise up to `RUN_BLOCKS - 1` fewer than `limit`
/// may be chosen, because the last run of the input can be short. The choice depends on `total` and
/// `limit` only.
pub fn sample_runs(total: usize, limit: usize) -> Vec<Range<usize>> {
    if limit >= total {
        return (0..total).step_by(RUN_BLOCKS).map(|at| at..(at + RUN_BLOCKS).min(total)).collect();
    }
    let runs = total.div_ceil(RUN_BLOCKS);
    let wanted = limit.div_ceil(RUN_BLOCKS);
    let mut rng = Rng::new(SEED);
    let mut left = limit;
    (0..wanted)
        .map(|stratum| {
            let first = scale(stratum, runs, wanted);
            let end = scale(stratum + 1, runs, wanted);
            let at = (first + rng.below(end - first)) * RUN_BLOCKS;
            let blocks = RUN_BLOCKS.min(total - at).min(left);
            left -= blocks;
            at..at + blocks
        })
        .filter(|run| !run.is_empty())
        .collect()
}

/// Returns `part * whole / parts` without overflow.
fn scale(part: usize, whole: usize, parts: usize) -> usize {
    (part as u128 * whole as u128 / parts as u128) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An input within the limit is taken whole.
    #[test]
    fn small_input_is_taken_whole() {
        for total in [0, 1, 15, 16, 17, 1000] {
            let runs = sample_runs(total, total);
            let blocks: Vec<usize> = runs.into_iter().flatten().collect();
            assert_eq!(blocks, (0..total).collect::<Vec<_>>());
        }
    }

    /// A sample is ordered and without overlap, and has the size that was asked for.
    #[test]
    fn sample_is_ordered_and_of_size() {
        for total in [2, 17, 100, 1000, 12_345] {
            for limit in [0, 1, 15, 16, 17, 99, 333, 999, total - 1] {
                if limit >= total {
                    continue;
                }
                let runs = sample_runs(total, limit);
                let blocks: usize = runs.iter().map(ExactSizeIterator::len).sum();
                assert!(blocks <= limit && blocks + RUN_BLOCKS > limit, "{total} {limit} {blocks}");
                assert!(runs.windows(2).all(|pair| pair[0].end <= pair[1].start));
                assert!(
                    runs.iter()
                        .all(|run| run.end <= total && !run.is_empty() && run.len() <= RUN_BLOCKS)
                );
            }
        }
    }

    /// A sample reaches every part of the input.
    #[test]
    fn sample_reaches_every_part() {
        let total = 100_000;
        let runs = sample_runs(total, 1600);
        for part in 0..10 {
            let span = part * total / 10..(part + 1) * total / 10;
            let inside: usize =
                runs.iter().filter(|r| span.contains(&r.start)).map(ExactSizeIterator::len).sum();
            assert!((100..=220).contains(&inside), "part {part}: {inside}");
        }
    }

    /// The choice is the same each time.
    #[test]
    fn sample_is_repeatable() {
        assert_eq!(sample_runs(5000, 800), sample_runs(5000, 800));
    }
}
