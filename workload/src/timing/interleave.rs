//! Compares passes over the same data in small parts, so that the drift of the machine hits all
//! contestants alike.

use super::alternate::ByClock;
use super::clock::Elapsed;

/// One of the things compared: a name, and work on one part of the data that returns how long its
/// timed part took.
///
/// Like a [`Contestant`](crate::Contestant), it returns its own time, so that it can verify outside
/// of it.
pub struct PartWork<'a> {
    name: &'a str,
    work: Box<dyn FnMut(usize) -> Elapsed + 'a>,
}

impl<'a> PartWork<'a> {
    /// Names `work`, which is called with each part once per round.
    pub fn new(name: &'a str, work: impl FnMut(usize) -> Elapsed + 'a) -> Self {
        Self { name, work: Box::new(work) }
    }
}

impl std::fmt::Debug for PartWork<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PartWork").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Makes every contestant go over the parts `0..parts` once per round. They alternate at each step.
///
/// ```text
///   parts            0  1  2  3  4  5  6  7
///   step 0           a        b        c          a, b, c are as far apart as can be, so that none
///   step 1              a        b        c       finds in the caches what another has just read;
///   step 2                 a  c     b             in every other step they go backwards
/// ```
///
/// A round before the first is run and not counted.
///
/// # Panics
///
/// If `rounds`, `parts` or `contestants` is empty. A panic of a contestant propagates.
pub fn interleave(rounds: usize, parts: usize, contestants: &mut [PartWork<'_>]) -> ByClock {
    assert!(rounds > 0 && parts > 0 && !contestants.is_empty(), "there is nothing to compare");
    let mut taken = vec![Vec::with_capacity(rounds); contestants.len()];
    for round in 0..=rounds {
        let sums = one_round(parts, contestants);
        if round > 0 {
            taken.iter_mut().zip(sums).for_each(|(taken, sum)| taken.push(sum));
        }
    }
    ByClock::new(contestants.iter().map(|contestant| contestant.name), &taken)
}

fn one_round(parts: usize, contestants: &mut [PartWork<'_>]) -> Vec<Elapsed> {
    let apart = (parts / contestants.len()).max(1);
    let mut sums = vec![Elapsed::default(); contestants.len()];
    let mut order: Vec<usize> = (0..contestants.len()).collect();
    for step in 0..parts {
        for &i in &order {
            sums[i] += (contestants[i].work)((step + i * apart) % parts);
        }
        order.reverse();
    }
    sums
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::time::Duration;

    use super::*;

    /// Every contestant gets every part once per round, and the first round is not counted.
    #[test]
    fn contestants_get_every_part() {
        let seen = RefCell::new(Vec::new());
        let took = |who: char, part: usize| {
            let mut seen = seen.borrow_mut();
            seen.push((who, part));
            // The first round is slow. Later, `b` takes twice as long as `a`.
            let ns = if seen.len() <= 8 { 1_000 } else { part as u64 + 1 };
            let cpu = Duration::from_nanos(if who == 'b' { 2 * ns } else { ns });
            Elapsed { cpu, wall: 3 * cpu }
        };
        let mut contestants = [
            PartWork::new("a", |part| took('a', part)),
            PartWork::new("b", |part| took('b', part)),
        ];
        let interleaved = interleave(3, 4, &mut contestants);
        drop(contestants);
        assert_eq!(interleaved.cpu.names(), ["a", "b"]);
        assert_eq!((interleaved.cpu.ratio(1, 0).low, interleaved.cpu.ratio(1, 0).high), (2.0, 2.0));
        assert_eq!((interleaved.cpu.ns(0).median, interleaved.wall.ns(0).median), (10.0, 30.0));
        let seen = seen.into_inner();
        let round = &seen[..8];
        assert_eq!(
            round,
            [('a', 0), ('b', 2), ('b', 3), ('a', 1), ('a', 2), ('b', 0), ('b', 1), ('a', 3)]
        );
        assert!(seen.chunks(8).all(|other| other == round) && seen.len() == 32);
    }

    /// With more contestants than parts, each still gets every part.
    #[test]
    fn more_contestants_than_parts() {
        let count = std::cell::Cell::new(0);
        let work = |part: usize| {
            count.set(count.get() + part + 1);
            Elapsed { cpu: Duration::from_nanos(1), wall: Duration::from_nanos(1) }
        };
        let mut contestants =
            [PartWork::new("a", work), PartWork::new("b", work), PartWork::new("c", work)];
        interleave(1, 2, &mut contestants);
        assert_eq!(count.get(), 2 * 3 * (1 + 2));
    }

    /// No part is a programmer error.
    #[test]
    #[should_panic(expected = "nothing to compare")]
    fn no_part_panics() {
        interleave(1, 0, &mut [PartWork::new("a", |_| Elapsed::default())]);
    }
}
