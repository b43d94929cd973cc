//! A language of operations on a pool. Property tests make lists of them, failures print them, and
//! replay reads them.
//!
//! ```text
//!   insert 137 fill 5    137 bytes that only fill 5 makes
//!   read 3               compares the bytes of live object 3
//!   hold 3               the same, and keeps the guard
//!   release 0            drops guard 0
//!   exchange 0 with 4    the objects of two handles
//!   free 2               object 2
//!   compact 10           moves at most 10 objects; `compact all`
//!   reclaim 2            2 pages, from an owner that agrees
//!   trim
//!   switch zbud+lz4      stores only
//! ```
//!
//! ```text
//!   if this fails             list printed by     to run a list again
//!   a case of the suite       the test, shrunk    ZPOOL_ACTIONS=FILE cargo test random_actions
//!   a fuzz target             ci/fuzz.sh          the target, with the file as its argument
//!                                                 zlab replay FILE
//! ```
//!
//! Each line has one action. Empty lines and the text after a `#` are skipped. Numbers of objects
//! and guards are taken modulo their count, so every list is valid, even one that was cut short.
//! That is why a failing list can shrink.

use core::fmt;
use core::str::FromStr;

use proptest::prelude::{Just, Strategy, any};
use proptest::prop_oneof;

/// An operation on a [`Subject`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// Stores an object.
    Insert {
        /// The length in bytes. A subject takes it modulo its maximum.
        len: usize,
        /// The seed of the bytes.
        fill: u64,
    },
    /// Reads an object and compares it.
    Read {
        /// The number of the object among the live ones.
        nth: usize,
    },
    /// Reads an object and keeps the guard.
    Hold {
        /// The number of the object among the live ones.
        nth: usize,
    },
    /// Compares what a guard reads, and drops it.
    Release {
        /// The number of the guard among those kept.
        nth: usize,
    },
    /// Frees an object, whether or not guards hold it.
    Free {
        /// The number of the object among the live ones.
        nth: usize,
    },
    /// Exchanges the objects of two different handles, if the pool supports that.
    Exchange {
        /// The number of the object among the live ones.
        nth: usize,
        /// The number of the other object.
        with: usize,
    },
    /// Compacts the pool.
    Compact {
        /// The most objects moved.
        moves: usize,
    },
    /// Reclaims pages from an owner that gives up all objects it is asked for.
    Reclaim {
        /// The number of pages.
        pages: usize,
    },
    /// Releases memory that holds no object.
    Trim,
    /// Switches the current pool of a store. Has no effect on a pool.
    Switch {
        /// The spec of the new pool, as text.
        spec: String,
    },
}

/// A pool or a store that runs actions, and compares its state with the expected one after each.
pub trait Subject {
    /// Runs one action.
    ///
    /// # Errors
    ///
    /// A sentence that names the deviation.
    fn apply(&mut self, action: &Action) -> Result<(), String>;

    /// Ends a list of actions: compares and frees everything, and checks that nothing is left.
    ///
    /// # Errors
    ///
    /// See `apply`.
    fn finish(self) -> Result<(), String>;
}

/// Runs a list of actions on a subject.
///
/// # Errors
///
/// The first deviation, with its step.
pub fn run(actions: &[Action], mut subject: impl Subject) -> Result<(), RunError> {
    for (step, action) in actions.iter().enumerate() {
        subject.apply(action).map_err(|what| RunError {
            step,
            action: Some(action.clone()),
            what,
        })?;
    }
    subject.finish().map_err(|what| RunError { step: actions.len(), action: None, what })
}

/// Formats a list as text, one action per line.
pub fn to_text(actions: &[Action]) -> String {
    actions.iter().map(|action| format!("{action}\n")).collect()
}

/// Parses the text form of a list.
///
/// # Errors
///
/// [`ParseError`] with the number of the first line that is not an action.
pub fn from_text(text: &str) -> Result<Vec<Action>, ParseError> {
    let lines = text
        .lines()
        .enumerate()
        .map(|(i, line)| (i + 1, line.split('#').next().unwrap_or("").trim()));
    lines
        .filter(|(_, line)| !line.is_empty())
        .map(|(number, line)| {
            line.parse().map_err(|ParseError { text, .. }| ParseError { line: number, text })
        })
        .collect()
}

