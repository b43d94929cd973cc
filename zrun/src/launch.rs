//! The settings of a program to be started, and what it needs.

use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fmt, io};

use zswap::PoolSpec;

/// The file name of the library.
const LIBRARY: &str = "libzrun_preload.so";

/// Names a library that is not beside the program.
const LIBRARY_VARIABLE: &str = "ZRUN_LIBRARY";

/// The settings of programs to be started.
#[derive(Debug, Clone)]
pub struct Launch {
    limit: usize,
    at_least: Option<usize>,
    spec: Option<PoolSpec>,
    report: Option<PathBuf>,
    library: Option<PathBuf>,
}

/// The reason why no program can be started.
#[derive(Debug)]
#[non_exhaustive]
pub enum LaunchError {
    /// The system lacks what a region needs.
    Unsupported(String),
    /// A region refuses the settings: the limit is too low, or the pool is unknown.
    Region(String),
    /// System calls of the program would fail, because this process may not serve their faults.
    KernelFaults,
    /// There is no library to preload.
    NoLibrary(PathBuf),
    /// A file name cannot be passed on.
    FileName(PathBuf, io::Error),
}

impl fmt::Display for LaunchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LaunchError::Unsupported(error) | LaunchError::Region(error) => f.write_str(error),
            LaunchError::KernelFaults => f.write_str(
                "this process may not serve page faults of system calls: run as root, or set \
                 the sysctl vm.unprivileged_userfaultfd=1",
            ),
            LaunchError::NoLibrary(place) => write!(
                f,
                "there is no library at {}: build it with `cargo build -p zrun-preload`, or name \
                 it with --library or {LIBRARY_VARIABLE}",
                place.display()
            ),
            LaunchError::FileName(path, error) => {
                write!(f, "{} cannot be used: {error}", path.display())
            }
        }
    }
}

impl Error for LaunchError {}

impl LaunchError {
    /// Returns whether no program can be started on this system, whatever the settings are.
    pub fn is_unsupported(&self) -> bool {
        matches!(self, LaunchError::Unsupported(_) | LaunchError::KernelFaults)
    }
}

impl Launch {
    /// Creates settings with a limit in bytes for the large memory of each process.
    pub fn new(limit: usize) -> Launch {
        Launch { limit, at_least: None, spec: None, report: None, library: None }
    }

    /// Sets the fewest bytes of a mapping or heap block that goes to the region (default: 1 MiB).
    #[must_use]
    pub fn at_least(self, bytes: usize) -> Launch {
        Launch { at_least: Some(bytes), ..self }
    }

    /// Sets the pool that pages are put away to (default: that of zswap).
    #[must_use]
    pub fn spec(self, spec: PoolSpec) -> Launch {
        Launch { spec: Some(spec), ..self }
    }

    /// Appends the figures of each process to a file, as lines of JSON, instead of printing them.
    #[must_use]
    pub fn report(self, file: impl Into<PathBuf>) -> Launch {
        Launch { report: Some(file.into()), ..self }
    }

    /// Names the library, if it is not beside this program.
    #[must_use]
    pub fn library(self, file: impl Into<PathBuf>) -> Launch {
        Launch { library: Some(file.into()), ..self }
    }

    /// Checks that a program can have such a region in this process, and returns the settings.
    ///
    /// # Errors
    ///
    /// [`LaunchError`].
    pub fn checked(self) -> Result<Launch, LaunchError> {
        self.check_region()?;
        self.find_library()?;
        Ok(self)
    }

    #[cfg(all(target_os = "linux", target_env = "gnu", target_pointer_width = "64"))]
    fn check_region(&self) -> Result<(), LaunchError> {
        let mut builder = zpool_region::Region::builder().len(1).limit_bytes(self.limit);
        if let Some(spec) = self.spec.clone() {
            builder = builder.spec(spec);
        }
        match builder.build() {
            Ok(region) if region.serves_kernel_faults() => Ok(()),
            Ok(_) => Err(LaunchError::KernelFaults),
            Err(error) if error.is_unsupported() => {
                Err(LaunchError::Unsupported(error.to_string()))
            }
            Err(error) => Err(LaunchError::Region(error.to_string())),
        }
    }

    #[cfg(not(all(target_os = "linux", target_env = "gnu", target_pointer_width = "64")))]
    #[allow(clippy::unused_self, reason = "the version for Linux reads the settings")]
    fn check_region(&self) -> Result<(), LaunchError> {
        Err(LaunchError::Unsupported("this needs 64-bit Linux with glibc".to_owned()))
    }

    /// Returns the library: the one that was named, or the first that is where cargo or an
    /// installation puts it.
    fn find_library(&self) -> Result<PathBuf, LaunchError> {
        let named = self.library.clone().or_else(|| env::var_os(LIBRARY_VARIABLE).map(Into::into));
        let places = match named {
            Some(named) => vec![named],
            None => {
                let program = env::current_exe()
                    .map_err(|error| LaunchError::FileName("/proc/self/exe".into(), error))?;
                let folder = program.parent().unwrap_or(Path::new("/"));
                let folders = ["", "deps", "..", "../deps", "../lib/zrun"];
                folders.map(|beside| folder.join(beside).join(LIBRARY)).into()
            }
        };
        let found = places.iter().find(|place| place.is_file());
        let place = found.ok_or_else(|| LaunchError::NoLibrary(places[0].clone()))?;
        // A program may change its folder before it starts another one.
        place.canonicalize().map_err(|error| LaunchError::FileName(place.clone(), error))
    }

    /// Returns a command that runs a program with these settings. Programs that it starts inherit
    /// them. Each process has the limit for itself.
    ///
    /// # Errors
    ///
    /// [`LaunchError::NoLibrary`], [`LaunchError::FileName`].
    pub fn command<S: AsRef<OsStr>>(
        &self,
        program: impl AsRef<OsStr>,
        arguments: impl IntoIterator<Item = S>,
    ) -> Result<Command, LaunchError> {
        let library = self.find_library()?;
        if library.as_os_str().as_encoded_bytes().iter().any(|byte| b" :".contains(byte)) {
            let error = "LD_PRELOAD allows no spaces and colons in the name of a library";
            return Err(LaunchError::FileName(library, io::Error::other(error)));
        }
        let mut preload = OsString::from(library);
        if let Some(others) = env::var_os("LD_PRELOAD").filter(|others| !others.is_empty()) {
            preload.push(":");
            preload.push(others);
        }
        let mut command = Command::new(program);
        command.args(arguments).env("LD_PRELOAD", preload);
        command.env("ZRUN_LIMIT", self.limit.to_string());
        if let Some(bytes) = self.at_least {
            command.env("ZRUN_AT_LEAST", bytes.to_string());
        }
        if let Some(spec) = &self.spec {
            command.env("ZRUN_SPEC", spec.to_string());
        }
        if let Some(report) = &self.report {
            let absolute = std::path::absolute(report)
                .map_err(|error| LaunchError::FileName(report.clone(), error))?;
            command.env("ZRUN_REPORT", absolute);
        }
        Ok(command)
    }
}
