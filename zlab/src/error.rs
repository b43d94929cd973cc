//! The reason why a command has no result: one line on the standard error and an exit code.

use std::process::ExitCode;

/// A message of one line, and the code to exit with.
#[derive(Debug)]
pub(crate) struct Failure {
    message: String,
    code: u8,
}

impl Failure {
    /// Creates a failure of the input or the machine, with exit code 2.
    pub(crate) fn new(message: impl Into<String>) -> Failure {
        Failure { message: message.into(), code: 2 }
    }

    /// Creates a failure of the pools, with exit code 1.
    pub(crate) fn broken(message: impl Into<String>) -> Failure {
        Failure { message: message.into(), code: 1 }
    }

    /// Returns the message in one line.
    pub(crate) fn message(&self) -> String {
        one_line(&self.message)
    }

    /// Prints the message on the standard error and returns the exit code.
    pub(crate) fn report(self) -> ExitCode {
        eprintln!("zlab: {}", self.message());
        ExitCode::from(self.code)
    }
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Failure {
        Failure::new(error.to_string())
    }
}

/// Joins the lines of `text` and replaces control characters, because a part of it may be input of
/// the user.
pub(crate) fn one_line(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines.join(" ").replace(char::is_control, "?")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_message_becomes_one_line() {
        assert_eq!(one_line("a\n\n  b\r\n\x1b[1mc"), "a b ?[1mc");
        assert_eq!(Failure::from(std::fmt::Error).message(), std::fmt::Error.to_string());
    }
}
