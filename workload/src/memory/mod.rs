//! The memory of this process: what is resident, and a process of its own for each measurement.

mod archive;
mod isolated;
mod resident;

pub use archive::Archive;
pub use isolated::{Isolated, IsolatedError, print_result};
pub use resident::{
    Growth, ResidentBytes, ResidentError, anonymous_bytes, refuse_huge_pages, resident_bytes,
};
