//! Finds the capacity at which a cache has as many resident bytes as another one.

use benches::Failure;
use workload::Pages;

use crate::run::{CacheRun, RunResult};

/// A deviation that is close enough: two runs of one cache differ by more.
const TOLERANCE: f64 = 0.01;

/// The most runs of a search, which then takes the closest.
const RUNS: usize = 6;

/// Returns `run` with the capacity whose resident bytes come closest to `target`.
pub(crate) fn calibrated<'a>(
    run: CacheRun<'a>,
    target: f64,
    pages: &Pages,
) -> Result<CacheRun<'a>, Failure> {
    let measure = |capacity| {
        let run = CacheRun { capacity, ..run.clone() };
        run.start(pages).map(|RunResult { resident_bytes, .. }| resident_bytes)
    };
    let capacity = closest_capacity(target, measure)?;
    Ok(CacheRun { capacity, ..run })
}

/// Searches by proportion, because the resident bytes of a cache are nearly its capacity times a
/// factor, plus a constant that is small.
fn closest_capacity(
    target: f64,
    mut resident_at: impl FnMut(u64) -> Result<f64, Failure>,
) -> Result<u64, Failure> {
    let off = |resident: f64| (resident / target - 1.0).abs();
    let mut capacity = target;
    let mut best = (f64::INFINITY, target as u64);
    for _ in 0..RUNS {
        let resident = resident_at(capacity as u64)?;
        if off(resident) < best.0 {
            best = (off(resident), capacity as u64);
        }
        if off(resident) <= TOLERANCE {
            break;
        }
        if resident <= 0.0 {
            return Err("a cache grew by no resident bytes; is /proc that of Linux?".into());
        }
        capacity *= target / resident;
    }
    Ok(best.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A factor and a constant are found within the tolerance.
    #[test]
    fn search_finds_the_capacity() {
        let resident = |capacity: u64| 1.3 * capacity as f64 + 2e6;
        let found = closest_capacity(32e6, |capacity| Ok(resident(capacity))).unwrap();
        assert!((resident(found) / 32e6 - 1.0).abs() <= TOLERANCE, "{found}");
    }

    /// If no run comes close, the closest one counts.
    #[test]
    fn search_takes_the_closest() {
        let mut runs = vec![];
        let found = closest_capacity(100.0, |capacity| {
            runs.push(capacity);
            Ok(if runs.len() == 2 { 95.0 } else { 120.0 })
        });
        assert_eq!((found.unwrap(), runs.len()), (runs[1], RUNS));
        assert!(closest_capacity(100.0, |_| Ok(-1.0)).is_err());
    }
}
