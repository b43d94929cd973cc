//! Settings from `zrun`: variables of the environment, which every program inherits that the first
//! one starts.

use std::env::{self, VarError};
use std::path::PathBuf;

use zpool_region::PoolSpec;

/// The limit in bytes. Without it, this library does nothing.
const LIMIT: &str = "ZRUN_LIMIT";
/// The fewest bytes of a mapping or block that goes to the reserve.
const AT_LEAST: &str = "ZRUN_AT_LEAST";
/// The pool that pages are put away to.
const SPEC: &str = "ZRUN_SPEC";
/// The file that figures are appended to, instead of being printed.
const REPORT: &str = "ZRUN_REPORT";

/// Default of `ZRUN_AT_LEAST`: an arena of Python has this length.
const DEFAULT_AT_LEAST: usize = 1 << 20;

/// The settings of this process.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) limit: usize,
    pub(crate) at_least: usize,
    pub(crate) spec: Option<PoolSpec>,
    pub(crate) report: Option<PathBuf>,
}

impl Settings {
    /// Reads the environment. Returns `None` if there is no limit, and an error that names the
    /// variable if one cannot be understood.
    pub(crate) fn read() -> Option<Result<Settings, String>> {
        let limit = env::var_os(LIMIT)?;
        Some(Settings::parse(limit.to_str()))
    }

    fn parse(limit: Option<&str>) -> Result<Settings, String> {
        let wrong = |name: &str| format!("{name} is not a number of bytes: start programs by zrun");
        let limit = limit.and_then(|limit| limit.parse().ok()).ok_or_else(|| wrong(LIMIT))?;
        let at_least = match env::var(AT_LEAST) {
            Ok(bytes) => bytes.parse().map_err(|_| wrong(AT_LEAST))?,
            Err(VarError::NotPresent) => DEFAULT_AT_LEAST,
            Err(VarError::NotUnicode(_)) => return Err(wrong(AT_LEAST)),
        };
        let spec = match env::var(SPEC) {
            Ok(spec) => Some(spec.parse().map_err(|error| format!("{SPEC}: {error}"))?),
            Err(VarError::NotPresent) => None,
            Err(VarError::NotUnicode(_)) => {
                return Err(format!("{SPEC} is not text: start programs by zrun"));
            }
        };
        let report = env::var_os(REPORT).map(PathBuf::from);
        Ok(Settings { limit, at_least, spec, report })
    }
}
