//! One panel: bytes against one of the times.

use std::fmt::Write;

use super::super::measure::Point;
use super::super::recommendation::Recommendation;
use super::marks::{mark, radius};
use super::scale::Scale;
use super::{BOTTOM, TOP, add};

/// The time that a panel shows.
pub(super) type TimeOf = fn(&Point) -> f64;

pub(super) struct Panel<'a> {
    pub(super) points: &'a [Point],
    pub(super) recommendation: &'a Recommendation,
    pub(super) time: TimeOf,
    pub(super) times: Scale,
    pub(super) bytes: Scale,
    pub(super) sides: (f64, f64),
}

impl Panel<'_> {
    /// Draws axes, the front, the points and the recommendation.
    pub(super) fn draw(&self, svg: &mut String, time: &str) {
        self.grid(svg);
        self.axes(svg, time);
        self.front(svg);
        // Large marks first, so that they hide no small one.
        let mut points: Vec<&Point> = self.points.iter().collect();
        points.sort_by_key(|point| std::cmp::Reverse(point.block_size));
        for point in points {
            let (x, y) = self.place(point);
            add(svg, format_args!("{}", mark(point.family, x, y, radius(point.block_size))));
        }
        self.picks(svg);
    }

    fn grid(&self, svg: &mut String) {
        let (left, right) = self.sides;
        for tick in self.times.ticks() {
            let (x, below) = (self.times.at(tick), BOTTOM + 16.0);
            add(
                svg,
                format_args!(
                    "<path class=\"grid\" d=\"M{x:.1} {TOP}V{BOTTOM}\"/>\
                     <text class=\"dim\" text-anchor=\"middle\" x=\"{x:.1}\" y=\"{below}\">\
                     {tick}</text>"
                ),
            );
        }
        for tick in self.bytes.ticks() {
            let (y, beside) = (self.bytes.at(tick), left - 6.0);
            add(
                svg,
                format_args!(
                    "<path class=\"grid\" d=\"M{left} {y:.1}H{right}\"/>\
                     <text class=\"dim\" text-anchor=\"end\" x=\"{beside}\" y=\"{:.1}\">\
                     {tick}</text>",
                    y + 4.0
                ),
            );
        }
    }

    /// Draws the axes with their labels, and says where the good corner is.
    fn axes(&self, svg: &mut String, time: &str) {
        let (left, right) = self.sides;
        let (x, y) = (f64::midpoint(left, right), f64::midpoint(TOP, BOTTOM));
        let beside = left - 44.0;
        add(
            svg,
            format_args!(
                "<path class=\"axis\" d=\"M{left} {TOP}V{BOTTOM}H{right}\"/>\
                 <text x=\"{x}\" y=\"{}\" text-anchor=\"middle\">{time}</text>\
                 <text transform=\"translate({beside} {y}) rotate(-90)\" text-anchor=\"middle\">\
                 bytes held per KiB of input</text>\
                 <text class=\"good\" x=\"{}\" y=\"{}\">↙ lower left is better</text>",
                BOTTOM + 38.0,
                left + 10.0,
                BOTTOM - 12.0
            ),
        );
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
                write!(path, "{step}{x:.1} {y:.1}").expect("a string takes any text");
            }
        }
        add(svg, format_args!("<path class=\"front\" d=\"{path}\"/>"));
    }

    /// Draws a ring around each recommended point, with its number.
    fn picks(&self, svg: &mut String) {
        let mut drawn: Vec<usize> = Vec::new();
        for (number, (_, i, _)) in (1..).zip(self.recommendation.named()) {
            let point = &self.points[i];
            let (x, y) = self.place(point);
            let ring = radius(point.block_size) + 4.0;
            // Of one point that is recommended twice, the numbers stand side by side.
            let shift = 10.0 * drawn.iter().filter(|&&other| other == i).count() as f64;
            drawn.push(i);
            add(
                svg,
                format_args!(
                    "<circle class=\"pick\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{ring:.1}\"/>\
                     <text class=\"number\" x=\"{:.1}\" y=\"{:.1}\">{number}</text>",
                    x + ring * 0.7 + 2.0 + shift,
                    y - ring * 0.7 - 2.0
                ),
            );
        }
    }

    fn place(&self, point: &Point) -> (f64, f64) {
        (self.times.at((self.time)(point)), self.bytes.at(point.bytes_per_kib))
    }
}
