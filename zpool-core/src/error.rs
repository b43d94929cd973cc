//! What goes wrong with a pool, told by what the caller can do about it.

use core::fmt;

use crate::handle::Handle;

/// Why a pool did not do what it was asked. Nothing has changed in the pool when one of these comes back.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PoolError {
    /// An object has at least one byte.
    EmptyObject,
    /// The object can never fit this pool: store it raw in another one, or cut it up.
    TooLarge {
        /// Bytes of the object.
        len: usize,
        /// [`Capabilities::max_object_len`](crate::Capabilities::max_object_len) of the pool.
        max: usize,
    },
    /// The page source or the heap gave no memory: free something and try again.
    OutOfMemory,
    /// The pool has as many pages as it can name, however much memory there is: free something, or
    /// use another pool. The back end's documentation says how many that are.
    TooManyPages,
    /// Another pool made this handle.
    ForeignHandle,
    /// The object of this handle was freed before.
    StaleHandle,
    /// Many guards hold this object, and there is no memory to count one more: drop some and try
    /// again.
    TooManyReaders,
    /// A reclaim ran out of pages to try: none is left, or their owner keeps what is in them.
    NothingToReclaim,
    /// The pool's [`Capabilities`](crate::Capabilities) do not include this.
    Unsupported(&'static str),
}

impl fmt::Display for PoolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PoolError::EmptyObject => f.write_str("an object needs at least one byte"),
            PoolError::TooLarge { len, max } => {
                write!(f, "an object of {len} bytes is over the pool's maximum of {max}")
            }
            PoolError::OutOfMemory => f.write_str("the page source has no memory left for the pool"),
            PoolError::TooManyPages => {
                f.write_str("the pool has as many pages as it can name: free something, or use another pool")
            }
            PoolError::ForeignHandle => f.write_str("the handle belongs to another pool"),
            PoolError::StaleHandle => f.write_str("the handle's object was freed before"),
            PoolError::TooManyReaders => f.write_str("many guards hold the object, and there is no memory to count one more: drop some and try again"),
            PoolError::NothingToReclaim => f.write_str("no page is left that its owner would give up"),
            PoolError::Unsupported(what) => write!(f, "the pool cannot {what}"),
        }
    }
}

impl core::error::Error for PoolError {}

/// A [`free`](crate::ZPool::free) that was refused: the error and the token, which is still good where it belongs.
#[derive(Debug)]
pub struct FreeError {
    error: PoolError,
    handle: Handle,
}

impl FreeError {
    /// Refuses `handle` because of `error`.
    pub fn new(error: PoolError, handle: Handle) -> FreeError {
        FreeError { error, handle }
    }

    /// Why: [`PoolError::ForeignHandle`] or [`PoolError::StaleHandle`].
    pub fn error(&self) -> &PoolError {
        &self.error
    }

    /// Takes the token back, to free it in the pool it belongs to.
    pub fn into_handle(self) -> Handle {
        self.handle
    }
}

impl fmt::Display for FreeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot free {:?}: {}", self.handle, self.error)
    }
}

impl core::error::Error for FreeError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        Some(&self.error)
    }
}

/// What [`ZPool::validate`](crate::ZPool::validate) found broken: always a bug of the back end, never of its caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation(String);

impl Violation {
    /// Says in a sentence what does not hold, with the numbers that disagree.
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

/// Why a driver made no pool or no compressor.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CreateError {
    /// The driver does not know a parameter of this name.
    UnknownParameter {
        /// The parameter's name.
        name: String,
        /// The names it knows, with their ranges, for the message.
        known: &'static str,
    },
    /// A parameter's value is out of its range.
    BadValue {
        /// The parameter's name.
        name: String,
        /// What was given.
        value: String,
        /// What is allowed, in words.
        expected: String,
    },
    /// Memory or another resource is missing: may succeed later.
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
            CreateError::OutOfMemory => f.write_str("out of memory"),
            CreateError::Failed(why) => f.write_str(why),
        }
    }
}

impl core::error::Error for CreateError {}
