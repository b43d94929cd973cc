//! Tests that need a process of their own.

use std::process::Command;

/// Runs the test `test` of this program again, alone in a child process in which the environment
/// variable `variable` has the value `value`. Returns its standard output, and copies its standard
/// error to this process's.
///
/// The test itself asks for the variable to find out that it is the child.
///
/// # Panics
///
/// If the child cannot be started, or fails. The message has what it printed.
pub fn run_in_child(test: &str, variable: &str, value: &str) -> String {
    let program = std::env::current_exe().expect("a program has a path");
    let child = Command::new(program)
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(variable, value)
        .output()
        .expect("a child process starts");
    let [out, err] =
        [child.stdout, child.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(child.status.success(), "{test}, {value}: {}\n{out}\n{err}", child.status);
    eprint!("{err}");
    out
}

/// Runs the test `test` again, alone in a child process. Returns true in the child.
///
/// # Panics
///
/// As [`run_in_child`].
pub fn in_child(test: &str) -> bool {
    const VARIABLE: &str = "ZPOOL_TEST_CHILD";
    let is_child = std::env::var_os(VARIABLE).is_some();
    if !is_child {
        run_in_child(test, VARIABLE, "1");
    }
    is_child
}

#[cfg(test)]
mod tests {
    use super::*;

    const VARIABLE: &str = "ZPOOL_TESTING_CHILD";

    /// The parent reads what the child printed, and a child that fails is a panic.
    #[test]
    fn child_output_is_returned() {
        const TEST: &str = "child::tests::child_output_is_returned";
        match std::env::var(VARIABLE).as_deref() {
            Ok("fails") => panic!("on purpose"),
            Ok(value) => println!("\nthe value is {value}"),
            Err(_) => {
                let out = run_in_child(TEST, VARIABLE, "7");
                assert!(out.lines().any(|line| line == "the value is 7"), "{out}");
                let failed = std::panic::catch_unwind(|| run_in_child(TEST, VARIABLE, "fails"));
                assert!(failed.is_err(), "a failure of the child fails the parent");
            }
        }
    }
}
