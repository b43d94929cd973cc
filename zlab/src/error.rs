//! Why there is no result: one line on stderr and an exit code.

use std::process::ExitCode;

/// A message of one line and the code to exit with.
#[derive(Debug)]
pub(crate) struct Failure {
    message: String,
    code: u8,
}

impl Failure {
    /// Bad input, or a machine that does not give what is needed: exit code 2.
    pub(crate) fn new(message: impl Into<String>) -> Failure {
        Failure { message: message.into(), code: 2 }
    }

    /// The pools did not keep their word: exit code 1.
    pub(crate) fn broken(message: impl Into<String>) -> Failure {
        Failure { message: message.into(), code: 1 }
    }

    /// The message, in one line whatever is in it.
    pub(crate) fn message(&self) -> String {
        one_line(&self.message)
    }

    /// Says so on stderr.
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

/// The lines of `text` joined, and what would steer a terminal taken out of it: part of it may be the user's input.
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
