//! Errors of regions.

use std::error::Error;
use std::{fmt, io};

use crate::builder::MAX_UNITS;

/// Error of building a region, or of holding a part of one.
#[derive(Debug)]
#[non_exhaustive]
pub enum RegionError {
    /// A length of 0, or of more units than a region can number (2^30), or than can be addressed.
    Length(usize),
    /// The limit is below the least that the region needs.
    LimitTooLow {
        /// The limit in bytes.
        limit: usize,
        /// The least limit in bytes.
        least: usize,
    },
    /// The number of handler threads is 0.
    NoHandlers,
    /// The kernel has no `userfaultfd`, or does not allow it.
    NoUserfaultfd(io::Error),
    /// The kernel has no `UFFDIO_MOVE` or no `UFFDIO_POISON`: it is older than Linux 6.8.
    KernelTooOld,
    /// The program locks all its memory (`mlockall` with `MCL_FUTURE`).
    MemoryLocked,
    /// The system refused memory, a descriptor or a thread.
    System(io::Error),
    /// The store could not be made.
    Store(zswap::BuildError),
    /// `hold`: this process is a forked child of the one that built the region.
    OtherProcess,
    /// `hold`: a part of the range cannot be brought back, and an access to it raises `SIGBUS`.
    Poisoned {
        /// Offset of the start of the first such page.
        at: usize,
    },
}

impl RegionError {
    /// Returns whether regions cannot be built on this system at all, whatever the settings are.
    pub fn is_unsupported(&self) -> bool {
        matches!(self, RegionError::NoUserfaultfd(_) | RegionError::KernelTooOld)
    }
}

impl fmt::Display for RegionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RegionError::Length(len) => write!(
                f,
                "a region cannot have {len} bytes: choose a length from 1 byte to {MAX_UNITS} pages"
            ),
            RegionError::LimitTooLow { limit, least } => {
                write!(f, "a limit of {limit} bytes is too low for a region: set at least {least}")
            }
            RegionError::NoHandlers => {
                f.write_str("a region without handler threads serves no fault: set at least 1")
            }
            RegionError::NoUserfaultfd(error) => write!(
                f,
                "userfaultfd is not available ({error}): use a kernel that has it, and a sandbox \
                 that allows it"
            ),
            RegionError::KernelTooOld => {
                f.write_str("the kernel has no UFFDIO_MOVE: a region needs Linux 6.8 or newer")
            }
            RegionError::MemoryLocked => f.write_str(
                "the program locks all its memory, so no page of a region could leave: do not call \
                 mlockall(MCL_FUTURE)",
            ),
            RegionError::System(error) => {
                write!(f, "the system refused what a region needs: {error}")
            }
            RegionError::Store(error) => write!(f, "the region's store: {error}"),
            RegionError::OtherProcess => f.write_str(
                "a forked child does not have the memory of a region: build one in the child",
            ),
            RegionError::Poisoned { at } => write!(
                f,
                "the page at offset {at} was lost and cannot be held: discard it, or do not use it"
            ),
        }
    }
}

impl Error for RegionError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            RegionError::NoUserfaultfd(error) | RegionError::System(error) => Some(error),
            RegionError::Store(error) => Some(error),
            _ => None,
        }
    }
}
