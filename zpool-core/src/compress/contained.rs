//! The compressor's code is foreign: its panics end here.

use core::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::CodecError;
use crate::internal::{self, swallowed_message};

/// Calls foreign code and contains its panic. What passes through the containment is one bit: an error goes past it,
/// for the reason given at `FAILED` in `codec::session`.
#[inline]
pub(super) fn contained(
    call: impl FnOnce() -> Result<(), CodecError>,
) -> Result<Result<(), CodecError>, Box<dyn Any + Send>> {
    let mut failed = None;
    let fine = catch_unwind(AssertUnwindSafe(|| match call() {
        Ok(()) => true,
        Err(error) => {
            failed = Some(error);
            false
        }
    }));
    match fine {
        Ok(true) => Ok(Ok(())),
        Ok(false) => Ok(Err(failed.expect("set where the outcome was"))),
        Err(panic) => Err(panic),
    }
}

/// A caught panic of the compressor as an error.
#[cold]
pub(super) fn panicked(panic: Box<dyn Any + Send>) -> CodecError {
    CodecError::Panicked(swallowed_message(panic))
}

/// Drops what is the compressor's. False if that panicked.
#[cold]
pub(super) fn drop_contained<T>(foreign: T) -> bool {
    internal::contained(|| drop(foreign)).is_some()
}
