//! One language for what is done to a pool: property tests make it, failures print it, replay reads it.
//!
//! ```text
//!   insert 137 fill 5      137 bytes that only fill 5 makes          free 2         the object that is third in line
//!   read 3                 compares the object's bytes               compact 10     moving at most 10 objects
//!   hold 3                 and keeps the guard                       compact all
//!   release 0              drops a guard that was kept               reclaim 2      pages, from an owner who agrees
//!   exchange 0 with 4      the objects of two handles                trim
//!   switch zbud+lz4        stores only
//! ```
//!
//! ```text
//!   a case of the suite that fails   prints the shortest list              ZPOOL_ACTIONS=FILE cargo test random_actions   does a list
//!   a fuzz target that fails         ci/fuzz.sh prints its list            target FILE                                    does a list
//!   by hand                                                                zlab replay FILE                               does a list
//! ```
//!
//! One action a line; empty lines and what follows a `#` are skipped. Numbers of objects and guards are taken modulo how many there are, so that every list of
//! actions means something, and a list cut short still does: that is what lets a failing list shrink.

use core::fmt;
use core::str::FromStr;

use proptest::prelude::{Just, Strategy, any};
use proptest::prop_oneof;

/// Something done to a [`Subject`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// Stores an object.
    Insert {
        /// Its length in bytes. A subject takes it modulo its maximum.
        len: usize,
        /// What its bytes are made of.
        fill: u64,
    },
    /// Reads an object and compares it.
    Read {
        /// Which of the live objects.
        nth: usize,
    },
    /// Reads an object and keeps the guard.
    Hold {
        /// Which of the live objects.
        nth: usize,
    },
    /// Compares what a guard reads, and drops it.
    Release {
        /// Which of the guards that are kept.
        nth: usize,
    },
    /// Frees an object, guards or not.
    Free {
        /// Which of the live objects.
        nth: usize,
    },
    /// Exchanges the objects of two handles, if they are two, and the pool does that.
    Exchange {
        /// Which of the live objects.
        nth: usize,
        /// Which other one.
        with: usize,
    },
    /// Compacts.
    Compact {
        /// Objects moved at most.
        moves: usize,
    },
    /// Reclaims from an owner who gives up whatever it is asked for.
    Reclaim {
        /// Pages asked for.
        pages: usize,
    },
    /// Gives back what holds no object.
    Trim,
    /// Changes the current pool of a store. Nothing to a pool.
    Switch {
        /// The spec to switch to, as text.
        spec: String,
    },
}

/// What actions are done to: a pool, a store. Compares what it sees with what must be so, after each.
pub trait Subject {
    /// Does one action.
    ///
    /// # Errors
    ///
    /// A sentence about what is not as it must be.
    fn apply(&mut self, action: &Action) -> Result<(), String>;

    /// Ends a list of actions: compares everything, gives everything back, and looks whether anything is left.
    ///
    /// # Errors
    ///
    /// As for `apply`.
    fn finish(self) -> Result<(), String>;
}

/// Does a list of actions to a subject.
///
/// # Errors
///
/// The first failure, with the step it happened at.
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

/// The text form of a list, one action a line.
pub fn to_text(actions: &[Action]) -> String {
    actions.iter().map(|action| format!("{action}\n")).collect()
}

/// Reads the text form of a list.
///
/// # Errors
///
/// [`ParseError`] with the number of the first line that is no action.
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

/// Makes single actions on a pool, in the proportions of a pool at work; shrinks to fewer, shorter and smaller ones.
pub fn pool_action(max_len: usize) -> impl Strategy<Value = Action> {
    let nth = || 0usize..1000;
    // Small objects and those of half the maximum and more: both change how many share a page.
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

/// A line that is no action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseError {
    /// The line's number, from 1.
    pub line: usize,
    /// The line.
    pub text: String,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: `{}` is no action", self.line, self.text)
    }
}

impl core::error::Error for ParseError {}

/// A list of actions that went wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunError {
    /// How many actions went well.
    pub step: usize,
    /// The one that did not; `None` when it was the end.
    pub action: Option<Action>,
    /// What was wrong.
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

    #[test]
    fn text_and_actions_are_the_same_thing() {
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
