//! A logarithmic axis.

#[derive(Debug, Clone, Copy)]
pub(super) struct Scale {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Scale {
    /// Creates the axis from `ends.0` to `ends.1`, with a margin on both sides of the values.
    pub(super) fn around(values: impl Iterator<Item = f64>, ends: (f64, f64)) -> Scale {
        let (low, high) =
            values.fold((f64::INFINITY, 0.0_f64), |(low, high), v| (low.min(v), high.max(v)));
        Scale { low: low.max(1e-3) / 1.18, high: high.max(2e-3) * 1.18, from: ends.0, to: ends.1 }
    }

    /// Returns the place of a value.
    pub(super) fn at(&self, value: f64) -> f64 {
        let share = (value.max(1e-3) / self.low).ln() / (self.high / self.low).ln();
        self.from + share * (self.to - self.from)
    }

    /// Returns round numbers inside: 1, 2, 5, and if those are few, also 3, 4, 6 and 8.
    pub(super) fn ticks(&self) -> Vec<f64> {
        let of = |steps: &[u32]| -> Vec<f64> {
            let decades = -3..6;
            let all = decades.flat_map(|d| {
                steps
                    .iter()
                    .map(move |&s| (f64::from(s) * 10_f64.powi(d) * 1000.0).round() / 1000.0)
            });
            all.filter(|&tick| tick > self.low && tick < self.high).collect()
        };
        let few = of(&[1, 2, 5]);
        if few.len() >= 4 { few } else { of(&[1, 2, 3, 4, 5, 6, 8]) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_has_round_ticks_inside() {
        let scale = Scale::around([150.0, 420.0].into_iter(), (0.0, 100.0));
        assert_eq!(scale.ticks(), [200.0, 300.0, 400.0]);
        assert!(scale.ticks().iter().all(|&tick| (0.0..100.0).contains(&scale.at(tick))));
        assert!(Scale::around([0.4, 200.0].into_iter(), (0.0, 1.0)).ticks().contains(&0.5));
    }
}
