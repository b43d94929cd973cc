//! Finds the command that a misspelt word was meant to be.

use std::path::Path;

/// At most this many letters may differ.
const FARTHEST: usize = 2;

/// Returns the name that `word` is a misspelling of: that of the fewest edits, at most 2 of them
/// and fewer than half of the letters.
pub(crate) fn nearest<'a>(word: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let near = |name: &'a str| {
        let edits = edits(word, name);
        (edits <= FARTHEST && 2 * edits < name.chars().count()).then_some((edits, name))
    };
    names.into_iter().filter_map(near).min().map(|(_, name)| name)
}

/// Returns the command that was meant, if `word` is neither an option nor a file.
pub(crate) fn meant<'a>(word: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let names: Vec<&str> = names.into_iter().collect();
    if word.starts_with('-') || names.contains(&word) || Path::new(word).exists() {
        return None;
    }
    nearest(word, names)
}

/// Counts the letters that are inserted, left out, replaced or swapped with their neighbour
/// (Damerau 1964, in the restricted form, where no letter is edited twice).
fn edits(from: &str, to: &str) -> usize {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().collect(), to.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=to.len()).collect()];
    for i in 1..=from.len() {
        let mut row = vec![i];
        for j in 1..=to.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(from[i - 1] != to[j - 1]);
            let mut least = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[from.len()][to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 4] = ["analyze", "storm", "train", "top"];

    #[test]
    fn misspelling_has_a_nearest_name() {
        for (word, name) in [
            ("anaylze", Some("analyze")),
            ("analyse", Some("analyze")),
            ("strom", Some("storm")),
            ("trian", Some("train")),
            ("tpo", Some("top")),
            ("pages.bin", None),
            ("tap dance", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, NAMES), name, "{word}");
        }
    }

    /// Options, commands and files have no suggestion.
    #[test]
    fn words_that_mean_themselves() {
        assert_eq!(meant("--strom", NAMES), None);
        assert_eq!(meant("storm", NAMES), None);
        assert_eq!(meant("/dev/null", ["/dev/nul"]), None);
        assert_eq!(meant("strom", NAMES), Some("storm"));
    }

    #[test]
    fn edits_are_counted() {
        for (from, to, edits) in
            [("", "", 0), ("a", "", 1), ("ab", "ba", 1), ("kitten", "sitting", 3), ("ab", "xy", 2)]
        {
            assert_eq!(super::edits(from, to), edits, "{from} {to}");
            assert_eq!(super::edits(to, from), edits, "{to} {from}");
        }
    }
}
