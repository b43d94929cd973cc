//! Kinds of look-ups.

/// How a block is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// A use, which delays eviction.
    Load,
    /// A use, but only of what is in memory.
    LoadResident,
    /// Not a use.
    Peek,
    /// The entry is removed once its bytes are in the buffer.
    Take,
    /// Not a use, but the entry may be removed once its bytes were looked at.
    Examine,
}
