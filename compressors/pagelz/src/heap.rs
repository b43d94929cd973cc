//! Allocations that may fail.

use zpool_core::compress::CodecError;

/// Returns `len` zeros.
///
/// # Errors
///
/// [`CodecError::OutOfMemory`].
pub(crate) fn zeroed<T: Copy + Default>(len: usize) -> Result<Vec<T>, CodecError> {
    let mut zeros = Vec::new();
    zeros.try_reserve_exact(len).map_err(|_| CodecError::OutOfMemory)?;
    zeros.resize(len, T::default());
    Ok(zeros)
}
