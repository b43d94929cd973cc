//! What goes wrong with a switch, told by what the caller can do about it.

use std::fmt;

use zpool_core::CreateError;
use zpool_core::spec::Component;

/// Why the current pool is what it was before.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SwitchError {
    /// No allocator of this name is registered.
    UnknownAllocator {
        /// What was asked for.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// No compressor of this name is registered.
    UnknownCompressor {
        /// What was asked for.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// A plug-in refused its parameters or failed to make what was asked for.
    Create {
        /// The plug-in, as asked for.
        component: Component,
        /// Why.
        error: CreateError,
    },
    /// A plug-in's constructor panicked; the panic was contained.
    Panicked {
        /// The plug-in, as asked for.
        component: Component,
        /// The panic's message.
        message: String,
    },
    /// One parameter was to be changed, but the other was never given.
    Incomplete {
        /// Which one is missing.
        missing: &'static str,
    },
    /// Called from inside a plug-in's constructor: it would wait for itself.
    InsideConstructor,
    /// Called from inside an observer: it could wait for the switch that it observes.
    InsideObserver,
    /// Too many pools await destruction, and this call comes from inside a job, so waiting for jobs
    /// could wait for itself.
    InsideJob,
}

impl fmt::Display for SwitchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SwitchError::UnknownAllocator { name, known } => {
                write!(f, "unknown allocator `{name}` (known: {})", Names(known))
            }
            SwitchError::UnknownCompressor { name, known } => {
                write!(f, "unknown compressor `{name}` (known: {})", Names(known))
            }
            SwitchError::Create { component, error } => {
                write!(f, "cannot make `{component}`: {error}")
            }
            SwitchError::Panicked { component, message } => {
                write!(f, "cannot make `{component}`: its constructor panicked: {message}")
            }
            SwitchError::Incomplete { missing } => write!(f, "no {missing} was chosen yet"),
            SwitchError::InsideConstructor => {
                f.write_str("a plug-in's constructor must not switch pools")
            }
            SwitchError::InsideObserver => f.write_str(
                "an observer must not switch pools: do it when the observed call is over",
            ),
            SwitchError::InsideJob => {
                f.write_str("too many pools await destruction to switch from inside a job")
            }
        }
    }
}

impl std::error::Error for SwitchError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            SwitchError::Create { error, .. } => Some(error),
            _ => None,
        }
    }
}

struct Names<'a>(&'a [String]);

impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { f.write_str("none") } else { f.write_str(&self.0.join(", ")) }
    }
}

/// Why a driver was not registered or unregistered.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RegistryError {
    /// The name is taken.
    Duplicate(String),
    /// There is none of this name.
    Unknown(String),
    /// Pools of it exist.
    Busy {
        /// The driver's name.
        name: String,
        /// How many pools use it, those that await destruction included.
        pools: usize,
    },
    /// The driver panicked when it was asked for its name; the panic was contained.
    Panicked {
        /// The panic's message.
        message: String,
    },
}

impl fmt::Display for RegistryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RegistryError::Duplicate(name) => write!(f, "`{name}` is registered already"),
            RegistryError::Unknown(name) => write!(f, "`{name}` is not registered"),
            RegistryError::Panicked { message } => {
                write!(f, "the driver panicked when it was asked for its name: {message}")
            }
            RegistryError::Busy { name, pools } => write!(f, "`{name}` is used by {pools} pools"),
        }
    }
}

impl std::error::Error for RegistryError {}
