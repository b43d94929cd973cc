//! All rivals and traces of one file, and the rows of the report.

use benches::{Failure, FigureRow};
use lz4_flex::block::{compress_into, get_maximum_output_size};
use workload::{Pages, Spread};
use zpool_core::spec::PoolSpec;

use crate::PAGE;
use crate::calibration::calibrated;
use crate::run::{CacheRun, RunResult, RunSize};
use crate::trace::Pattern;

/// The rivals, in the order of the report.
const RIVALS: [&str; 6] =
    ["moka", "quick_cache", "foyer", "moka_plain", "quick_cache_plain", "foyer_plain"];

/// A value of a run, and how the ratios of several runs become one.
struct Measure {
    name: &'static str,
    value: fn(&RunResult) -> f64,
    /// Returns the row of the worst ratio, for the goal that holds for every trace.
    worst: fn(&str, &str, Spread) -> FigureRow,
}

const MEASURES: [Measure; 4] = [
    Measure { name: "entries", value: |run| run.entries, worst: FigureRow::lowest },
    Measure { name: "hit_ratio", value: |run| run.hit_ratio, worst: FigureRow::lowest },
    Measure { name: "ns_per_hit", value: |run| run.ns_per_hit, worst: FigureRow::highest },
    Measure { name: "ns_per_store", value: |run| run.ns_per_store, worst: FigureRow::highest },
];

/// The runs of all caches over one trace: by cache, ours first, then by round.
struct TraceRuns {
    pattern: Pattern,
    runs: Vec<Vec<RunResult>>,
}

/// Measures one file. The overall rows come first, then those of each trace.
pub(crate) fn rows(
    file: &str,
    pages: &Pages,
    spec: &PoolSpec,
    size: RunSize,
) -> Result<Vec<FigureRow>, Failure> {
    let traces = Pattern::ALL
        .into_iter()
        .map(|pattern| {
            eprintln!("{file}: {}", pattern.name());
            TraceRuns::measure(pattern, pages, spec, size)
        })
        .collect::<Result<Vec<TraceRuns>, Failure>>()?;
    let mut rows = Vec::new();
    for (at, rival) in RIVALS.iter().enumerate() {
        for measure in &MEASURES {
            let ratios = traces.iter().flat_map(|trace| trace.ratios(at + 1, measure.value));
            let name = format!("{}_over_{rival}", measure.name);
            rows.push((measure.worst)(file, &name, spread(ratios)?));
        }
    }
    for trace in &traces {
        rows.extend(trace.rows(file)?);
    }
    Ok(rows)
}

impl TraceRuns {
    /// Calibrates each rival, then runs all caches in rounds, one after another.
    fn measure(
        pattern: Pattern,
        pages: &Pages,
        spec: &PoolSpec,
        size: RunSize,
    ) -> Result<TraceRuns, Failure> {
        let run = |cache, entry_bytes| CacheRun {
            cache,
            spec,
            pattern,
            size,
            capacity: size.limit(),
            entry_bytes,
        };
        let mut caches = vec![run("ours", 0)];
        let target = caches[0].start(pages)?.resident_bytes;
        let lz4_bytes = mean_lz4_bytes(pages);
        for rival in RIVALS {
            let plain = rival.ends_with("_plain");
            let entry_bytes = if plain { PAGE.get() as u64 } else { lz4_bytes };
            caches.push(calibrated(run(rival, entry_bytes), target, pages)?);
        }
        let mut runs = vec![Vec::new(); caches.len()];
        for _ in 0..size.rounds() {
            for (cache, runs) in caches.iter().zip(&mut runs) {
                runs.push(cache.start(pages)?);
            }
        }
        Ok(TraceRuns { pattern, runs })
    }

    /// Returns our value over that of a rival, per round.
    fn ratios(&self, rival: usize, value: fn(&RunResult) -> f64) -> impl Iterator<Item = f64> {
        self.runs[0].iter().zip(&self.runs[rival]).map(move |(ours, its)| value(ours) / value(its))
    }

    fn rows(&self, file: &str) -> Result<Vec<FigureRow>, Failure> {
        let trace = self.pattern.name();
        let mut rows = Vec::new();
        for (at, rival) in RIVALS.iter().enumerate() {
            for measure in &MEASURES {
                let name = format!("{}_over_{rival}_{trace}", measure.name);
                let ratios = spread(self.ratios(at + 1, measure.value))?;
                rows.push(FigureRow::median(file, &name, ratios));
            }
            // The other way round, because this one should be 1.
            let resident = self.ratios(at + 1, |run| run.resident_bytes).map(|ratio| 1.0 / ratio);
            let name = format!("{rival}_resident_over_ours_{trace}");
            rows.push(FigureRow::median(file, &name, spread(resident)?));
        }
        for (cache, runs) in ["ours"].iter().chain(&RIVALS).zip(&self.runs) {
            let resident = spread(runs.iter().map(|run| run.resident_bytes))?;
            rows.push(FigureRow::median(file, &format!("{cache}_bytes_{trace}"), resident));
            for measure in &MEASURES {
                let name = format!("{cache}_{}_{trace}", measure.name);
                rows.push(FigureRow::median(file, &name, spread(runs.iter().map(measure.value))?));
            }
        }
        Ok(rows)
    }
}

fn spread(values: impl IntoIterator<Item = f64>) -> Result<Spread, Failure> {
    Spread::of(values).ok_or_else(|| "a cache had no entry, or no hit".into())
}

/// Returns the mean length of a page after lz4.
fn mean_lz4_bytes(pages: &Pages) -> u64 {
    let mut out = vec![0; get_maximum_output_size(PAGE.get())];
    let shortened = |page: &[u8]| {
        compress_into(page, &mut out).expect("a buffer of the bound").min(PAGE.get()) as u64
    };
    pages.iter().map(shortened).sum::<u64>() / pages.len().max(1) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(entries: f64, ns_per_hit: f64) -> RunResult {
        let resident_bytes = 4096.0;
        RunResult { resident_bytes, entries, hit_ratio: 0.5, ns_per_hit, ns_per_store: 1.0 }
    }

    /// Ratios are ours over the rival's, round by round.
    #[test]
    fn ratios_are_ours_over_rivals() {
        let mut runs = vec![vec![run(30.0, 3.0), run(20.0, 1.0)]];
        runs.extend(vec![vec![run(10.0, 1.0), run(10.0, 2.0)]; RIVALS.len()]);
        let rows = TraceRuns { pattern: Pattern::Scan, runs }.rows("a").unwrap();
        let find = |name: &str| rows.iter().find(|row| row.name == name).unwrap();
        assert_eq!(find("entries_over_moka_scan").value, 2.5);
        assert_eq!(find("ns_per_hit_over_foyer_plain_scan").range, [0.5, 3.0]);
        assert_eq!(find("quick_cache_resident_over_ours_scan").value, 1.0);
        assert_eq!(find("ours_entries_scan").range, [20.0, 30.0]);
        assert!(rows.iter().all(|row| row.file == "a"));
    }
}
