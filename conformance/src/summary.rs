//! The line that a suite prints when it runs.

use std::io::{self, Write};

/// Prints how many cases the suite `suite` of this kind has, and how many of them its back end can
/// run, in one line on the standard error.
///
/// We do not use `eprintln!`, because the test harness captures it, and the line should be seen in
/// every run.
pub(crate) fn print_summary(kind: &str, suite: &str, can_run: impl Iterator<Item = bool>) {
    let (mut all, mut run) = (0, 0);
    for can in can_run {
        all += 1;
        run += usize::from(can);
    }
    let line = format!("{kind} {suite}: {all} cases, {run} run, {} ignored\n", all - run);
    // An error here means that the line has no reader, which is no reason to fail.
    let _ = io::stderr().write_all(line.as_bytes());
}
