//! Formats bytes and nanoseconds for people: three significant digits and a unit.

/// Formats `bytes` in binary units: `0 B`, `1023 B`, `1.00 KiB`, `17.3 MiB`, `2.50 GiB`.
pub fn format_bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    scaled(bytes as f64 / 1024.0, 1024.0, &UNITS)
}

/// Formats `ns` nanoseconds in the unit that keeps the number below 1000: `250 ns`, `1.70 µs`,
/// `16.0 ms`, `2.50 s`.
///
/// Negative and non-finite values are printed as they are, in nanoseconds.
pub fn format_ns(ns: f64) -> String {
    const UNITS: [&str; 4] = ["ns", "µs", "ms", "s"];
    if !ns.is_finite() || ns < 0.0 {
        return format!("{ns} ns");
    }
    scaled(ns, 1000.0, &UNITS)
}

/// Formats three significant digits of `value`, in the first of `units` in which it prints as less
/// than `step`.
fn scaled(mut value: f64, step: f64, units: &[&str]) -> String {
    let mut unit = 0;
    // Take half of the last printed digit off the limit, so that 1023.9996 KiB moves up a unit
    // instead of printing as 1024 KiB.
    while value >= step - 0.5 && unit + 1 < units.len() {
        value /= step;
        unit += 1;
    }
    let decimals = match value {
        v if v >= 99.95 => 0,
        v if v >= 9.995 => 1,
        _ => 2,
    };
    format!("{value:.decimals$} {}", units[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes have three digits and a binary unit.
    #[test]
    fn bytes_have_three_digits() {
        let cases = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.00 KiB"),
            (4096, "4.00 KiB"),
            (18_140_365, "17.3 MiB"),
            (64 << 20, "64.0 MiB"),
            ((1 << 20) - 1, "1.00 MiB"),
            (5 << 29, "2.50 GiB"),
            (u64::MAX, "16.0 EiB"),
        ];
        for (bytes, text) in cases {
            assert_eq!(format_bytes(bytes), text);
        }
    }

    #[test]
    fn nanoseconds_choose_their_unit() {
        let cases = [
            (0.0, "0.00 ns"),
            (250.0, "250 ns"),
            (999.9, "1.00 µs"),
            (1_700.0, "1.70 µs"),
            (99_960.0, "100 µs"),
            (16_000_000.0, "16.0 ms"),
            (2.5e9, "2.50 s"),
            (7.2e12, "7200 s"),
        ];
        for (ns, text) in cases {
            assert_eq!(format_ns(ns), text);
        }
        assert_eq!(format_ns(f64::NAN), "NaN ns");
        assert_eq!(format_ns(-3.0), "-3 ns");
    }
}
