//! The mark of a point. Each family of settings has a shape and a colour, so that the chart can be
//! read without telling colours apart. The area grows with the block size.

use std::fmt::Write;

use super::super::grid::Family;

pub(super) const FAMILIES: [Family; 5] =
    [Family::Lz4, Family::Lzo, Family::Pagelz, Family::Zstd, Family::ZstdDictionary];

/// Corners in units of the radius. An empty list is a circle.
const SQUARE: &[(f64, f64)] = &[(-0.89, -0.89), (0.89, -0.89), (0.89, 0.89), (-0.89, 0.89)];
const DIAMOND: &[(f64, f64)] = &[(0.0, -1.25), (1.25, 0.0), (0.0, 1.25), (-1.25, 0.0)];
const UP: &[(f64, f64)] = &[(0.0, -1.3), (1.22, 0.85), (-1.22, 0.85)];
const DOWN: &[(f64, f64)] = &[(0.0, 1.3), (-1.22, -0.85), (1.22, -0.85)];

fn corners(family: Family) -> &'static [(f64, f64)] {
    match family {
        Family::Lz4 => &[],
        Family::Lzo => SQUARE,
        Family::Pagelz => DIAMOND,
        Family::Zstd => UP,
        Family::ZstdDictionary => DOWN,
    }
}

/// Returns the class of the style sheet that has the colour.
fn class(family: Family) -> &'static str {
    match family {
        Family::Lz4 => "lz4",
        Family::Lzo => "lzo",
        Family::Pagelz => "pagelz",
        Family::Zstd => "zstd",
        Family::ZstdDictionary => "dictionary",
    }
}

/// Returns the name for the legend.
pub(super) fn name(family: Family) -> &'static str {
    match family {
        Family::ZstdDictionary => "zstd with a dictionary",
        family => class(family),
    }
}

/// Returns the radius for a block size: one pixel more for each doubling.
pub(super) fn radius(block_size: usize) -> f64 {
    (block_size as f64 / 1024.0).log2() + 3.0
}

/// Returns the mark of a family with its middle at `x` and `y`.
pub(super) fn mark(family: Family, x: f64, y: f64, radius: f64) -> String {
    let class = class(family);
    let corners = corners(family);
    if corners.is_empty() {
        return format!(
            "<circle class=\"mark {class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius:.1}\"/>"
        );
    }
    let mut path = String::new();
    for (i, (right, down)) in corners.iter().enumerate() {
        let step = if i == 0 { 'M' } else { 'L' };
        write!(path, "{step}{:.1} {:.1}", x + right * radius, y + down * radius)
            .expect("a string takes any text");
    }
    format!("<path class=\"mark {class}\" d=\"{path}Z\"/>")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No two families have the same shape, class or name.
    #[test]
    fn families_differ_in_shape_and_colour() {
        for (i, &a) in FAMILIES.iter().enumerate() {
            for &b in &FAMILIES[i + 1..] {
                assert_ne!(corners(a), corners(b));
                assert_ne!(class(a), class(b));
                assert_ne!(name(a), name(b));
            }
        }
    }

    #[test]
    fn larger_blocks_have_larger_marks() {
        assert!(radius(1024) < radius(4096) && radius(4096) < radius(65_536));
        assert!(mark(Family::Lz4, 1.0, 2.0, 3.0).contains("cx=\"1.0\" cy=\"2.0\" r=\"3.0\""));
        assert!(mark(Family::Lzo, 10.0, 10.0, 10.0).contains("M1.1 1.1L18.9 1.1"));
    }
}
