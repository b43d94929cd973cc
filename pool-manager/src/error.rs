//! Errors of switches and of the registry, sorted by what the caller can do.

use std::fmt;

use zpool_core::CreateError;
use zpool_core::spec::Component;

/// The reason why a switch failed and left the current pool in place.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SwitchError {
    /// No allocator of this name is registered.
    UnknownAllocator {
        /// The requested name.
        name: String,
        /// The registered names.
        known: Vec<String>,
        /// How to get such a driver, if the registry [knows](crate::Registry::set_hint).
        hint: Option<&'static str>,
    },
    /// No compressor of this name is registered.
    UnknownCompressor {
        /// The requested name.
        name: String,
        /// The registered names.
        known: Vec<String>,
        /// How to get such a driver, if the registry [knows](crate::Registry::set_hint).
        hint: Option<&'static str>,
    },
    /// A plug-in refused its parameters or failed to construct.
    Create {
        /// The plug-in, as requested or in canonical form.
        component: Component,
        /// The plug-in's error.
        error: CreateError,
    },
    /// A plug-in's constructor panicked. The panic was caught.
    Panicked {
        /// The plug-in, as requested or in canonical form.
        component: Component,
        /// The panic's message.
        message: String,
    },
    /// Only one component was set, and the other was never chosen.
    Incomplete {
        /// The missing component: `"allocator"` or `"compressor"`.
        missing: &'static str,
    },
    /// Called from inside a plug-in's constructor, where it would wait for itself.
    InsideConstructor,
    /// Called from inside an observer, where it could wait for the observed switch.
    InsideObserver,
    /// Too many pools await destruction, and the call comes from inside a job, so it could wait for
    /// itself.
    InsideJob,
}

impl fmt::Display for SwitchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SwitchError::UnknownAllocator { name, known, hint } => {
                unknown(f, "allocator", name, known, *hint)
            }
            SwitchError::UnknownCompressor { name, known, hint } => {
                unknown(f, "compressor", name, known, *hint)
            }
            SwitchError::Create { component, error } => {
                write!(f, "cannot make `{component}`: {error}")
            }
            SwitchError::Panicked { component, message } => {
                write!(f, "cannot make `{component}`: its constructor panicked: {message}")
            }
            SwitchError::Incomplete { missing } => {
                write!(
                    f,
                    "no {missing} was chosen yet: call `switch`, or set the {missing} as well"
                )
            }
            SwitchError::InsideConstructor => f.write_str(
                "a constructor called a switch: switch after the constructor has returned",
            ),
            SwitchError::InsideObserver => {
                f.write_str("an observer called a switch: switch when the observed call is over")
            }
            SwitchError::InsideJob => f.write_str(
                "too many pools await destruction: switch again from outside of a job, or raise \
                 `max_pending`",
            ),
        }
    }
}

/// The message already contains the cause, so there is no `source` (`docs/decisions/0039`).
impl std::error::Error for SwitchError {}

fn unknown(
    f: &mut fmt::Formatter<'_>,
    what: &str,
    name: &str,
    known: &[String],
    hint: Option<&str>,
) -> fmt::Result {
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    let hint = hint.unwrap_or("use a known one, or register its driver");
    write!(f, "unknown {what} `{name}` (known: {known}): {hint}")
}

/// The reason why a driver was not registered or unregistered.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RegistryError {
    /// The name is taken.
    Duplicate(String),
    /// No driver of this name is registered.
    Unknown(String),
    /// Pools of this driver exist.
    Busy {
        /// The driver's name.
        name: String,
        /// The number of pools that use it, including those that await destruction.
        pools: usize,
    },
    /// The driver panicked when it was asked for its name. The panic was caught.
    Panicked {
        /// The panic's message.
        message: String,
    },
}

impl fmt::Display for RegistryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RegistryError::Duplicate(name) => {
                write!(f, "`{name}` is registered already: unregister it first")
            }
            RegistryError::Unknown(name) => write!(f, "`{name}` is not registered: check the name"),
            RegistryError::Panicked { message } => {
                write!(f, "the driver panicked when it was asked for its name: {message}")
            }
            RegistryError::Busy { name, pools } => {
                write!(f, "`{name}` is used by {pools} pools: try again when they are destroyed")
            }
        }
    }
}

impl std::error::Error for RegistryError {}
