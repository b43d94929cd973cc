//! Compares pieces of work on a machine that drifts. They alternate, and only ratios within a round
//! count.

use std::time::Duration;

use super::clock::Elapsed;
use crate::report::Spread;

/// One of the things compared: a name, and work that returns how long its timed part took.
///
/// The work returns its own time, so that it can prepare and verify outside of the timed part.
/// [`clocked`](crate::clocked) measures a part.
pub struct Contestant<'a> {
    name: &'a str,
    work: Box<dyn FnMut() -> Elapsed + 'a>,
}

/// The time of each contestant in each round.
#[derive(Clone, Debug)]
pub struct Rounds {
    names: Vec<String>,
    /// `ns[contestant][round]`.
    ns: Vec<Vec<f64>>,
}

/// The times by both clocks.
#[derive(Clone, Debug)]
pub struct ByClock {
    /// By the time that the thread ran.
    pub cpu: Rounds,
    /// By the wall clock.
    pub wall: Rounds,
}

impl<'a> Contestant<'a> {
    /// Names `work`, which is called once per round.
    pub fn new(name: &'a str, work: impl FnMut() -> Elapsed + 'a) -> Self {
        Self { name, work: Box::new(work) }
    }
}

impl std::fmt::Debug for Contestant<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Contestant").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Runs every contestant once per round, forwards and backwards in alternate rounds (`A B`, `B A`,
/// `A B`, …). Neither the drift of the machine nor what one contestant leaves in the caches for the
/// next then favors one of them.
///
/// A round before the first is not counted. It faults memory in and trains the branch predictors.
///
/// # Panics
///
/// If `rounds` or `contestants` is empty. A panic of a contestant propagates.
pub fn alternate(rounds: usize, contestants: &mut [Contestant<'_>]) -> ByClock {
    assert!(rounds > 0 && !contestants.is_empty(), "there is nothing to compare");
    for contestant in contestants.iter_mut() {
        (contestant.work)();
    }
    let mut taken = vec![Vec::with_capacity(rounds); contestants.len()];
    let mut order: Vec<usize> = (0..contestants.len()).collect();
    for _ in 0..rounds {
        for &i in &order {
            taken[i].push((contestants[i].work)());
        }
        order.reverse();
    }
    ByClock::new(contestants.iter().map(|contestant| contestant.name), &taken)
}

impl ByClock {
    /// Converts `taken[contestant][round]`, for contestants of these names.
    pub(crate) fn new<'a>(names: impl Iterator<Item = &'a str>, taken: &[Vec<Elapsed>]) -> ByClock {
        let names: Vec<String> = names.map(str::to_owned).collect();
        let rounds = |clock: fn(&Elapsed) -> Duration| Rounds {
            names: names.clone(),
            ns: taken
                .iter()
                .map(|rounds| rounds.iter().map(|took| clock(took).as_nanos() as f64).collect())
                .collect(),
        };
        ByClock { cpu: rounds(|took| took.cpu), wall: rounds(|took| took.wall) }
    }
}

impl Rounds {
    /// Returns the contestants' names, in their order.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Returns the nanoseconds per round of contestant `i`.
    ///
    /// # Panics
    ///
    /// If there is no contestant `i`.
    pub fn ns(&self, i: usize) -> Spread {
        spread(self.ns[i].iter().copied())
    }

    /// Returns the time of contestant `i` over that of contestant `base`, round by round. Below 1,
    /// `i` is faster.
    ///
    /// If `base` took no measurable time in a round, it counts as 1 ns.
    ///
    /// # Panics
    ///
    /// If there is no contestant `i` or `base`.
    pub fn ratio(&self, i: usize, base: usize) -> Spread {
        spread(self.ns[i].iter().zip(&self.ns[base]).map(|(time, base)| time / base.max(1.0)))
    }
}

fn spread(values: impl Iterator<Item = f64>) -> Spread {
    Spread::of(values).expect("there is at least one round and every time is a number")
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    fn ns(ns: u64) -> Elapsed {
        let cpu = Duration::from_nanos(ns);
        Elapsed { cpu, wall: 7 * cpu }
    }

    /// Contestants alternate forwards and backwards, and the first round is not counted.
    #[test]
    fn first_round_is_not_counted() {
        let turns = RefCell::new(String::new());
        let turn = |c: char| {
            turns.borrow_mut().push(c);
            ns(1)
        };
        let mut contestants = [
            Contestant::new("a", || turn('a')),
            Contestant::new("b", || turn('b')),
            Contestant::new("c", || turn('c')),
        ];
        let rounds = alternate(3, &mut contestants).cpu;
        drop(contestants);
        assert_eq!(rounds.names(), ["a", "b", "c"]);
        assert_eq!(turns.into_inner(), "abc abc cba abc".replace(' ', ""));
    }

    /// Ratios are taken within a round.
    #[test]
    fn ratios_are_within_a_round() {
        // In the second round the machine becomes four times slower, and the ratio of the two stays
        // 2 to 3.
        let scripted = |script: [u64; 4]| {
            let mut times = script.into_iter().map(ns);
            move || times.next().unwrap()
        };
        let mut contestants = [
            Contestant::new("base", scripted([9, 100, 400, 100])),
            Contestant::new("other", scripted([9, 200, 1200, 250])),
        ];
        let ByClock { cpu: rounds, wall } = alternate(3, &mut contestants);
        assert_eq!(rounds.ratio(1, 0), Spread { median: 2.5, low: 2.0, high: 3.0 });
        assert_eq!(rounds.ratio(0, 0), Spread { median: 1.0, low: 1.0, high: 1.0 });
        assert_eq!(rounds.ns(0), Spread { median: 100.0, low: 100.0, high: 400.0 });
        assert_eq!(wall.ns(0), Spread { median: 700.0, low: 700.0, high: 2800.0 });
    }

    /// A base that took no time gives a finite ratio.
    #[test]
    fn zero_base_gives_finite_ratio() {
        let mut contestants = [Contestant::new("zero", || ns(0)), Contestant::new("one", || ns(5))];
        assert_eq!(alternate(1, &mut contestants).cpu.ratio(1, 0).median, 5.0);
    }

    /// No contestant is a programmer error.
    #[test]
    #[should_panic(expected = "nothing to compare")]
    fn no_contestant_panics() {
        alternate(1, &mut []);
    }
}
