//! Each case names the bullets that it checks. Each bullet is checked by a case, or is one of a few
//! that no case can check.
//!
//! Run with `--nocapture` for the table.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Bullets that no case checks, with the reasons.
const EXEMPT: [(&str, &str); 7] = [
    ("S2", "a bound on time: a suite cannot see what a pool walks over"),
    ("D1", "a suite's closure makes pools, and does not show the driver"),
    ("D5", "a permission to block"),
    ("T2", "a permission to block"),
    ("F6", "a suite's closure says what pools are made with: see `assert_wipes_on_free`"),
    ("W6", "a suite cannot make a medium fail: see the tests of each backing store"),
    ("W10", "a permission to block"),
];

/// Methods and capabilities that cases name. They are in a contract and have no number.
const UNNUMBERED: [&str; 9] = [
    "`identity`",
    "`capabilities`",
    "`warm_without_heap`",
    "`CompressorDriver::open`",
    "runs_on_caller",
    "::ordered",
    "`flush`",
    "`shutdown`",
    "`shutdown_now`",
];

fn sources(folder: &Path) -> Vec<String> {
    let mut files: Vec<_> = fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("listed").path())
        .collect();
    files.sort();
    files
        .iter()
        .filter(|file| file.is_file())
        .map(|file| fs::read_to_string(file).expect("a source file"))
        .collect()
}

/// `B16` is a scenario, and all others of this form are bullets. `N1-N3` are three.
fn bullets(text: &str) -> BTreeSet<String> {
    let words: Vec<&str> = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').collect();
    words.into_iter().flat_map(expand).collect()
}

fn expand(word: &str) -> Vec<String> {
    let parse = |word: &str| {
        let (letter, number) = word.split_at_checked(1)?;
        let letter = letter.chars().next().filter(|c| c.is_ascii_uppercase() && *c != 'B')?;
        Some((letter, number.parse::<u32>().ok()?))
    };
    let (first, last) = word.split_once('-').unwrap_or((word, word));
    match (parse(first), parse(last)) {
        (Some((letter, from)), Some((other, to))) if letter == other => {
            (from..=to).map(|number| format!("{letter}{number}")).collect()
        }
        _ => Vec::new(),
    }
}

/// Returns the cases of a file, with their docs.
fn cases(source: &str) -> Vec<(String, String)> {
    let (mut found, mut doc) = (Vec::new(), String::new());
    for line in source.lines() {
        if let Some(text) = line.strip_prefix("///") {
            doc += text;
        } else if let Some(rest) = line.strip_prefix("pub fn ") {
            found.push((
                rest.split('(').next().expect("a name").to_owned(),
                std::mem::take(&mut doc),
            ));
        } else if !line.starts_with("#[") {
            doc.clear();
        }
    }
    found
}

/// Returns the numbered bullets of zpool-core's traits.
fn contract() -> BTreeSet<String> {
    let core = Path::new(env!("CARGO_MANIFEST_DIR")).join("../zpool-core/src");
    let files = ["pool.rs", "compress/mod.rs", "exec/mod.rs", "backing/mod.rs"];
    let text: String = files
        .iter()
        .map(|file| fs::read_to_string(core.join(file)).expect("a source file"))
        .collect();
    let starts =
        text.lines().filter_map(|line| line.trim_start().strip_prefix("/// - ")?.split_once(". "));
    starts.flat_map(|(bullet, _)| expand(bullet)).collect()
}

/// Each case names the bullets that it checks, and each bullet has a case.
#[test]
fn cases_and_bullets_match() {
    let mut by_bullet: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut count = 0;
    for suite in ["pool", "compressor", "executor", "backing"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(suite).join("cases");
        for (case, doc) in sources(&folder).iter().flat_map(|source| cases(source)) {
            let named = bullets(&doc);
            assert!(
                !named.is_empty() || UNNUMBERED.iter().any(|name| doc.contains(name)),
                "{case} names no bullet: {doc}"
            );
            named
                .into_iter()
                .for_each(|bullet| by_bullet.entry(bullet).or_default().push(case.clone()));
            count += 1;
        }
    }
    let contract = contract();
    for bullet in &contract {
        let by = by_bullet.get(bullet).map_or_else(String::new, |cases| cases.join(", "));
        let exempt = EXEMPT.iter().find(|(exempt, _)| exempt == bullet);
        println!("{bullet:<4} {}", exempt.map_or(&*by, |(_, why)| why));
        assert!(
            exempt.is_some() == by.is_empty(),
            "{bullet}: checked by {by:?}, exempt {exempt:?}"
        );
    }
    let unknown: Vec<_> = by_bullet.keys().filter(|bullet| !contract.contains(*bullet)).collect();
    assert!(unknown.is_empty(), "bullets of no contract: {unknown:?}");
    assert!(count > 100 && contract.len() > 40, "{count} cases, {} bullets", contract.len());
}
