//! The text form of a pool's components: `zsmalloc+lz4`, `zsmalloc(chain=8)+zstd(level=-1)`.
//!
//! ```text
//!   pool      := component "+" component            allocator + compressor
//!   component := name [ "(" [ param { "," param } ] ")" ]
//!   param     := name "=" value
//!   name      := letter { letter | digit | "_" | "-" }
//!   value     := one or more characters except "," "(" ")" and control characters; trimmed
//! ```
//!
//! Spaces are allowed between any two tokens. Drivers interpret names and values; a [`Component`]
//! only keeps its parameters sorted, so that two texts for one thing are equal. The identity of a
//! spec is its `Display` text.

mod parse;

use core::fmt;
use core::str::FromStr;

/// A requested allocator and compressor.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PoolSpec {
    /// The allocator.
    pub allocator: Component,
    /// The compressor.
    pub compressor: Component,
}

impl PoolSpec {
    /// Makes a spec of these two.
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
    /// The name under which a driver is registered.
    pub name: String,
    /// Its parameters.
    pub params: Params,
}

impl Component {
    /// Makes the component `name` with default parameters. The name is not checked: one that the
    /// grammar does not allow can never be requested in a text.
    pub fn named(name: impl Into<String>) -> Component {
        Component { name: name.into(), params: Params::default() }
    }

    /// Replaces the parameters.
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

/// Parameters of a plug-in: unique names with values, sorted by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Params(Vec<(String, String)>);

impl Params {
    /// Sets `name` to `value`, replacing an earlier value.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<String>) {
        let (name, value) = (name.into(), value.into());
        match self.0.binary_search_by(|(n, _)| n.as_str().cmp(&name)) {
            Ok(at) => self.0[at].1 = value,
            Err(at) => self.0.insert(at, (name, value)),
        }
    }

    /// Returns the value of `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        let at = self.0.binary_search_by(|(n, _)| n.as_str().cmp(name)).ok()?;
        Some(&self.0[at].1)
    }

    /// Returns all parameters, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(n, v)| (n.as_str(), v.as_str()))
    }

    /// Returns whether there are no parameters.
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

/// The error of a text that is not a spec, with the position and what was expected there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecError {
    /// The whole text.
    pub text: String,
    /// Position of the error: a byte offset into `text`, at a character boundary, up to its length.
    pub at: usize,
    /// The tokens that the grammar allows there.
    pub expected: &'static str,
}

impl fmt::Display for SpecError {
    /// Writes one line with a mark at the position:
    /// `bad spec "zstd(level=▸)": at character 12 expected a value, found ')'`.
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
