//! The parser of the grammar in the parent module: a position in the text, and one function per
//! rule.

use super::{Component, Params, PoolSpec, SpecError};

pub(super) fn pool(text: &str) -> Result<PoolSpec, SpecError> {
    let mut parser = Parser { text, at: 0 };
    let allocator = parser.component("an allocator's name")?;
    parser.expect('+', "`+` and a compressor")?;
    let compressor = parser.component("a compressor's name")?;
    parser.end()?;
    Ok(PoolSpec { allocator, compressor })
}

pub(super) fn component(text: &str) -> Result<Component, SpecError> {
    let mut parser = Parser { text, at: 0 };
    let component = parser.component("a name")?;
    parser.end()?;
    Ok(component)
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Parser<'a> {
    fn component(&mut self, what: &'static str) -> Result<Component, SpecError> {
        let name = self.name(what)?.to_owned();
        let params = if self.eat('(') { self.params()? } else { Params::default() };
        Ok(Component { name, params })
    }

    /// Parses the text after the opening parenthesis, through the closing one.
    fn params(&mut self) -> Result<Params, SpecError> {
        let mut params = Params::default();
        if self.eat(')') {
            return Ok(params);
        }
        loop {
            self.skip_spaces();
            let at = self.at;
            let name = self.name("a parameter's name")?;
            if params.get(name).is_some() {
                return Err(self.error_at(at, "a parameter that is not set yet"));
            }
            self.expect('=', "`=` and a value")?;
            params.set(name, self.value()?);
            if self.eat(')') {
                return Ok(params);
            }
            self.expect(',', "`,` or `)`")?;
        }
    }

    fn name(&mut self, what: &'static str) -> Result<&'a str, SpecError> {
        self.skip_spaces();
        let rest = &self.text[self.at..];
        if !rest.starts_with(|c: char| c.is_ascii_alphabetic()) {
            return Err(self.error_at(self.at, what));
        }
        let ends = |c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '-');
        Ok(self.advance(rest.find(ends).unwrap_or(rest.len())))
    }

    fn value(&mut self) -> Result<&'a str, SpecError> {
        self.skip_spaces();
        let rest = &self.text[self.at..];
        let ends = |c: char| matches!(c, ',' | '(' | ')') || c.is_control();
        let len = rest.find(ends).unwrap_or(rest.len());
        let value = rest[..len].trim_end_matches(' ');
        if value.is_empty() {
            return Err(self.error_at(self.at, "a value"));
        }
        self.advance(len);
        Ok(value)
    }

    fn eat(&mut self, wanted: char) -> bool {
        self.skip_spaces();
        let found = self.text[self.at..].starts_with(wanted);
        if found {
            self.at += wanted.len_utf8();
        }
        found
    }

    fn expect(&mut self, wanted: char, what: &'static str) -> Result<(), SpecError> {
        if self.eat(wanted) { Ok(()) } else { Err(self.error_at(self.at, what)) }
    }

    fn end(&mut self) -> Result<(), SpecError> {
        self.skip_spaces();
        if self.at == self.text.len() {
            Ok(())
        } else {
            Err(self.error_at(self.at, "nothing more"))
        }
    }

    fn skip_spaces(&mut self) {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start_matches(' ').len();
    }

    fn advance(&mut self, len: usize) -> &'a str {
        let passed = &self.text[self.at..self.at + len];
        self.at += len;
        passed
    }

    fn error_at(&self, at: usize, expected: &'static str) -> SpecError {
        SpecError { text: self.text.to_owned(), at, expected }
    }
}

#[cfg(all(test, not(zpool_loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Specs that the grammar allows are parsed.
    #[test]
    fn valid_specs_parse() {
        let spec: PoolSpec =
            " zsmalloc ( step = 16 , chain=8 ) + zstd(level=-1,dict=a b.bin) ".parse().unwrap();
        assert_eq!(spec.to_string(), "zsmalloc(chain=8,step=16)+zstd(dict=a b.bin,level=-1)");
        assert_eq!(spec.compressor.params.get("level"), Some("-1"));
        assert_eq!("lz4()".parse::<Component>().unwrap(), Component::named("lz4"));
    }

    /// An error names its position and what was expected there.
    #[test]
    fn error_names_position() {
        for (text, at, expected) in [
            ("", 0, "an allocator's name"),
            ("zsmalloc", 8, "`+` and a compressor"),
            ("zsmalloc+", 9, "a compressor's name"),
            ("zsmalloc+zstd(level=)", 20, "a value"),
            ("zsmalloc+zstd(level)", 19, "`=` and a value"),
            ("zsmalloc+zstd(level=1", 21, "`,` or `)`"),
            ("zsmalloc+zstd(level=1,level=2)", 22, "a parameter that is not set yet"),
            ("zsmalloc+lz4+lzo", 12, "nothing more"),
            ("zsmälloc+lz4", 3, "`+` and a compressor"),
            ("zbud+9z", 5, "a compressor's name"),
        ] {
            let error = text.parse::<PoolSpec>().unwrap_err();
            assert_eq!((error.at, error.expected), (at, expected), "{error}");
            assert_eq!(error.to_string().lines().count(), 1);
        }
        let shown = "a+b(c=\n)".parse::<PoolSpec>().unwrap_err().to_string();
        assert_eq!(shown, "bad spec \"a+b(c=▸\\n)\": at character 7 expected a value, found '\\n'");
    }

    proptest! {
        /// Any text parses and prints equal, or has an error position inside it.
        #[test]
        fn any_text_parses_or_has_error_position(text in "[a-c+(),= é\n1-]{0,20}") {
            match text.parse::<PoolSpec>() {
                Ok(spec) => prop_assert_eq!(spec.to_string().parse::<PoolSpec>().unwrap(), spec),
                Err(error) => { prop_assert!(text.is_char_boundary(error.at)); error.to_string(); }
            }
        }
    }
}
