//! Sizes on the command line.

/// Units and their bytes, the longer names first.
const UNITS: [(&str, usize); 7] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("G", 1 << 30),
    ("M", 1 << 20),
    ("K", 1 << 10),
    ("B", 1),
];

/// Returns the bytes of a size such as `512MiB`, `2G` or `4096`.
///
/// # Errors
///
/// A text that says what a size looks like.
pub fn parse_size(text: &str) -> Result<usize, String> {
    let (number, unit) = UNITS
        .iter()
        .find_map(|(unit, bytes)| Some((text.strip_suffix(unit)?, *bytes)))
        .unwrap_or((text, 1));
    number
        .trim()
        .parse::<usize>()
        .ok()
        .and_then(|number| number.checked_mul(unit))
        .ok_or_else(|| format!("`{text}` is not a size: write one such as 512MiB or 2GiB"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_with_each_unit() {
        assert_eq!(parse_size("512MiB"), Ok(512 << 20));
        assert_eq!(parse_size("2G"), Ok(2 << 30));
        assert_eq!(parse_size("3 KiB"), Ok(3072));
        assert_eq!(parse_size("4096"), Ok(4096));
        for wrong in ["", "MiB", "-1", "1.5G", "99999999999G", "x"] {
            assert!(parse_size(wrong).is_err(), "{wrong}");
        }
    }
}
