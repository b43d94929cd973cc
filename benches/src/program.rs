//! The command line and the report that all programs here share.
//!
//! A new program, `src/bin/NAME/main.rs`, derives its command line, flattens [`Output`] into it,
//! implements [`PrintedReport`] for its result, and ends in [`exit`]:
//!
//! ```
//! use std::process::ExitCode;
//!
//! use benches::{Failure, Output, exit};
//! use clap::Parser;
//! use workload::{Figure, Report};
//!
//! /// Measures nothing.
//! #[derive(Parser)]
//! struct Options {
//!     #[command(flatten)]
//!     output: Output,
//! }
//!
//! fn main() -> ExitCode {
//!     let options = Options::parse();
//!     exit(measure().map(|report| options.output.print(&report)))
//! }
//!
//! fn measure() -> Result<Report, Failure> {
//!     let mut report = Report::default();
//!     report.push(Figure::exact("answer", 42.0, "ratio"));
//!     Ok(report)
//! }
//! ```
//!
//! A program that measures something in a process of its own starts [`child`] and looks for
//! [`child_task`] before it parses its command line, so that the child's heap is clean.

use std::error::Error;
use std::process::ExitCode;

use serde::Serialize;
use workload::Isolated;

/// The reason why a program has no figures.
pub type Failure = Box<dyn Error + Send + Sync>;

/// The first argument of a child that measures on behalf of the program.
const CHILD: &str = "--child";

/// The options that say how a report is printed.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Output {
    /// Print one JSON object on one line instead of a table
    #[arg(long)]
    pub json: bool,
}

/// A result of a program. Its JSON form is what other programs read, so its fields stay.
pub trait PrintedReport: Serialize {
    /// Returns the result as text for people, ending in a line feed.
    fn table(&self) -> String;
}

impl PrintedReport for workload::Report {
    fn table(&self) -> String {
        workload::Report::table(self)
    }
}

impl Output {
    /// Prints `report` to the standard output, in the form that the command line asks for.
    ///
    /// # Panics
    ///
    /// If the report has no JSON form, such as a map whose keys are not strings; or if the standard
    /// output is closed.
    pub fn print(&self, report: &impl PrintedReport) {
        if self.json {
            println!("{}", serde_json::to_string(report).expect("a report has a JSON form"));
        } else {
            print!("{}", report.table());
        }
    }
}

/// Reports a failure on the standard error and returns the program's exit code: 0 or 1.
///
/// A command line that is wrong ends the program with 2, and is reported by clap.
pub fn exit(outcome: Result<(), Failure>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Returns this program as a child process, yet to be started, that gets `task` from
/// [`child_task`].
pub fn child<S: AsRef<str>>(task: impl IntoIterator<Item = S>) -> Isolated {
    let task = task.into_iter().map(|word| word.as_ref().to_owned());
    Isolated::new().arg(CHILD).args(task)
}

/// Returns the task if this process is a [`child`].
pub fn child_task() -> Option<Vec<String>> {
    task_of(std::env::args().skip(1))
}

fn task_of(mut arguments: impl Iterator<Item = String>) -> Option<Vec<String>> {
    (arguments.next()? == CHILD).then(|| arguments.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(line: &str) -> Option<Vec<String>> {
        task_of(line.split_ascii_whitespace().map(str::to_owned))
    }

    #[test]
    fn task_follows_the_child_flag() {
        assert_eq!(task("--child loads --quick").unwrap(), ["loads", "--quick"]);
        assert_eq!(task("--child").unwrap(), [""; 0]);
        assert_eq!(task("file --child loads"), None);
        assert_eq!(task(""), None);
    }

    #[test]
    fn output_accepts_only_its_flag() {
        use clap::Parser;

        #[derive(Debug, Parser)]
        struct Options {
            #[command(flatten)]
            output: Output,
        }
        assert!(!Options::try_parse_from(["name"]).unwrap().output.json);
        assert!(Options::try_parse_from(["name", "--json"]).unwrap().output.json);
        assert!(Options::try_parse_from(["name", "--yaml"]).is_err());
    }
}
