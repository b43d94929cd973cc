//! Ranks drawn by Zipf's law: few keys are hot, most are cold, as in the caches that a compressed
//! pool stands behind.

use super::rng::Rng;

/// Draws ranks `0..n`, rank `r` with probability proportional to `(r + 1)^-exponent`.
///
/// Rejection-inversion (Hörmann and Derflinger, "Rejection-inversion to generate variates from
/// monotone discrete distributions", 1996): exact, in constant memory. A table of sums would be
/// simpler, but a table of a million entries would push the measured program out of the cache.
#[derive(Clone, Debug)]
pub struct Zipf {
    n: usize,
    exponent: f64,
    /// The integral of the density up to the first rank, less the first rank's whole weight.
    low: f64,
    /// The integral up to `n + 1/2`.
    high: f64,
    /// If the distance between a rank and its inverse is below this, accept the rank without
    /// computing anything.
    sure: f64,
}

impl Zipf {
    /// The exponent of YCSB and of most published cache traces.
    pub const USUAL_EXPONENT: f64 = 0.99;

    /// Creates a sampler over `n` ranks with [`Self::USUAL_EXPONENT`].
    ///
    /// # Panics
    ///
    /// If `n` is zero.
    pub fn new(n: usize) -> Self {
        Self::with_exponent(n, Self::USUAL_EXPONENT)
    }

    /// Creates a sampler over `n` ranks.
    ///
    /// # Panics
    ///
    /// If `n` is zero, or `exponent` is not a positive finite number.
    pub fn with_exponent(n: usize, exponent: f64) -> Self {
        assert!(n > 0, "there is no rank to draw from");
        assert!(exponent.is_finite() && exponent > 0.0, "the exponent of Zipf's law is positive");
        let sure =
            2.0 - inverse_integral(integral(2.5, exponent) - weight(2.0, exponent), exponent);
        Self {
            n,
            exponent,
            low: integral(1.5, exponent) - 1.0,
            high: integral(n as f64 + 0.5, exponent),
            sure,
        }
    }

    /// Draws a rank in `0..n`. Rank 0 is the hottest.
    pub fn sample(&self, rng: &mut Rng) -> usize {
        loop {
            let area = self.high + rng.unit() * (self.low - self.high);
            let x = inverse_integral(area, self.exponent);
            let rank = x.round().clamp(1.0, self.n as f64);
            if rank - x <= self.sure
                || area >= integral(rank + 0.5, self.exponent) - weight(rank, self.exponent)
            {
                return rank as usize - 1;
            }
        }
    }
}

/// Returns the unnormalised density at `x`: `x^-s`.
fn weight(x: f64, s: f64) -> f64 {
    (-s * x.ln()).exp()
}

/// Returns the integral of [`weight`] from 1 to `x`: `(x^(1-s) - 1) / (1-s)`, or `ln x` if `s` is
/// 1.
fn integral(x: f64, s: f64) -> f64 {
    let log = x.ln();
    let t = (1.0 - s) * log;
    // exp(t) - 1 loses every digit near t = 0; exp_m1 does not.
    if t == 0.0 { log } else { t.exp_m1() / t * log }
}

/// Returns the `x` for which [`integral`] is `area`.
fn inverse_integral(area: f64, s: f64) -> f64 {
    let t = (area * (1.0 - s)).max(-1.0);
    if t == 0.0 { area.exp() } else { (t.ln_1p() / t * area).exp() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frequencies(zipf: &Zipf, draws: usize) -> Vec<f64> {
        let mut rng = Rng::new(11);
        let mut counts = vec![0_usize; zipf.n];
        for _ in 0..draws {
            counts[zipf.sample(&mut rng)] += 1;
        }
        counts.iter().map(|&c| c as f64 / draws as f64).collect()
    }

    #[test]
    fn frequencies_follow_the_law() {
        for (n, exponent) in [(1000, 0.99), (50, 1.0), (50, 0.5), (20, 2.0)] {
            let found = frequencies(&Zipf::with_exponent(n, exponent), 400_000);
            let total: f64 = (1..=n).map(|k| (k as f64).powf(-exponent)).sum();
            for (rank, &share) in found.iter().enumerate().take(10) {
                let expected = ((rank + 1) as f64).powf(-exponent) / total;
                assert!(
                    (share / expected - 1.0).abs() < 0.06,
                    "n {n} s {exponent} rank {rank}: {share} {expected}"
                );
            }
            // The tail is compared as a whole, because its single ranks are too rare.
            let tail: f64 = found[n / 2..].iter().sum();
            let expected: f64 =
                (n / 2 + 1..=n).map(|k| (k as f64).powf(-exponent)).sum::<f64>() / total;
            assert!(
                (tail / expected - 1.0).abs() < 0.06,
                "n {n} s {exponent} tail: {tail} {expected}"
            );
        }
    }

    #[test]
    fn one_rank_is_always_drawn() {
        let mut rng = Rng::new(5);
        let zipf = Zipf::new(1);
        assert!((0..1000).all(|_| zipf.sample(&mut rng) == 0));
    }

    /// No rank is a programmer error.
    #[test]
    #[should_panic(expected = "no rank")]
    fn no_rank_panics() {
        Zipf::new(0);
    }
}
