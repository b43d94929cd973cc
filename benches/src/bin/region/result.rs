//! The figures of this program.

use std::collections::BTreeMap;

use benches::PrintedReport;
use serde::Serialize;
use workload::Spread;

use crate::contestant::Measured;

/// All figures by name, each with the values of its rounds. JSON: one object, from names to
/// medians, with null where the kernel's side cannot run.
#[derive(Debug, Default, Serialize)]
#[serde(into = "BTreeMap<String, Option<f64>>")]
pub(crate) struct Ratios {
    rounds: BTreeMap<String, Vec<f64>>,
    bytes_per_unit: f64,
    over_limit_bytes: usize,
    wrong_pages: usize,
}

impl Clone for Ratios {
    fn clone(&self) -> Self {
        Ratios { rounds: self.rounds.clone(), ..*self }
    }
}

impl Ratios {
    /// Adds the value of a round to a figure, or an unknown one.
    pub(crate) fn add(&mut self, name: &str, value: Option<f64>) {
        self.rounds.entry(name.to_owned()).or_default().extend(value);
    }

    /// Adds what is known of a region alone.
    pub(crate) fn add_region(&mut self, region: &Measured) {
        self.bytes_per_unit = self.bytes_per_unit.max(region.bytes_per_unit);
        self.over_limit_bytes = self.over_limit_bytes.max(region.over_limit_bytes);
        self.add_wrong(region.wrong_pages);
    }

    /// Adds pages with wrong contents.
    pub(crate) fn add_wrong(&mut self, pages: usize) {
        self.wrong_pages += pages;
    }

    fn figures(&self) -> impl Iterator<Item = (String, Option<Spread>)> {
        let exact = |value: f64| Spread::of([value]);
        let rounds = self
            .rounds
            .iter()
            .map(|(name, values)| (name.clone(), Spread::of(values.iter().copied())));
        rounds.chain([
            ("bytes_per_unit".to_owned(), exact(self.bytes_per_unit)),
            ("over_limit_bytes".to_owned(), exact(self.over_limit_bytes as f64)),
            ("wrong_pages".to_owned(), exact(self.wrong_pages as f64)),
        ])
    }
}

impl From<Ratios> for BTreeMap<String, Option<f64>> {
    fn from(ratios: Ratios) -> Self {
        ratios.figures().map(|(name, spread)| (name, spread.map(|spread| spread.median))).collect()
    }
}

impl PrintedReport for Ratios {
    fn table(&self) -> String {
        let line = |(name, spread): (String, Option<Spread>)| match spread {
            Some(Spread { median, low, high }) => {
                format!("{name:40} {median:12.3} ({low:.3} to {high:.3})\n")
            }
            None => format!("{name:40} not measured: the kernel is left out\n"),
        };
        self.figures().map(line).collect()
    }
}
