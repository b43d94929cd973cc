//! Draws the chart: bytes held for each share of hot blocks, as bars.

use std::fmt::Write;

use workload::format_bytes;

use super::report::ColdPoolReport;

const WIDTH: f64 = 640.0;
const LEFT: f64 = 136.0;
const RIGHT: f64 = WIDTH - 150.0;
const TOP: f64 = 72.0;
/// The distance from one bar to the next, and the height of a bar.
const ROW: f64 = 40.0;
const BAR: f64 = 24.0;

const STYLE: &str = "
  svg { background: #ffffff; font: 13px system-ui, sans-serif; }
  text { fill: #1f2328; }
  .dim { fill: #59636e; font-size: 11px; } .title { font-size: 16px; font-weight: 600; }
  .plain { fill: #0969da; } .cold { fill: #8250df; }
  @media (prefers-color-scheme: dark) {
    svg { background: #0d1117; } text { fill: #f0f6fc; } .dim { fill: #9198a1; }
    .plain { fill: #58a6ff; } .cold { fill: #a371f7; }
  }
";

/// Draws a bar for the store without a cold pool, and one per share of hot blocks.
pub(super) fn svg(report: &ColdPoolReport) -> String {
    let rows = report.results.len() + 1;
    let height = TOP + rows as f64 * ROW + 16.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         width=\"{WIDTH}\" height=\"{height}\" role=\"img\">\n\
         <title>Bytes held with a pool for cold blocks</title>\n<style>{STYLE}</style>\n\
         <text class=\"title\" x=\"16\" y=\"26\">Bytes held with a pool for cold blocks</text>\n\
         <text class=\"dim\" x=\"16\" y=\"50\">{} for all blocks; {} for those that are not \
         hot</text>\n",
        report.hot, report.cold
    );
    let plain = report.plain.held_bytes;
    let most = report.results.iter().map(|row| row.held_bytes).fold(plain, usize::max).max(1);
    bar(&mut svg, 0, "alone", "plain", plain as f64 / most as f64, &held(plain, 1.0));
    for (row, measured) in (1..).zip(&report.results) {
        let label = format!("{} hot", measured.share());
        let text = held(measured.held_bytes, report.over_plain(measured));
        bar(&mut svg, row, &label, "cold", measured.held_bytes as f64 / most as f64, &text);
    }
    svg.push_str("</svg>\n");
    svg
}

fn held(bytes: usize, over_plain: f64) -> String {
    format!("{}, {over_plain:.2}", format_bytes(bytes as u64))
}

/// Draws one bar with its label and its value.
fn bar(svg: &mut String, row: usize, label: &str, class: &str, share: f64, value: &str) {
    let y = TOP + row as f64 * ROW;
    let (width, middle) = ((RIGHT - LEFT) * share, y + BAR / 2.0 + 4.0);
    writeln!(
        svg,
        "<text text-anchor=\"end\" x=\"{:.1}\" y=\"{middle:.1}\">{label}</text>\n\
         <rect class=\"{class}\" x=\"{LEFT}\" y=\"{y:.1}\" width=\"{width:.1}\" \
         height=\"{BAR}\" rx=\"3\"/>\n\
         <text x=\"{:.1}\" y=\"{middle:.1}\">{value}</text>",
        LEFT - 8.0,
        LEFT + width + 8.0
    )
    .expect("a string takes any text");
}
