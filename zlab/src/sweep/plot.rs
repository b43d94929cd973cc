//! Draws the chart: bytes against time, in two panels.
//!
//! We write the SVG by hand. Two panels with some fifty circles and a line each are less code than
//! the setup of a plotting library, and no library that we looked at follows the reader's light or
//! dark scheme.

use std::fmt::Write;

use super::grid::Family;
use super::measure::Point;
use super::recommendation::Recommendation;

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 520.0;
const TOP: f64 = 88.0;
const BOTTOM: f64 = HEIGHT - 56.0;
/// The left and right edge of each panel.
const PANELS: [(f64, f64); 2] = [(64.0, 474.0), (530.0, 940.0)];

const STYLE: &str = "
  svg { background: #ffffff; font: 13px system-ui, sans-serif; }
  text { fill: #1f2328; }
  .dim { fill: #59636e; font-size: 11px; } .title { font-size: 16px; font-weight: 600; }
  .axis { stroke: #59636e; } .grid { stroke: #d1d9e0; stroke-width: 0.6; }
  .front { fill: none; stroke: #59636e; stroke-width: 1.2; stroke-dasharray: 4 3; }
  .lz4 { fill: #0969da; } .lzo { fill: #bf8700; }
  .pagelz { fill: #8250df; } .zstd { fill: #1a7f37; } .dictionary { fill: #cf222e; }
  .pick { fill: none; stroke: #1f2328; stroke-width: 1.8; }
  .leader { stroke: #1f2328; stroke-width: 0.8; }
  @media (prefers-color-scheme: dark) {
    svg { background: #0d1117; } text { fill: #f0f6fc; } .dim { fill: #9198a1; }
    .axis { stroke: #9198a1; } .grid { stroke: #3d444d; } .front { stroke: #9198a1; }
    .lz4 { fill: #58a6ff; } .lzo { fill: #e3b341; }
    .pagelz { fill: #a371f7; } .zstd { fill: #56d364; } .dictionary { fill: #ff7b72; }
    .pick { stroke: #f0f6fc; } .leader { stroke: #f0f6fc; }
  }
";

/// Draws all points, the front and the recommendation.
pub(super) fn svg(points: &[Point], recommendation: &Recommendation) -> String {
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         width=\"{WIDTH}\" height=\"{HEIGHT}\" role=\"img\">\n\
         <title>Bytes held for a KiB of input against the time to load and to store it</title>\n\
         <style>{STYLE}</style>\n\
         <text class=\"title\" x=\"{x}\" y=\"26\">\
         Bytes held for each KiB of input, against time</text>\n",
        x = PANELS[0].0
    );
    legend(&mut svg);
    let wanted = points.first().map_or(0, |point| point.wanted);
    let load = format!("load {wanted} bytes (whole blocks), us");
    let times: [(&str, TimeOf); 2] = [
        (&load, |point| point.load_ns() / 1000.0),
        ("store a KiB, us", |point| point.store_ns_per_kib / 1000.0),
    ];
    let bytes = Scale::around(points.iter().map(|point| point.bytes_per_kib), (BOTTOM, TOP));
    for ((label, time), sides) in times.into_iter().zip(PANELS) {
        let times = Scale::around(points.iter().map(time), sides);
        Panel { points, recommendation, time, times, bytes, sides }.draw(&mut svg, label);
    }
    svg.push_str("</svg>\n");
    svg
}

/// The time that a panel shows.
type TimeOf = fn(&Point) -> f64;

/// Explains the colors and sizes.
fn legend(svg: &mut String) {
    let families = [Family::Lz4, Family::Lzo, Family::Pagelz, Family::Zstd, Family::ZstdDictionary];
    for (i, family) in families.into_iter().enumerate() {
        let x = PANELS[0].0 + 6.0 + i as f64 * 92.0;
        add(
            svg,
            format_args!("<circle class=\"{}\" cx=\"{x}\" cy=\"46\" r=\"5\"/>", class(family)),
        );
        add(svg, format_args!("<text x=\"{}\" y=\"50\">{}</text>", x + 10.0, name(family)));
    }
    add(
        svg,
        format_args!(
            "<text class=\"dim\" x=\"{}\" y=\"70\">a larger circle is a larger block, 1 to 64 KiB; \
             dashed: what nothing beats in this panel; ringed: recommended; \
             both axes are logarithmic</text>",
            PANELS[0].0
        ),
    );
}

/// One time against bytes.
struct Panel<'a> {
    points: &'a [Point],
    recommendation: &'a Recommendation,
    time: TimeOf,
    times: Scale,
    bytes: Scale,
    sides: (f64, f64),
}

impl Panel<'_> {
    fn draw(&self, svg: &mut String, label: &str) {
        let (left, right) = self.sides;
        for tick in self.times.ticks() {
            let x = self.times.at(tick);
            add(
                svg,
                format_args!(
                    "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" \
                     y1=\"{TOP}\" y2=\"{BOTTOM}\"/>"
                ),
            );
            add(
                svg,
                format_args!(
                    "<text class=\"dim\" text-anchor=\"middle\" \
                     x=\"{x:.1}\" y=\"{}\">{tick}</text>",
                    BOTTOM + 16.0
                ),
            );
        }
        for tick in self.bytes.ticks() {
            let y = self.bytes.at(tick);
            add(
                svg,
                format_args!(
                    "<line class=\"grid\" x1=\"{left}\" x2=\"{right}\" \
                     y1=\"{y:.1}\" y2=\"{y:.1}\"/>"
                ),
            );
            add(
                svg,
                format_args!(
                    "<text class=\"dim\" text-anchor=\"end\" x=\"{}\" y=\"{:.1}\">{tick}</text>",
                    left - 6.0,
                    y + 4.0
                ),
            );
        }
        add(
            svg,
            format_args!(
                "<path class=\"axis\" fill=\"none\" d=\"M{left} {TOP}V{BOTTOM}H{right}\"/>"
            ),
        );
        add(
            svg,
            format_args!(
                "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{label}</text>",
                f64::midpoint(left, right),
                BOTTOM + 40.0
            ),
        );
        self.front(svg);
        for point in self.points {
            let (x, y) = self.place(point);
            add(
                svg,
                format_args!(
                    "<circle class=\"{}\" fill-opacity=\"0.75\" \
                     cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{:.1}\"/>",
                    class(point.family),
                    radius(point)
                ),
            );
        }
        self.picks(svg);
    }

    /// Draws a line through the points that no other beats in this panel.
    fn front(&self, svg: &mut String) {
        let mut by_time: Vec<&Point> = self.points.iter().collect();
        by_time.sort_by(|a, b| (self.time)(a).total_cmp(&(self.time)(b)));
        let mut fewest = f64::INFINITY;
        let mut path = String::new();
        for point in by_time {
            if point.bytes_per_kib < fewest {
                fewest = point.bytes_per_kib;
                let (x, y) = self.place(point);
                let step = if path.is_empty() { 'M' } else { 'L' };
                write!(path, "{step}{x:.1} {y:.1}").expect("a string takes it");
            }
        }
        add(svg, format_args!("<path class=\"front\" d=\"{path}\"/>"));
    }

    /// Draws rings around the recommended points and lists their names in the empty corner above
    /// the slow end of the front.
    fn picks(&self, svg: &mut String) {
        let (_, right) = self.sides;
        for (row, (name, i, _)) in self.recommendation.named().into_iter().enumerate() {
            let point = &self.points[i];
            let (x, y) = self.place(point);
            let (text_x, text_y) = (right - 4.0, TOP + 14.0 + row as f64 * 34.0);
            let size = point.block_size / 1024;
            add(
                svg,
                format_args!(
                    "<circle class=\"pick\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{:.1}\"/>",
                    radius(point) + 4.0
                ),
            );
            add(
                svg,
                format_args!(
                    "<text text-anchor=\"end\" x=\"{text_x}\" y=\"{text_y}\" \
                     font-weight=\"600\">{} {name}</text>",
                    row + 1
                ),
            );
            add(
                svg,
                format_args!(
                    "<text class=\"dim\" text-anchor=\"end\" x=\"{text_x}\" y=\"{}\">\
                     {}, {size} KiB blocks</text>",
                    text_y + 14.0,
                    point.compressor
                ),
            );
            add(
                svg,
                format_args!(
                    "<text font-weight=\"600\" text-anchor=\"middle\" \
                     x=\"{x:.1}\" y=\"{:.1}\">{}</text>",
                    y - radius(point) - 8.0,
                    row + 1
                ),
            );
        }
    }

    fn place(&self, point: &Point) -> (f64, f64) {
        (self.times.at((self.time)(point)), self.bytes.at(point.bytes_per_kib))
    }
}

/// A logarithmic axis.
#[derive(Debug, Clone, Copy)]
struct Scale {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Scale {
    /// Creates the axis from `ends.0` to `ends.1`, with a margin on both sides of the values.
    fn around(values: impl Iterator<Item = f64>, ends: (f64, f64)) -> Scale {
        let (low, high) =
            values.fold((f64::INFINITY, 0.0_f64), |(low, high), v| (low.min(v), high.max(v)));
        Scale { low: low.max(1e-3) / 1.12, high: high.max(2e-3) * 1.12, from: ends.0, to: ends.1 }
    }

    fn at(&self, value: f64) -> f64 {
        let share = (value.max(1e-3) / self.low).ln() / (self.high / self.low).ln();
        self.from + share * (self.to - self.from)
    }

    /// Returns round numbers inside: 1, 2, 5, and if those are few, also 3, 4, 6 and 8.
    fn ticks(&self) -> Vec<f64> {
        let of = |steps: &[u32]| -> Vec<f64> {
            let decades = -3..6;
            let all = decades.flat_map(|d| {
                steps
                    .iter()
                    .map(move |&s| (f64::from(s) * 10_f64.powi(d) * 1000.0).round() / 1000.0)
            });
            all.filter(|&tick| tick > self.low && tick < self.high).collect()
        };
        let few = of(&[1, 2, 5]);
        if few.len() >= 4 { few } else { of(&[1, 2, 3, 4, 5, 6, 8]) }
    }
}

/// Returns the radius of a point: one pixel more for each doubling.
fn radius(point: &Point) -> f64 {
    (point.block_size as f64 / 1024.0).log2() + 2.5
}

fn class(family: Family) -> &'static str {
    match family {
        Family::Lz4 => "lz4",
        Family::Lzo => "lzo",
        Family::Pagelz => "pagelz",
        Family::Zstd => "zstd",
        Family::ZstdDictionary => "dictionary",
    }
}

fn name(family: Family) -> &'static str {
    match family {
        Family::ZstdDictionary => "zstd+dictionary",
        family => class(family),
    }
}

fn add(svg: &mut String, element: std::fmt::Arguments<'_>) {
    writeln!(svg, "{element}").expect("a string takes it");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(bytes: f64, ns: f64, block_size: usize) -> Point {
        let compressor = "zstd(level=1,dict=DICT)".to_owned();
        Point {
            compressor,
            family: Family::ZstdDictionary,
            block_size,
            bytes_per_kib: bytes,
            store_ns_per_kib: ns,
            load_ns_per_kib: ns / 3.0,
            wanted: 4096,
        }
    }

    /// Every point is drawn inside its panel.
    #[test]
    fn points_are_inside_their_panel() {
        let points =
            [point(400.0, 700.0, 1024), point(200.0, 90_000.0, 65_536), point(250.0, 3000.0, 4096)];
        let svg = svg(&points, &Recommendation::of(&points));
        // Twice three points, twice three rings, five in the legend.
        assert_eq!(svg.matches("<circle").count(), 17);
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

    #[test]
    fn an_axis_has_round_ticks_inside() {
        let scale = Scale::around([150.0, 420.0].into_iter(), (0.0, 100.0));
        assert_eq!(scale.ticks(), [200.0, 300.0, 400.0]);
        assert!(scale.ticks().iter().all(|&tick| (0.0..100.0).contains(&scale.at(tick))));
        assert!(Scale::around([0.4, 200.0].into_iter(), (0.0, 1.0)).ticks().contains(&0.5));
    }
}
