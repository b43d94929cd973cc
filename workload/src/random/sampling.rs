//! Which blocks of a large input are looked at: short runs, spread over the whole of it.

use std::ops::Range;

use super::rng::Rng;

/// Blocks in a run. Neighbouring pages resemble each other, and what packs or deduplicates neighbours must see some.
pub const RUN_BLOCKS: usize = 16;

/// The same for every sample ever taken, so that two runs on one file see the same blocks.
const SEED: u64 = 1;

/// Chooses `limit` of `total` blocks: ranges of indices, ascending, without overlap, [`RUN_BLOCKS`] or fewer blocks each.
///
/// ```text
///     input   ├────────────┼────────────┼────────────┼────────────┤   as many strata as runs are wanted
///     sample      ▓▓           ▓▓                 ▓▓   ▓▓             one run at a random place of each
/// ```
///
/// All blocks when `limit >= total`. The number of blocks chosen is `limit`, less at most `RUN_BLOCKS - 1` (the last run of
/// the input may be a short one). The choice depends on `total` and `limit` only.
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

/// `part * whole / parts`, without overflow.
fn scale(part: usize, whole: usize, parts: usize) -> usize {
    (part as u128 * whole as u128 / parts as u128) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_taken_when_it_fits() {
        for total in [0, 1, 15, 16, 17, 1000] {
            let runs = sample_runs(total, total);
            let blocks: Vec<usize> = runs.into_iter().flatten().collect();
            assert_eq!(blocks, (0..total).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_sample_is_ordered_without_overlap_and_of_the_size_asked_for() {
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

    #[test]
    fn a_sample_reaches_every_part_of_the_input() {
        let total = 100_000;
        let runs = sample_runs(total, 1600);
        for part in 0..10 {
            let span = part * total / 10..(part + 1) * total / 10;
            let inside: usize =
                runs.iter().filter(|r| span.contains(&r.start)).map(ExactSizeIterator::len).sum();
            assert!((100..=220).contains(&inside), "part {part}: {inside}");
        }
    }

    #[test]
    fn the_choice_is_the_same_each_time() {
        assert_eq!(sample_runs(5000, 800), sample_runs(5000, 800));
    }
}
