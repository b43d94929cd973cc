//! Prints reports to the standard output, and a progress bar to the standard error.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::error::Failure;

/// Writes `text` to the standard output. A reader that has gone away is not a failure, because it
/// has read what it wanted.
pub(crate) fn print(text: &str) -> Result<ExitCode, Failure> {
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::new(format!("cannot write to stdout: {error}")))
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// Writes `report` as one line of JSON, or its table.
pub(crate) fn print_report(
    json: bool,
    report: &impl Serialize,
    table: impl FnOnce() -> String,
) -> Result<ExitCode, Failure> {
    print(&report_text(json, report, table)?)
}

/// Writes `report` to the standard error if the standard output has the command's output, and to
/// the standard output otherwise.
pub(crate) fn print_report_beside(
    output_is_stdout: bool,
    json: bool,
    report: &impl Serialize,
    table: impl FnOnce() -> String,
) -> Result<ExitCode, Failure> {
    if !output_is_stdout {
        return print_report(json, report, table);
    }
    // A reader that has gone away is not a failure, as in `print`.
    let _ = io::stderr().write_all(report_text(json, report, table)?.as_bytes());
    Ok(ExitCode::SUCCESS)
}

fn report_text(
    json: bool,
    report: &impl Serialize,
    table: impl FnOnce() -> String,
) -> Result<String, Failure> {
    let text = if json { serde_json::to_string(report)? } else { table().trim_end().to_owned() };
    Ok(if text.is_empty() { text } else { text + "\n" })
}

/// Formats nanoseconds as microseconds without the unit, in three or more digits.
pub(crate) fn in_us(ns: f64) -> String {
    let us = ns / 1000.0;
    let decimals = match us {
        us if us >= 99.95 => 0,
        us if us >= 9.995 => 1,
        _ => 2,
    };
    format!("{us:.decimals$}")
}

/// Creates a table without frames. The first `names` columns are text, the others numbers.
pub(crate) fn table(names: usize, header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.to_vec());
    for (i, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        column.set_cell_alignment(if i < names {
            CellAlignment::Left
        } else {
            CellAlignment::Right
        });
    }
    table
}

/// A progress bar, or a spinner for work of unknown length. Shown on a terminal only, and within
/// 1/5 of a second.
#[derive(Debug)]
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// Creates a bar of `steps` steps.
    pub(crate) fn start(steps: u64) -> Progress {
        Progress::shown(ProgressBar::new(steps), "{elapsed:>4} [{bar:30}] {msg}")
    }

    /// Creates a spinner for `what`.
    pub(crate) fn spinner(what: impl Into<String>) -> Progress {
        let progress = Progress::shown(ProgressBar::new_spinner(), "{elapsed:>4} {spinner} {msg}");
        progress.doing(what.into());
        progress
    }

    fn shown(bar: ProgressBar, template: &str) -> Progress {
        if !io::stderr().is_terminal() {
            return Progress(ProgressBar::hidden());
        }
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        Progress(bar)
    }

    /// Shows the work under way.
    pub(crate) fn doing(&self, what: String) {
        self.0.set_message(what);
    }

    /// Shows how many steps are done.
    pub(crate) fn done(&self, steps: u64) {
        self.0.set_position(steps);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn microseconds_have_three_digits() {
        let cases = [(0.0, "0.00"), (1700.0, "1.70"), (12_340.0, "12.3"), (2.5e6, "2500")];
        for (ns, text) in cases {
            assert_eq!(in_us(ns), text);
        }
    }
}
