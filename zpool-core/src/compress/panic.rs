//! Catches panics of compressors, whose code is foreign.

use core::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::CodecError;
use crate::internal::{self, take_panic_message};

/// Calls foreign code and catches its panic.
///
/// Only one bit is returned through `catch_unwind`. The error is passed separately, for the reason
/// given at `FAILED` in `codec::session`.
#[inline]
pub(super) fn catch_result(
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
        Ok(false) => Ok(Err(failed.expect("set together with the outcome"))),
        Err(panic) => Err(panic),
    }
}

/// Turns a caught panic of a compressor into an error.
#[cold]
pub(super) fn codec_panic(panic: Box<dyn Any + Send>) -> CodecError {
    CodecError::Panicked(take_panic_message(panic))
}

/// Drops an object of the compressor. Returns false if that panicked.
#[cold]
pub(super) fn drop_foreign<T>(foreign: T) -> bool {
    internal::catch(|| drop(foreign)).is_some()
}
