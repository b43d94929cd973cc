//! Generates words, prose and JSON.

use super::image::Image;
use crate::rng::SplitMix;

const SYLLABLES: [&str; 48] = [
    "a", "an", "ar", "be", "ca", "con", "da", "de", "di", "e", "en", "er", "fa", "fi", "ge", "ha",
    "he", "in", "is", "ka", "la", "le", "li", "lo", "ma", "me", "mi", "mo", "na", "ne", "no", "o",
    "or", "pa", "per", "po", "ra", "re", "ri", "sa", "se", "si", "ta", "te", "ti", "to", "ver",
    "vi",
];

/// Words with characters outside ASCII.
const FOREIGN: [&str; 8] = ["größe", "naïve", "mañana", "λόγος", "слово", "言葉", "écrit", "žluť"];

/// 1200 words, the most frequent first.
#[derive(Debug, Clone)]
pub(super) struct Vocabulary {
    words: Vec<String>,
}

impl Vocabulary {
    pub(super) fn new(rng: &mut SplitMix) -> Vocabulary {
        let word = |i: usize, rng: &mut SplitMix| match i % 40 {
            39 => FOREIGN[rng.below(FOREIGN.len())].to_owned(),
            // Frequent words are short.
            _ => (0..rng.between(1, 2 + (i > 60) as usize))
                .map(|_| SYLLABLES[rng.below(48)])
                .collect(),
        };
        Vocabulary { words: (0..1200).map(|i| word(i, rng)).collect() }
    }

    /// Returns a word. Those in front are far more frequent.
    pub(super) fn word(&self, rng: &mut SplitMix) -> &str {
        // Each draw is from one of four prefixes, which approximates Zipf's law in whole numbers.
        let most = self.words.len();
        let reach = [12, 60, 250, most][rng.below(4)];
        &self.words[rng.below(reach)]
    }
}

/// Writes a paragraph.
pub(super) fn prose(rng: &mut SplitMix, words: &Vocabulary, image: &mut Image) {
    for _ in 0..rng.between(2, 8) {
        for i in 0..rng.between(4, 16) {
            if i > 0 {
                image.bytes_of(if rng.percent(8) { ", " } else { " " });
            }
            image.bytes_of(words.word(rng));
        }
        image.bytes_of(". ");
    }
    image.bytes_of("\n\n");
}

/// Writes a document, which is a list of objects of one shape.
pub(super) fn json(rng: &mut SplitMix, words: &Vocabulary, image: &mut Image) {
    let fields: Vec<&str> = (0..rng.between(3, 7)).map(|_| words.word(rng)).collect();
    image.bytes_of("{\"items\":[");
    for i in 0..rng.between(4, 20) {
        image.bytes_of(if i > 0 { ",{" } else { "{" });
        image.bytes_of(&format!("\"id\":{}", 100_000 + i * 7));
        for (at, field) in fields.iter().enumerate() {
            let value = match (at + i) % 4 {
                0 => format!("\"{}\"", words.word(rng)),
                1 => rng.below(10_000).to_string(),
                2 => format!("{}.{:02}", rng.below(100), rng.below(100)),
                _ => ["true", "false", "null"][rng.below(3)].to_owned(),
            };
            image.bytes_of(&format!(",\"{field}\":{value}"));
        }
        image.bytes_of("}");
    }
    image.bytes_of("]}\n");
}