/// Makes random actions on a pool, in the proportions of a pool in use. They shrink to fewer,
/// shorter and smaller ones.
pub fn pool_action(max_len: usize) -> impl Strategy<Value = Action> {
    let nth = || 0usize..1000;
    // Lengths below and above 1/2 of the maximum, because those change how many objects share a
    // page.
    let len = prop_oneof![3 => 1..=max_len.min(64), 4 => 1..=max_len.div_ceil(2), 3 => 1..=max_len];
    prop_oneof![
        10 => (len, any::<u64>()).prop_map(|(len, fill)| Action::Insert { len, fill }),
        3 => nth().prop_map(|nth| Action::Read { nth }),
        2 => nth().prop_map(|nth| Action::Hold { nth }),
        2 => nth().prop_map(|nth| Action::Release { nth }),
        7 => nth().prop_map(|nth| Action::Free { nth }),
        3 => (nth(), nth()).prop_map(|(nth, with)| Action::Exchange { nth, with }),
        1 => prop_oneof![Just(usize::MAX), 0usize..20].prop_map(|moves| Action::Compact { moves }),
        1 => (0usize..4).prop_map(|pages| Action::Reclaim { pages }),
        1 => Just(Action::Trim),
    ]
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Insert { len, fill } => write!(f, "insert {len} fill {fill}"),
            Action::Read { nth } => write!(f, "read {nth}"),
            Action::Hold { nth } => write!(f, "hold {nth}"),
            Action::Release { nth } => write!(f, "release {nth}"),
            Action::Free { nth } => write!(f, "free {nth}"),
            Action::Exchange { nth, with } => write!(f, "exchange {nth} with {with}"),
            Action::Compact { moves: usize::MAX } => f.write_str("compact all"),
            Action::Compact { moves } => write!(f, "compact {moves}"),
            Action::Reclaim { pages } => write!(f, "reclaim {pages}"),
            Action::Trim => f.write_str("trim"),
            Action::Switch { spec } => write!(f, "switch {spec}"),
        }
    }
}

impl FromStr for Action {
    type Err = ParseError;

    fn from_str(line: &str) -> Result<Action, ParseError> {
        let error = || ParseError { line: 1, text: line.to_owned() };
        let number = |word: &str| word.parse().map_err(|_| error());
        if let Some(spec) = line.strip_prefix("switch ") {
            return Ok(Action::Switch { spec: spec.trim().to_owned() });
        }
        let words: Vec<_> = line.split_whitespace().collect();
        Ok(match *words {
            ["insert", len, "fill", fill] => {
                Action::Insert { len: number(len)?, fill: fill.parse().map_err(|_| error())? }
            }
            ["read", nth] => Action::Read { nth: number(nth)? },
            ["hold", nth] => Action::Hold { nth: number(nth)? },
            ["release", nth] => Action::Release { nth: number(nth)? },
            ["free", nth] => Action::Free { nth: number(nth)? },
            ["exchange", nth, "with", with] => {
                Action::Exchange { nth: number(nth)?, with: number(with)? }
            }
            ["compact", "all"] => Action::Compact { moves: usize::MAX },
            ["compact", moves] => Action::Compact { moves: number(moves)? },
            ["reclaim", pages] => Action::Reclaim { pages: number(pages)? },
            ["trim"] => Action::Trim,
            _ => return Err(error()),
        })
    }
}

/// A line that is not an action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseError {
    /// The line's number, from 1.
    pub line: usize,
    /// The line.
    pub text: String,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: `{}` is not an action", self.line, self.text)
    }
}

impl core::error::Error for ParseError {}

/// The deviation of a subject, with its place in the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunError {
    /// The number of actions before it.
    pub step: usize,
    /// The action that deviated, or `None` at the end of the list.
    pub action: Option<Action>,
    /// The deviation.
    pub what: String,
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.action {
            Some(action) => write!(f, "step {} (`{action}`): {}", self.step, self.what),
            None => write!(f, "at the end, after {} steps: {}", self.step, self.what),
        }
    }
}

impl core::error::Error for RunError {}

#[cfg(test)]
mod tests {
    use super::*;

    /// Actions survive conversion to text and back, and comments are skipped.
    #[test]
    fn actions_round_trip_as_text() {
        let actions = vec![
            Action::Insert { len: 137, fill: u64::MAX },
            Action::Read { nth: 3 },
            Action::Hold { nth: 0 },
            Action::Release { nth: 9 },
            Action::Free { nth: 2 },
            Action::Exchange { nth: 0, with: 4 },
            Action::Compact { moves: 10 },
            Action::Compact { moves: usize::MAX },
            Action::Reclaim { pages: 2 },
            Action::Trim,
            Action::Switch { spec: "zbud(page=8192) + zstd(level=-1)".into() },
        ];
        assert_eq!(from_text(&to_text(&actions)).unwrap(), actions);
        assert_eq!(from_text("\n# all\n  trim  # why not\n").unwrap(), [Action::Trim]);
    }

    #[test]
    fn a_bad_line_is_named() {
        for bad in [
            "insert",
            "insert x fill 1",
            "free -1",
            "exchange 1 2",
            "trim now",
            "compact",
            "grow 1",
        ] {
            let error = from_text(&format!("trim\n{bad}\n")).unwrap_err();
            assert_eq!((error.line, error.text.as_str()), (2, bad));
        }
    }
}
