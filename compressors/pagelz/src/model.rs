//! A model of the data: a codebook of tokens, and tables for the streams.
//!
//! ```text
//!   file    "PLZMODL1" │ n (1) │ n entries (2 each) │ code lengths, a nibble a symbol
//!   entry   kind << 4 | literals, match - 4
//! ```

use zpool_core::CreateError;

use crate::format::{ALL_TABLES, ENTRY_LITERALS, ENTRY_MATCH, MAX_ENTRIES, MIN_MATCH, OffsetKind};
use crate::huffman::{Lengths, is_complete};

/// The first bytes of a model's file.
const MAGIC: [u8; 8] = *b"PLZMODL1";

/// The bytes of the model that comes with this crate. `examples/train.rs` says how it is made.
const GENERIC: &[u8] = include_bytes!("generic.model");

/// An entry of the codebook: the sequence that one token stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct CodebookEntry {
    pub(crate) kind: OffsetKind,
    /// Below [`ENTRY_LITERALS`].
    pub(crate) literals: u8,
    /// Length of the match, from [`MIN_MATCH`] to below [`ENTRY_MATCH`].
    pub(crate) length: u8,
}

/// A codebook and the code lengths of every table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Model {
    /// At most [`MAX_ENTRIES`], all different.
    pub(crate) codebook: Vec<CodebookEntry>,
    /// [`ALL_TABLES`] of them, each complete.
    pub(crate) lengths: Vec<Lengths>,
}

impl Model {
    /// Returns the model that comes with this crate.
    pub(crate) fn generic() -> Model {
        Model::from_bytes(GENERIC).expect("a test checks it")
    }

    /// Reads a model. Returns `None` if the bytes are not a model.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Model> {
        let (&count, rest) = bytes.strip_prefix(&MAGIC)?.split_first()?;
        let (entry_bytes, lengths) = rest.split_at_checked(2 * usize::from(count))?;
        let codebook = entry_bytes.chunks_exact(2).map(|pair| {
            let kind = *OffsetKind::ALL.get(usize::from(pair[0] >> 4))?;
            let entry = CodebookEntry {
                kind,
                literals: pair[0] & 15,
                length: pair[1].checked_add(MIN_MATCH as u8)?,
            };
            (usize::from(entry.length) < ENTRY_MATCH).then_some(entry)
        });
        let codebook = codebook.collect::<Option<Vec<CodebookEntry>>>()?;
        let mut sorted = codebook.clone();
        sorted.sort_unstable();
        let all_different = sorted.windows(2).all(|pair| pair[0] != pair[1]);
        if codebook.len() > MAX_ENTRIES || !all_different || lengths.len() != ALL_TABLES * 128 {
            return None;
        }
        let table = |bytes: &[u8]| -> Option<Lengths> {
            let lengths = std::array::from_fn(|symbol| bytes[symbol / 2] >> (symbol % 2 * 4) & 15);
            is_complete(&lengths).then_some(lengths)
        };
        let lengths = lengths.chunks_exact(128).map(table).collect::<Option<Vec<_>>>()?;
        Some(Model { codebook, lengths })
    }

    /// Returns the bytes that [`from_bytes`](Self::from_bytes) reads.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.push(self.codebook.len() as u8);
        for entry in &self.codebook {
            bytes.push((entry.kind as u8) << 4 | entry.literals);
            bytes.push(entry.length - MIN_MATCH as u8);
        }
        for lengths in &self.lengths {
            bytes.extend(lengths.chunks_exact(2).map(|pair| pair[0] | pair[1] << 4));
        }
        bytes
    }
}

/// The most bytes of a model's file.
pub(crate) const MAX_BYTES: usize = MAGIC.len() + 1 + 2 * MAX_ENTRIES + ALL_TABLES * 128;

const _: () = assert!(ENTRY_LITERALS == 16, "the literals of an entry take a nibble");

/// Makes the error of a bad value of the parameter `model`.
pub(crate) fn bad_model(value: &str, expected: &str) -> CreateError {
    CreateError::BadValue {
        name: "model".to_owned(),
        value: value.to_owned(),
        expected: expected.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generic_model_is_sound() {
        let model = Model::generic();
        assert_eq!(model.to_bytes(), GENERIC);
        assert!(GENERIC.len() <= MAX_BYTES);
        assert!(model.codebook.len() > 100, "{} entries", model.codebook.len());
    }

    #[test]
    fn damaged_model_is_refused() {
        let good = Model::generic().to_bytes();
        for len in 0..good.len() {
            assert_eq!(Model::from_bytes(&good[..len]), None);
        }
        assert_eq!(Model::from_bytes(&[&good[..], &[0]].concat()), None);
        let first_entry = MAGIC.len() + 1;
        let first_table = first_entry + 2 * usize::from(good[MAGIC.len()]);
        // A wrong magic number, a kind that does not exist, a match that is too long, and an
        // incomplete code.
        for (at, value) in
            [(0, b'Q'), (first_entry, 0x40), (first_entry + 1, 128), (first_table, 0)]
        {
            let mut bad = good.clone();
            bad[at] = value;
            assert_eq!(Model::from_bytes(&bad), None, "byte {at}");
        }
        let mut twice = good.clone();
        twice.copy_within(first_entry..first_entry + 2, first_entry + 2);
        assert_eq!(Model::from_bytes(&twice), None);
    }
}
