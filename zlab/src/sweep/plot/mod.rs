//! Draws the chart: bytes against time, in two panels.
//!
//! ```text
//!   title
//!   legend: shapes, sizes, ring, dashes          once for both panels
//!   ┌ panel: load ─┐  ┌ panel: store ┐
//!   └──────────────┘  └──────────────┘
//!   1 fast   2 balanced   3 small                once for both panels
//! ```
//!
//! We write the SVG by hand. Two panels with some fifty marks and a line each are less code than
//! the setup of a plotting library, and no library that we looked at follows the reader's light or
//! dark scheme.
//!
//! The colours are those of Okabe and Ito ("Color universal design", 2008), lighter on a dark
//! ground. Shapes carry the same information.

mod marks;
mod panel;
mod scale;

use std::fmt::Write;

use super::measure::Point;
use super::recommendation::Recommendation;
use marks::{FAMILIES, mark, name, radius};
use panel::{Panel, TimeOf};
use scale::Scale;

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 580.0;
const TOP: f64 = 96.0;
const BOTTOM: f64 = HEIGHT - 108.0;
/// The left and right edge of each panel.
const PANELS: [(f64, f64); 2] = [(72.0, 466.0), (540.0, 934.0)];
const LEFT: f64 = 28.0;

const STYLE: &str = "
  svg { background: #ffffff; font: 13px system-ui, sans-serif; }
  text { fill: #1f2328; }
  .dim { fill: #59636e; font-size: 11px; } .title { font-size: 16px; font-weight: 600; }
  .good { fill: #59636e; font-style: italic; } .name, .number { font-weight: 600; }
  .axis { fill: none; stroke: #59636e; } .grid { fill: none; stroke: #d1d9e0; stroke-width: 0.6; }
  .front { fill: none; stroke: #59636e; stroke-width: 1.2; stroke-dasharray: 4 3; }
  .mark { fill-opacity: 0.8; stroke: #ffffff; stroke-width: 0.7; }
  .lz4 { fill: #0072b2; } .lzo { fill: #e69f00; }
  .pagelz { fill: #b2578c; } .zstd { fill: #009e73; } .dictionary { fill: #d55e00; }
  .pick { fill: none; stroke: #1f2328; stroke-width: 1.8; }
  @media (prefers-color-scheme: dark) {
    svg { background: #0d1117; } text { fill: #f0f6fc; } .dim, .good { fill: #9198a1; }
    .axis { stroke: #9198a1; } .grid { stroke: #3d444d; } .front { stroke: #9198a1; }
    .mark { stroke: #0d1117; }
    .lz4 { fill: #56b4e9; } .lzo { fill: #f0c04a; }
    .pagelz { fill: #e3a0c6; } .zstd { fill: #2fc79b; } .dictionary { fill: #ff8a4c; }
    .pick { stroke: #f0f6fc; }
  }
";

/// Draws all points, the front and the recommendation.
pub(super) fn svg(points: &[Point], recommendation: &Recommendation) -> String {
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         width=\"{WIDTH}\" height=\"{HEIGHT}\" role=\"img\">\n\
         <title>Bytes held per KiB of input against the time to load and to store it</title>\n\
         <style>{STYLE}</style>\n\
         <text class=\"title\" x=\"{LEFT}\" y=\"26\">\
         Bytes held per KiB of input, against time (both on logarithmic scales)</text>\n"
    );
    legend(&mut svg);
    let wanted = points.first().map_or(0, |point| point.wanted);
    let load = format!("µs to load {wanted} bytes, in whole blocks");
    let times: [(&str, TimeOf); 2] = [
        (&load, |point| point.load_ns() / 1000.0),
        ("µs to store a KiB", |point| point.store_ns_per_kib / 1000.0),
    ];
    let bytes = Scale::around(points.iter().map(|point| point.bytes_per_kib), (BOTTOM, TOP));
    for ((label, time), sides) in times.into_iter().zip(PANELS) {
        let times = Scale::around(points.iter().map(time), sides);
        Panel { points, recommendation, time, times, bytes, sides }.draw(&mut svg, label);
    }
    picks(&mut svg, points, recommendation);
    svg.push_str("</svg>\n");
    svg
}

/// Explains shapes, sizes, the ring and the dashes.
fn legend(svg: &mut String) {
    for (family, x) in FAMILIES.into_iter().zip([36.0, 96.0, 156.0, 234.0, 298.0]) {
        let mark = mark(family, x, 50.0, 6.0);
        add(svg, format_args!("{mark}<text x=\"{}\" y=\"54.5\">{}</text>", x + 12.0, name(family)));
    }
    let mut x = 500.0;
    for block_size in [1 << 10, 4 << 10, 16 << 10, 64 << 10] {
        let (radius, kib) = (radius(block_size), block_size >> 10);
        add(
            svg,
            format_args!(
                "<circle class=\"axis\" cx=\"{x}\" cy=\"50\" r=\"{radius:.1}\"/>\
                 <text class=\"dim\" x=\"{}\" y=\"54\">{kib} KiB{}</text>",
                x + radius + 5.0,
                if kib == 64 { " blocks" } else { "" }
            ),
        );
        x += 62.0 + radius;
    }
    add(
        svg,
        format_args!(
            "<path class=\"front\" d=\"M{LEFT} 76H58\"/>\
             <text class=\"dim\" x=\"66\" y=\"80\">Pareto front: no setting is both smaller and \
             faster in this panel</text>\
             <circle class=\"pick\" cx=\"506\" cy=\"76\" r=\"6\"/>\
             <text class=\"dim\" x=\"518\" y=\"80\">recommended, see below</text>"
        ),
    );
}

/// Names the recommended settings, below the panels.
fn picks(svg: &mut String, points: &[Point], recommendation: &Recommendation) {
    let named = recommendation.named();
    for (number, (name, i, _)) in (1..).zip(named) {
        let point = &points[i];
        let x = LEFT + f64::from(number - 1) * 310.0;
        add(
            svg,
            format_args!(
                "<text class=\"name\" x=\"{x}\" y=\"{}\">{number} {name}</text>\
                 <text class=\"dim\" x=\"{x}\" y=\"{}\">{}, blocks of {} KiB</text>",
                HEIGHT - 34.0,
                HEIGHT - 17.0,
                point.compressor,
                point.block_size as f64 / 1024.0
            ),
        );
    }
}

fn add(svg: &mut String, element: std::fmt::Arguments<'_>) {
    writeln!(svg, "{element}").expect("a string takes any text");
}

#[cfg(test)]
mod tests {
    use super::super::grid::Family;
    use super::*;

    fn point(bytes: f64, ns: f64, block_size: usize, family: Family) -> Point {
        let compressor = "zstd(level=1,dict=DICT)".to_owned();
        Point {
            compressor,
            family,
            block_size,
            bytes_per_kib: bytes,
            store_ns_per_kib: ns,
            load_ns_per_kib: ns / 3.0,
            wanted: 4096,
        }
    }

    fn chart() -> String {
        let points = [
            point(400.0, 700.0, 1024, Family::Lz4),
            point(200.0, 90_000.0, 65_536, Family::ZstdDictionary),
            point(250.0, 3000.0, 4096, Family::Lz4),
        ];
        svg(&points, &Recommendation::of(&points))
    }

    /// Every point is drawn inside its panel.
    #[test]
    fn points_are_inside_their_panel() {
        let svg = chart();
        // Each point twice, and each family once in the legend.
        assert_eq!(svg.matches("\"mark ").count(), 2 * 3 + FAMILIES.len());
        assert_eq!(svg.matches("<svg").count(), svg.matches("</svg>").count());
        for part in svg.split("cx=\"").skip(1) {
            let x: f64 = part[..part.find('"').unwrap()].parse().unwrap();
            assert!((0.0..WIDTH).contains(&x), "{x}");
        }
        for part in svg.split("cy=\"").skip(1) {
            let y: f64 = part[..part.find('"').unwrap()].parse().unwrap();
            assert!((0.0..=BOTTOM).contains(&y), "{y}");
        }
    }

    /// Both axes of both panels have labels with units, and nothing is explained twice.
    #[test]
    fn chart_explains_itself_once() {
        let svg = chart();
        for (text, times) in [
            ("bytes held per KiB of input</text>", 2),
            ("µs to ", 2),
            ("lower left is better", 2),
            ("Pareto front", 1),
            ("zstd with a dictionary", 1),
            ("1 fast", 1),
            ("3 small", 1),
            ("class=\"number\"", 6),
        ] {
            assert_eq!(svg.matches(text).count(), times, "{text}");
        }
    }
}
