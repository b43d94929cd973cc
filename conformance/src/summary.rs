//! What a suite says of itself when it runs.

use std::io::{self, Write};

/// Says how many cases the suite `suite` of this kind has, and how many of them its back end can run: one line on standard error.
///
/// Not with `eprintln!`, which the test harness keeps to itself: how much was tried should be seen in every run.
pub(crate) fn print_summary(kind: &str, suite: &str, can_run: impl Iterator<Item = bool>) {
    let (mut all, mut run) = (0, 0);
    for can in can_run {
        all += 1;
        run += usize::from(can);
    }
    let line = format!("{kind} {suite}: {all} cases, {run} run, {} ignored\n", all - run);
    // Nobody reads it: no reason to fail.
    let _ = io::stderr().write_all(line.as_bytes());
}
