//! Settings that operators change, as text: `limit=512MiB time_to_live=10m spec=zsmalloc+lz4`.

use std::error::Error as StdError;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use zswap::PoolSpec;

/// Settings of a cache that a configuration may give, for
/// [`CacheBuilder::settings`](crate::CacheBuilder::settings). What is `None` stays as the builder
/// has it.
///
/// The text form is `name=value` pairs, separated by white space; the names are those of the
/// fields. With the feature `serde` it is a map of the same names, and the values are the same
/// texts, except for `pinned_percent`, which is a number.
///
/// ```
/// use zswap_cache::{Cache, CacheSettings};
///
/// let settings: CacheSettings = "limit=64MiB time_to_live=10m pinned_percent=10".parse()?;
/// let cache: Cache<u64> = Cache::builder().settings(&settings).build()?;
/// assert_eq!(cache.limit_bytes(), Some(64 << 20));
/// assert_eq!(settings.to_string().parse(), Ok(settings));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
#[non_exhaustive]
pub struct CacheSettings {
    /// Bytes that the cache may hold: [`limit_bytes`](crate::CacheBuilder::limit_bytes).
    pub limit: Option<ByteSize>,
    /// [`time_to_live`](crate::CacheBuilder::time_to_live).
    pub time_to_live: Option<TimeSpan>,
    /// [`time_to_idle`](crate::CacheBuilder::time_to_idle).
    pub time_to_idle: Option<TimeSpan>,
    /// [`max_wait`](crate::CacheBuilder::max_wait).
    pub max_wait: Option<TimeSpan>,
    /// [`pinned_percent`](crate::CacheBuilder::pinned_percent).
    pub pinned_percent: Option<u8>,
    /// [`block_size`](crate::CacheBuilder::block_size).
    pub block_size: Option<ByteSize>,
    /// [`max_value_len`](crate::CacheBuilder::max_value_len).
    pub max_value_len: Option<ByteSize>,
    /// [`spec`](crate::CacheBuilder::spec).
    #[cfg_attr(feature = "serde", serde(with = "spec_as_text"))]
    pub spec: Option<PoolSpec>,
}

/// The reason why a text is not a setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseSettingsError(String);

impl fmt::Display for ParseSettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl StdError for ParseSettingsError {}

impl FromStr for CacheSettings {
    type Err = ParseSettingsError;

    fn from_str(text: &str) -> Result<CacheSettings, ParseSettingsError> {
        let mut settings = CacheSettings::default();
        for pair in text.split_whitespace() {
            let (name, value) = pair
                .split_once('=')
                .ok_or_else(|| ParseSettingsError(format!("`{pair}`: write `name=value`")))?;
            match name {
                "limit" => set(&mut settings.limit, name, value)?,
                "time_to_live" => set(&mut settings.time_to_live, name, value)?,
                "time_to_idle" => set(&mut settings.time_to_idle, name, value)?,
                "max_wait" => set(&mut settings.max_wait, name, value)?,
                "pinned_percent" => set(&mut settings.pinned_percent, name, value)?,
                "block_size" => set(&mut settings.block_size, name, value)?,
                "max_value_len" => set(&mut settings.max_value_len, name, value)?,
                "spec" => set(&mut settings.spec, name, value)?,
                _ => {
                    return Err(ParseSettingsError(format!(
                        "`{name}` is not a setting: use `limit`, `time_to_live`, `time_to_idle`, \
                         `max_wait`, `pinned_percent`, `block_size`, `max_value_len` or `spec`"
                    )));
                }
            }
        }
        Ok(settings)
    }
}

/// Parses the value of a setting, which may be given once.
fn set<T: FromStr<Err: fmt::Display>>(
    setting: &mut Option<T>,
    name: &str,
    value: &str,
) -> Result<(), ParseSettingsError> {
    if setting.is_some() {
        return Err(ParseSettingsError(format!("`{name}` is given twice: leave one out")));
    }
    let parsed = value.parse();
    *setting =
        Some(parsed.map_err(|error| ParseSettingsError(format!("`{name}={value}`: {error}")))?);
    Ok(())
}

impl fmt::Display for CacheSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings: [(&str, Option<&dyn fmt::Display>); 8] = [
            ("limit", shown(&self.limit)),
            ("time_to_live", shown(&self.time_to_live)),
            ("time_to_idle", shown(&self.time_to_idle)),
            ("max_wait", shown(&self.max_wait)),
            ("pinned_percent", shown(&self.pinned_percent)),
            ("block_size", shown(&self.block_size)),
            ("max_value_len", shown(&self.max_value_len)),
            ("spec", shown(&self.spec)),
        ];
        let mut separator = "";
        for (name, value) in settings {
            if let Some(value) = value {
                write!(f, "{separator}{name}={value}")?;
                separator = " ";
            }
        }
        Ok(())
    }
}

fn shown<T: fmt::Display>(setting: &Option<T>) -> Option<&dyn fmt::Display> {
    setting.as_ref().map(|setting| setting as &dyn fmt::Display)
}

