//! Prints reports to the standard output, and a progress bar to the standard error.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::error::Failure;

/// Writes `text` to the standard output. A reader that has gone away is no failure, because it has
/// read what it wanted.
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
    let text = if json { serde_json::to_string(report)? } else { table().trim_end().to_owned() };
    print(&format!("{text}\n"))
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

/// A progress bar, shown only on a terminal and only for long work.
#[derive(Debug)]
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// Creates a bar of `steps` steps. It is hidden unless the standard error is a terminal and the
    /// work is `long`.
    pub(crate) fn start(long: bool, steps: u64) -> Progress {
        if !long || !io::stderr().is_terminal() {
            return Progress(ProgressBar::hidden());
        }
        let bar = ProgressBar::new(steps);
        if let Ok(style) = ProgressStyle::with_template("{elapsed:>4} [{bar:30}] {msg}") {
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
