//! The rows and the table that the program prints.

use std::fmt;

use benches::PrintedReport;
use serde::Serialize;
use workload::Spread;

use crate::turns::Measured;

/// The file that stands for all.
const MEAN: &str = "geometric mean";

/// All results. Its `Display` form is for people.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    results: Vec<Figure>,
}

/// One figure of one codec on one file.
#[derive(Debug, Clone, Serialize)]
struct Figure {
    file: String,
    codec: String,
    name: &'static str,
    value: f64,
    /// Lowest and highest round, or file.
    range: [f64; 2],
}

impl Report {
    /// Adds the figures of a file.
    pub(crate) fn add(&mut self, file: &str, measured: &[Measured]) {
        for codec in measured {
            let mut push = |name, Spread { median, low, high }| {
                self.results.push(Figure {
                    file: file.to_owned(),
                    codec: codec.codec.clone(),
                    name,
                    value: median,
                    range: [low, high],
                });
            };
            let exact = |value| Spread { median: value, low: value, high: value };
            let [lz4, zstd] = &codec.over;
            push("bytes_per_page", exact(codec.bytes_per_page));
            push("size_over_lz4", exact(lz4.size));
            push("load_over_lz4", lz4.load);
            push("compress_over_lz4", lz4.compress);
            push("size_over_zstd", exact(zstd.size));
            push("load_over_zstd", zstd.load);
            push("compress_over_zstd", zstd.compress);
            push("load_ns", codec.load_ns);
            push("compress_ns", codec.compress_ns);
        }
    }

    /// Adds the geometric mean over the files of each figure of each codec.
    pub(crate) fn add_means(&mut self) {
        let mut means: Vec<(Figure, usize)> = Vec::new();
        for figure in &self.results {
            let same = |(mean, _): &&mut (Figure, usize)| {
                (&mean.codec, mean.name) == (&figure.codec, figure.name)
            };
            let log = figure.value.ln();
            match means.iter_mut().find(same) {
                Some((mean, files)) => {
                    mean.value += log;
                    let [low, high] = mean.range;
                    mean.range = [low.min(figure.value), high.max(figure.value)];
                    *files += 1;
                }
                None => {
                    let range = [figure.value; 2];
                    let file = MEAN.to_owned();
                    means.push((Figure { file, value: log, range, ..figure.clone() }, 1));
                }
            }
        }
        self.results.extend(means.into_iter().map(|(mean, files)| {
            let value = (mean.value / files as f64).exp();
            Figure { value, ..mean }
        }));
    }
}

impl PrintedReport for Report {
    fn table(&self) -> String {
        self.to_string()
    }
}

impl fmt::Display for Report {
    /// Writes a line for each codec on each file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut file = "";
        for line in self.results.chunk_by(|a, b| (&a.file, &a.codec) == (&b.file, &b.codec)) {
            if line[0].file != file {
                file = &line[0].file;
                writeln!(f, "{file}")?;
                let (lz4, zstd) = ("over lz4_flex", "over zstd level 1");
                writeln!(f, "  {:28} {:>7}  {lz4:^22}  {zstd:^22}  ns per page", "", "bytes")?;
                let parts = ["size", "load", "compr."];
                let [a, b, c] = parts;
                let head = format!("{a:>6}  {b:>6}  {c:>6}");
                let times = "  load  compr.";
                writeln!(f, "  {:28} {:>7}  {head}  {head}  {times}", "codec", "per page")?;
            }
            write!(f, "  {:28} {:7.1}", line[0].codec, line[0].value)?;
            line[1..7].iter().try_for_each(|figure| write!(f, "  {:6.3}", figure.value))?;
            line[7..].iter().try_for_each(|figure| write!(f, "  {:6.0}", figure.value))?;
            writeln!(f)?;
        }
        Ok(())
    }
}
