//! One frame of the view, for people and as JSON.

use serde::Serialize;
use workload::format_bytes;

use super::sample::TopSample;
use crate::error::Failure;
use crate::output::{in_us, table};

/// A sample, and what has changed since the first one.
#[derive(Debug, Clone, Serialize)]
pub(super) struct TopFrame {
    /// The number of the frame, from 1.
    frame: u64,
    #[serde(flatten)]
    sample: TopSample,
    /// The growth of the anonymous memory since the first frame.
    grown_bytes: i64,
    #[serde(skip)]
    first_bytes: u64,
}

impl TopFrame {
    /// Creates the frame that follows `before`.
    pub(super) fn new(sample: TopSample, before: Option<&TopFrame>) -> TopFrame {
        let first_bytes = before.map_or(sample.anonymous_bytes, |before| before.first_bytes);
        TopFrame {
            frame: before.map_or(1, |before| before.frame + 1),
            grown_bytes: sample.anonymous_bytes as i64 - first_bytes as i64,
            first_bytes,
            sample,
        }
    }

    /// Formats the frame as one line of JSON.
    pub(super) fn json(&self) -> Result<String, Failure> {
        Ok(serde_json::to_string(self)? + "\n")
    }

    /// Formats the frame for people. On a terminal, the last line says how to leave.
    pub(super) fn text(&self, on_terminal: bool) -> String {
        let sample = &self.sample;
        let header =
            ["\npool", "would\nhold", "would\nsave", "\n%", "kept\nraw", "store\nµs", "load\nµs"];
        let mut table = table(1, &header);
        for row in &sample.results {
            let saved = row.saved_bytes as f64 / sample.anonymous_bytes.max(1) as f64;
            table.add_row([
                format!("{}+{}", row.allocator, row.compressor),
                format_bytes(row.held_bytes),
                signed_bytes(row.saved_bytes),
                format!("{:.1}", saved * 100.0),
                format!("{:.1} %", row.incompressible * 100.0),
                in_us(row.store_ns),
                in_us(row.load_ns),
            ]);
        }
        let quit = if on_terminal { "\nq quits.\n" } else { "" };
        format!(
            "{} (process {}), frame {}\n\n\
             anonymous memory  {} ({} since the first frame)\n\
             sampled           {} in blocks of {}\n\
             same-filled       {:.1} % of the blocks\n\n\
             {}\n\n{LEGEND}{quit}",
            sample.name,
            sample.pid,
            self.frame,
            format_bytes(sample.anonymous_bytes),
            signed_change(self.grown_bytes),
            format_bytes(sample.sampled_bytes),
            format_bytes(sample.block_size as u64),
            sample.same_filled * 100.0,
            table.trim_fmt()
        )
    }
}

const LEGEND: &str = "\
would hold: all anonymous memory, if it is like the sample, in pool and index.
store, load: mean processor time per block.
";

fn signed_bytes(bytes: i64) -> String {
    let sign = if bytes < 0 { "-" } else { "" };
    format!("{sign}{}", format_bytes(bytes.unsigned_abs()))
}

fn signed_change(bytes: i64) -> String {
    if bytes < 0 { signed_bytes(bytes) } else { format!("+{}", signed_bytes(bytes)) }
}

#[cfg(test)]
mod tests {
    use super::super::sample::TopRow;
    use super::*;

    fn sample(anonymous_bytes: u64) -> TopSample {
        let row = TopRow {
            allocator: "zsmalloc".to_owned(),
            compressor: "zstd(level=-1)".to_owned(),
            held_bytes: anonymous_bytes / 4,
            saved_bytes: (anonymous_bytes - anonymous_bytes / 4) as i64,
            incompressible: 0.125,
            store_ns: 123_456.0,
            load_ns: 1_700.0,
        };
        TopSample {
            pid: 42,
            name: "server".to_owned(),
            block_size: 4096,
            anonymous_bytes,
            sampled_bytes: 8 << 20,
            same_filled: 0.1,
            results: vec![row],
        }
    }

    /// A frame fits a terminal of 24 lines and 80 columns, and says how to quit only there.
    #[test]
    fn frame_fits_a_terminal() {
        let text = TopFrame::new(sample(1 << 30), None).text(true);
        assert!(text.lines().count() <= 20, "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert!(text.contains("256 MiB") && text.contains("768 MiB") && text.contains("75.0"));
        assert!(text.contains("12.5 %") && text.contains("123") && text.contains("1.70"));
        assert!(text.ends_with("q quits.\n"));
        assert!(!TopFrame::new(sample(1), None).text(false).contains("quit"));
    }

    /// Growth counts from the first frame, and frames are numbered.
    #[test]
    fn growth_counts_from_the_first_frame() {
        let first = TopFrame::new(sample(8 << 20), None);
        let second = TopFrame::new(sample(9 << 20), Some(&first));
        let third = TopFrame::new(sample(6 << 20), Some(&second));
        assert!(second.text(true).contains("frame 2") && second.text(true).contains("+1.00 MiB"));
        assert!(third.text(true).contains("(-2.00 MiB since"), "{}", third.text(true));
        let json: serde_json::Value = serde_json::from_str(&third.json().unwrap()).unwrap();
        assert_eq!((&json["frame"], &json["grown_bytes"]), (&3.into(), &(-(2 << 20)).into()));
        assert_eq!(json["results"][0]["compressor"], "zstd(level=-1)");
    }
}