/// A number of bytes, written `512`, `64KiB`, `1.5GiB` and so on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "String", into = "String"))]
pub struct ByteSize(usize);

impl ByteSize {
    /// Makes a size from a number of bytes.
    pub const fn new(bytes: usize) -> ByteSize {
        ByteSize(bytes)
    }

    /// Returns the number of bytes.
    pub const fn bytes(self) -> usize {
        self.0
    }
}

/// Units of bytes, the longest names first: `B` ends all of them.
const BYTE_UNITS: [(&str, u128); 5] =
    [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

impl FromStr for ByteSize {
    type Err = ParseSettingsError;

    fn from_str(text: &str) -> Result<ByteSize, ParseSettingsError> {
        let wrong = || {
            ParseSettingsError(format!(
                "`{text}` is not a size: write a number and B, KiB, MiB, GiB or TiB, such as 64MiB"
            ))
        };
        let bytes = parse_unit(text, &BYTE_UNITS, 1).ok_or_else(wrong)?;
        usize::try_from(bytes).map(ByteSize).map_err(|_| wrong())
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_unit(f, self.0 as u128, &BYTE_UNITS)
    }
}

/// A span of time, written `250ms`, `10s`, `1.5h` and so on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "String", into = "String"))]
pub struct TimeSpan(Duration);

impl TimeSpan {
    /// Makes a span from a duration, of which only whole milliseconds are written.
    pub const fn new(duration: Duration) -> TimeSpan {
        TimeSpan(duration)
    }

    /// Returns the duration.
    pub const fn duration(self) -> Duration {
        self.0
    }
}

/// Units of time in milliseconds: `ms` before those that end like it.
const TIME_UNITS: [(&str, u128); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("ms", 1), ("m", 60_000), ("s", 1000)];

impl FromStr for TimeSpan {
    type Err = ParseSettingsError;

    fn from_str(text: &str) -> Result<TimeSpan, ParseSettingsError> {
        let wrong = || {
            ParseSettingsError(format!(
                "`{text}` is not a time: write a number and ms, s, m, h or d, such as 10m"
            ))
        };
        let millis = parse_unit(text, &TIME_UNITS, 0).ok_or_else(wrong)?;
        let millis = u64::try_from(millis).map_err(|_| wrong())?;
        Ok(TimeSpan(Duration::from_millis(millis)))
    }
}

impl fmt::Display for TimeSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut units = TIME_UNITS;
        units.sort_by_key(|&(_, factor)| std::cmp::Reverse(factor));
        write_unit(f, self.0.as_millis(), &units)
    }
}

/// Parses a number, perhaps with a fraction, and a unit. Without a unit, the factor is `bare`, and
/// 0 means that there must be one.
fn parse_unit(text: &str, units: &[(&str, u128)], bare: u128) -> Option<u128> {
    let unit = units.iter().find_map(|(name, factor)| Some((text.strip_suffix(name)?, *factor)));
    let (number, factor) = unit.unwrap_or((text, bare));
    let (whole, fraction) = number.trim().split_once('.').unwrap_or((number.trim(), "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if factor == 0 || !digits(whole) || !digits(fraction) || fraction.len() > 9 {
        return None;
    }
    let scale = 10u128.pow(fraction.len() as u32);
    let whole = whole.parse::<u128>().ok()?.checked_mul(scale)?;
    Some(whole.checked_add(fraction.parse().ok()?)?.checked_mul(factor)? / scale)
}

/// Writes a number in the largest unit that it is a multiple of. `units` begins with the largest.
fn write_unit(f: &mut fmt::Formatter<'_>, number: u128, units: &[(&str, u128)]) -> fmt::Result {
    let fits = |&&(_, factor): &&(&str, u128)| number != 0 && number.is_multiple_of(factor);
    let (name, factor) = units.iter().find(fits).or(units.last()).copied().unwrap_or(("", 1));
    write!(f, "{}{name}", number / factor)
}

#[cfg(feature = "serde")]
mod spec_as_text {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};
    use zswap::PoolSpec;

    pub(super) fn serialize<S: Serializer>(
        spec: &Option<PoolSpec>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match spec {
            Some(spec) => serializer.collect_str(spec),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<PoolSpec>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| text.parse().map_err(D::Error::custom)).transpose()
    }
}

#[cfg(feature = "serde")]
mod as_text {
    use super::{ByteSize, ParseSettingsError, TimeSpan};

    impl TryFrom<String> for ByteSize {
        type Error = ParseSettingsError;
        fn try_from(text: String) -> Result<ByteSize, ParseSettingsError> {
            text.parse()
        }
    }

    impl From<ByteSize> for String {
        fn from(size: ByteSize) -> String {
            size.to_string()
        }
    }

    impl TryFrom<String> for TimeSpan {
        type Error = ParseSettingsError;
        fn try_from(text: String) -> Result<TimeSpan, ParseSettingsError> {
            text.parse()
        }
    }

    impl From<TimeSpan> for String {
        fn from(span: TimeSpan) -> String {
            span.to_string()
        }
    }
}
