//! `zlab region` where there are no regions.

use std::process::ExitCode;

use crate::cli::RegionArgs;
use crate::error::Failure;

/// Prints that it is skipped.
pub(crate) fn run(_: &RegionArgs) -> Result<ExitCode, Failure> {
    eprintln!("zlab: region skipped: it needs Linux 6.8 or newer");
    Ok(ExitCode::SUCCESS)
}
