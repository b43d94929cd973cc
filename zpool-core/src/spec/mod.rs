//! The text form of what a pool is made of: `zsmalloc+lz4`, `zsmalloc(chain=8)+zstd(level=-1)`.
//!
//! ```text
//!   pool      := component "+" component            allocator + compressor
//!   component := name [ "(" [ param { "," param } ] ")" ]
//!   param     := name "=" value
//!   name      := letter { letter | digit | "_" | "-" }
//!   value     := one or more of anything but "," "(" ")" and control characters, spaces at its ends cut off
//! ```
//!
//! Spaces are allowed between any two of these. What names and values mean is the drivers' business; a [`Component`] only keeps its parameters sorted,
//! so that two texts for the same thing are equal. A spec's identity is the text that its `Display` gives.

mod parse;

use core::fmt;
use core::str::FromStr;

/// An allocator and a compressor, as asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PoolSpec {
    /// The allocator.
    pub allocator: Component,
    /// The compressor.
    pub compressor: Component,
}

impl PoolSpec {
    /// A spec of these two.
    pub fn new(allocator: Component, compressor: Component) -> PoolSpec {
        PoolSpec { allocator, compressor }
    }
}

impl fmt::Display for PoolSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}", self.allocator, self.compressor)
    }
}

impl FromStr for PoolSpec {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<PoolSpec, SpecError> {
        parse::pool(text)
    }
}

/// One plug-in by name, with parameters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Component {
    /// The name a driver is registered under.
    pub name: String,
    /// Its parameters.
    pub params: Params,
}

impl Component {
    /// The plug-in `name` with its defaults. The name is taken as it is; one that the grammar does not allow can never be asked for in a text.
    pub fn named(name: impl Into<String>) -> Component {
        Component { name: name.into(), params: Params::default() }
    }

    /// The same with other parameters.
    pub fn with_params(self, params: Params) -> Component {
        Component { params, ..self }
    }
}

impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if self.params.is_empty() { Ok(()) } else { write!(f, "({})", self.params) }
    }
}

impl FromStr for Component {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Component, SpecError> {
        parse::component(text)
    }
}

/// Parameters of a plug-in: names with values, each name once, sorted by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Params(Vec<(String, String)>);

impl Params {
    /// Sets `name` to `value`, replacing what it was.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<String>) {
        let (name, value) = (name.into(), value.into());
        match self.0.binary_search_by(|(n, _)| n.as_str().cmp(&name)) {
            Ok(at) => self.0[at].1 = value,
            Err(at) => self.0.insert(at, (name, value)),
        }
    }

    /// The value of `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        let at = self.0.binary_search_by(|(n, _)| n.as_str().cmp(name)).ok()?;
        Some(&self.0[at].1)
    }

    /// All, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(n, v)| (n.as_str(), v.as_str()))
    }

    /// Are there none?
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Params {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (name, value)) in self.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            write!(f, "{comma}{name}={value}")?;
        }
        Ok(())
    }
}

/// A text that is no spec: what was expected, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecError {
    /// The whole text.
    pub text: String,
    /// Where the parser stood: a byte offset into `text`, at a character boundary, up to its length.
    pub at: usize,
    /// What could have stood there.
    pub expected: &'static str,
}

impl fmt::Display for SpecError {
    /// One line, with a mark where the trouble is: `bad spec "zstd(level=▸)": expected a value`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (before, after) = self.text.split_at(self.at);
        let found = match after.chars().next() {
            None => "the end".to_owned(),
            Some(c) => format!("{c:?}"),
        };
        let column = before.chars().count() + 1;
        let (before, after) = (before.escape_debug(), after.escape_debug());
        write!(
            f,
            "bad spec \"{before}▸{after}\": at character {column} expected {}, found {found}",
            self.expected
        )
    }
}

impl core::error::Error for SpecError {}
