//! Named values with their range, and the report that they make up.

mod units;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use units::{format_bytes, format_ns};

/// The median of some values, with the lowest and the highest.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// The median. Of an even number of values, the mean of the middle two.
    pub median: f64,
    /// The lowest value.
    pub low: f64,
    /// The highest value.
    pub high: f64,
}

/// One line of a report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// The name, such as `map_store_over_ours`.
    pub name: String,
    /// The value, or the median of several.
    pub value: f64,
    /// The lowest value seen, or `value` if there is only one.
    pub low: f64,
    /// The highest value seen.
    pub high: f64,
    /// The unit of all three: `ns`, `bytes`, `ratio`, `1/s`.
    pub unit: String,
}

/// All figures of one program run. Its `Display` form is one JSON object on one line:
/// `{"results":[{"name",...}]}`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The figures, in the order in which they were measured.
    pub results: Vec<Figure>,
}

impl Spread {
    /// Computes median and range of `values`. Returns `None` if there is no value, or if one is not
    /// a number.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        if values.is_empty() || values.iter().any(|v| v.is_nan()) {
            return None;
        }
        values.sort_unstable_by(f64::total_cmp);
        let middle = values.len() / 2;
        let median = match values.len() % 2 {
            1 => values[middle],
            _ => f64::midpoint(values[middle - 1], values[middle]),
        };
        Some(Self { median, low: values[0], high: values[values.len() - 1] })
    }

    /// Returns each value as a share of `whole`.
    #[must_use]
    pub fn over(self, whole: f64) -> Spread {
        Spread { median: self.median / whole, low: self.low / whole, high: self.high / whole }
    }

    /// Names these values, which makes them a line of a report.
    pub fn figure(self, name: impl Into<String>, unit: impl Into<String>) -> Figure {
        Figure {
            name: name.into(),
            value: self.median,
            low: self.low,
            high: self.high,
            unit: unit.into(),
        }
    }
}

impl Figure {
    /// Creates a line of a value that was taken once, such as a count of bytes, and so has no
    /// range.
    pub fn exact(name: impl Into<String>, value: f64, unit: impl Into<String>) -> Self {
        Spread { median: value, low: value, high: value }.figure(name, unit)
    }
}

impl Report {
    /// Adds a line.
    pub fn push(&mut self, figure: Figure) {
        self.results.push(figure);
    }

    /// Formats the figures for people, one per line, with their ranges.
    pub fn table(&self) -> String {
        let width = self.results.iter().map(|figure| figure.name.len()).max().unwrap_or(0);
        let line = |Figure { name, value, low, high, unit }: &Figure| {
            format!("{name:width$} {value:9.3} {unit:6} ({low:.3} to {high:.3})\n")
        };
        self.results.iter().map(line).collect()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The median is the middle value, or the mean of the middle two.
    #[test]
    fn median_of_odd_and_even() {
        assert_eq!(Spread::of([3.0, 1.0, 2.0]), Some(Spread { median: 2.0, low: 1.0, high: 3.0 }));
        assert_eq!(
            Spread::of([4.0, 1.0, 2.0, 3.0]),
            Some(Spread { median: 2.5, low: 1.0, high: 4.0 })
        );
        assert_eq!(Spread::of([7.0]), Some(Spread { median: 7.0, low: 7.0, high: 7.0 }));
    }

    /// A table has one figure per line, in columns.
    #[test]
    fn table_aligns_its_figures() {
        let mut report = Report::default();
        report.push(Figure::exact("short", 1.0, "ns"));
        report.push(Spread { median: 2.5, low: 2.0, high: 3.0 }.figure("longer", "ratio"));
        let table =
            "short      1.000 ns     (1.000 to 1.000)\nlonger     2.500 ratio  (2.000 to 3.000)\n";
        assert_eq!(report.table(), table);
    }

    /// A share has the range of the values.
    #[test]
    fn share_has_range_of_values() {
        let spread = Spread { median: 1.5, low: 1.0, high: 3.0 };
        assert_eq!(spread.over(2.0), Spread { median: 0.75, low: 0.5, high: 1.5 });
    }

    /// Without a value, and with one that is not a number, there is no median.
    #[test]
    fn no_value_has_no_median() {
        assert_eq!(Spread::of([]), None);
        assert_eq!(Spread::of([1.0, f64::NAN]), None);
    }

    /// A report prints as one JSON object on one line.
    #[test]
    fn report_prints_as_one_line() {
        let mut report = Report::default();
        report.push(Spread::of([1.0, 1.5, 1.25]).unwrap().figure("load / raw", "ratio"));
        report.push(Figure::exact("held", 4096.0, "bytes"));
        assert_eq!(
            report.to_string(),
            concat!(
                r#"{"results":[{"name":"load / raw","value":1.25,"#,
                r#""low":1.0,"high":1.5,"unit":"ratio"},"#,
                r#"{"name":"held","value":4096.0,"low":4096.0,"high":4096.0,"unit":"bytes"}]}"#
            )
        );
        assert_eq!(serde_json::from_str::<Report>(&report.to_string()).unwrap(), report);
    }
}
