//! Rows with file, name, value and range, which other programs compare with limits.

use serde::{Deserialize, Serialize};
use workload::{Figure, Report, Spread};

use crate::program::PrintedReport;

/// One named figure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FigureRow {
    /// The workload, or `-` for a figure that has only one.
    pub file: String,
    /// The figure. The unit is part of the name.
    pub name: String,
    /// The value that a limit applies to.
    pub value: f64,
    /// The lowest and the highest value seen, or `value` twice if there is only one.
    pub range: [f64; 2],
}

/// All rows, in the order in which they were measured.
#[derive(Debug, Default, Serialize)]
pub struct FigureRows {
    /// The rows.
    pub results: Vec<FigureRow>,
}

impl FigureRow {
    /// Creates a row of a figure that was taken once.
    pub fn once(file: &str, name: &str, value: f64) -> FigureRow {
        FigureRow::ranged(file, name, value, [value, value])
    }

    /// Creates a row of a median with its range.
    pub fn median(file: &str, name: &str, spread: Spread) -> FigureRow {
        FigureRow::ranged(file, name, spread.median, [spread.low, spread.high])
    }

    /// Creates a row of the highest of several values, with their range, for limits that hold at
    /// any time.
    pub fn highest(file: &str, name: &str, spread: Spread) -> FigureRow {
        FigureRow::ranged(file, name, spread.high, [spread.low, spread.high])
    }

    /// Creates a row of the lowest of several values, with their range.
    pub fn lowest(file: &str, name: &str, spread: Spread) -> FigureRow {
        FigureRow::ranged(file, name, spread.low, [spread.low, spread.high])
    }

    fn ranged(file: &str, name: &str, value: f64, range: [f64; 2]) -> FigureRow {
        FigureRow { file: file.to_owned(), name: name.to_owned(), value, range }
    }
}

impl FigureRows {
    /// Adds the figures of a file's report.
    pub fn add(&mut self, file: &str, report: Report) {
        let row = |Figure { name, value, low, high, .. }: Figure| {
            FigureRow::ranged(file, &name, value, [low, high])
        };
        self.results.extend(report.results.into_iter().map(row));
    }
}

impl PrintedReport for FigureRows {
    fn table(&self) -> String {
        let width =
            |text: fn(&FigureRow) -> &str| self.results.iter().map(|row| text(row).len()).max();
        let files = width(|row| &row.file).unwrap_or(0);
        let names = width(|row| &row.name).unwrap_or(0);
        let line = |FigureRow { file, name, value, range: [low, high] }: &FigureRow| {
            format!("{file:files$}  {name:names$} {value:16.3} ({low:.3} to {high:.3})\n")
        };
        self.results.iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Other programs read this form, so its names and their order stay.
    #[test]
    fn rows_print_as_one_json_object() {
        let spread = Spread { median: 2.0, low: 1.5, high: 4.0 };
        let results =
            vec![FigureRow::once("-", "a_bytes", 1.0), FigureRow::median("1m", "b", spread)];
        let rows = FigureRows { results };
        assert_eq!(
            serde_json::to_string(&rows).unwrap(),
            concat!(
                r#"{"results":[{"file":"-","name":"a_bytes","value":1.0,"range":[1.0,1.0]},"#,
                r#"{"file":"1m","name":"b","value":2.0,"range":[1.5,4.0]}]}"#
            )
        );
    }

    /// A row of the highest or lowest value keeps the whole range.
    #[test]
    fn extreme_row_keeps_range() {
        let spread = Spread { median: 2.0, low: 1.5, high: 4.0 };
        let (highest, lowest) =
            (FigureRow::highest("-", "a", spread), FigureRow::lowest("-", "a", spread));
        assert_eq!((highest.value, highest.range), (4.0, [1.5, 4.0]));
        assert_eq!((lowest.value, lowest.range), (1.5, [1.5, 4.0]));
    }

    #[test]
    fn table_aligns_files_and_names() {
        let results =
            vec![FigureRow::once("-", "short", 1.0), FigureRow::once("10m", "longer", 2.5)];
        let table = FigureRows { results }.table();
        let expected = concat!(
            "-    short             1.000 (1.000 to 1.000)\n",
            "10m  longer            2.500 (2.500 to 2.500)\n",
        );
        assert_eq!(table, expected);
    }
}
