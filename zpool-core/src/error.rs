//! Errors of pools and drivers, sorted by what the caller can do.

use core::fmt;

use crate::handle::Handle;

/// The error of a pool operation. A failed insert, read or free has changed no object. A failed
/// reclaim may have released pages: see [`ReclaimError`](crate::ReclaimError).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PoolError {
    /// The object is empty; an object has at least one byte.
    EmptyObject,
    /// The object can never fit this pool: store it in another one, or in parts.
    TooLarge {
        /// Bytes of the object.
        len: usize,
        /// [`Capabilities::max_object_len`](crate::Capabilities::max_object_len) of the pool.
        max: usize,
    },
    /// The page source or the heap is out of memory: free something and try again.
    OutOfMemory,
    /// The pool has as many pages as it can address: free objects, or use another pool. The back
    /// end's documentation states the number.
    TooManyPages,
    /// Another pool made this handle.
    ForeignHandle,
    /// The object of this handle was freed before.
    StaleHandle,
    /// Many guards hold this object, and the pool cannot count another one: drop some guards and
    /// try again.
    TooManyReaders,
    /// A reclaim found no page to empty: none is left, or their owner keeps the objects in them.
    NothingToReclaim,
    /// The pool's [`Capabilities`](crate::Capabilities) do not include this operation.
    Unsupported(&'static str),
}

impl fmt::Display for PoolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PoolError::EmptyObject => f.write_str("the object is empty: store at least one byte"),
            PoolError::TooLarge { len, max } => {
                write!(
                    f,
                    "an object of {len} bytes is over the pool's maximum of {max}: use a pool for \
                     larger objects"
                )
            }
            PoolError::OutOfMemory => f.write_str(
                "no memory for the pool from the page source or the heap: free objects and try \
                 again",
            ),
            PoolError::TooManyPages => f.write_str(
                "the pool has as many pages as it can address: free objects, or use another pool",
            ),
            PoolError::ForeignHandle => {
                f.write_str("the handle belongs to another pool: use it there")
            }
            PoolError::StaleHandle => {
                f.write_str("the handle's object was freed before: drop the handle")
            }
            PoolError::TooManyReaders => f.write_str(
                "many guards hold the object, and the pool cannot count another one: drop some and \
                 try again",
            ),
            PoolError::NothingToReclaim => f.write_str(
                "no page is left whose objects the owner would evict: evict more, or stop here",
            ),
            PoolError::Unsupported(what) => {
                write!(f, "the pool cannot {what}: see its `capabilities`")
            }
        }
    }
}

impl core::error::Error for PoolError {}

/// The error of a refused [`free`](crate::ZPool::free), with the handle, which is still valid in
/// its own pool.
#[derive(Debug)]
pub struct FreeError {
    error: PoolError,
    handle: Handle,
}

impl FreeError {
    /// Makes the error that refuses `handle` because of `error`.
    pub fn new(error: PoolError, handle: Handle) -> FreeError {
        FreeError { error, handle }
    }

    /// Returns the reason: [`PoolError::ForeignHandle`] or [`PoolError::StaleHandle`].
    pub fn error(&self) -> &PoolError {
        &self.error
    }

    /// Returns the handle, to free it in its own pool.
    pub fn into_handle(self) -> Handle {
        self.handle
    }
}

impl fmt::Display for FreeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot free {:?}: {}", self.handle, self.error)
    }
}

/// The message already contains the cause, so there is no `source` (`docs/decisions/0039`).
impl core::error::Error for FreeError {}

/// An inconsistency that [`ZPool::validate`](crate::ZPool::validate) found. Always a bug of the
/// back end, never of its caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation(String);

impl Violation {
    /// Makes a violation from a sentence that states it, with the numbers that disagree.
    pub fn new(what: impl Into<String>) -> Violation {
        Violation(what.into())
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invariant violated: {}", self.0)
    }
}

impl core::error::Error for Violation {}

/// The reason why a driver made no pool or no compressor.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CreateError {
    /// The driver does not know a parameter of this name.
    UnknownParameter {
        /// The parameter's name.
        name: String,
        /// The known names with their ranges, for the message.
        known: &'static str,
    },
    /// A parameter's value is out of its range.
    BadValue {
        /// The parameter's name.
        name: String,
        /// The given value.
        value: String,
        /// The allowed values, in words.
        expected: String,
    },
    /// Memory or another resource is missing; a later call may succeed.
    OutOfMemory,
    /// The plug-in failed for a reason of its own.
    Failed(String),
}

impl fmt::Display for CreateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CreateError::UnknownParameter { name, known } => {
                write!(
                    f,
                    "unknown parameter `{name}` (known: {})",
                    if known.is_empty() { "none" } else { known }
                )
            }
            CreateError::BadValue { name, value, expected } => {
                write!(f, "parameter `{name}` is `{value}`, expected {expected}")
            }
            CreateError::OutOfMemory => f.write_str("out of memory: free some and try again"),
            CreateError::Failed(why) => f.write_str(why),
        }
    }
}

impl core::error::Error for CreateError {}
