//! A compression context that owns the dictionary it refers to.
//!
//! The library ties a context to the lifetime of a reference to its dictionary. Here the context
//! and a share of the dictionary are owned together.

use std::sync::Arc;

use zstd::zstd_safe::{CCtx, CDict, CParameter, SafeResult};

/// A context with the dictionary that is attached to it, if any.
///
/// # Invariants
///
/// - I1. If `context` refers to a dictionary, it is the one in `_dictionary`, which is neither
///   changed nor given away as long as this exists.
/// - I2. `context` is dropped before `_dictionary`: fields are dropped in the order of their
///   declaration.
/// - I3. `context` does not leave this struct, not even as `&mut`: it could be swapped for another.
pub(crate) struct AttachedContext {
    context: CCtx<'static>,
    _dictionary: Option<Arc<CDict<'static>>>,
}

impl AttachedContext {
    /// Makes a context with these parameters that refers to `dictionary`.
    ///
    /// # Errors
    ///
    /// Returns the library's error code, or `None` if it has no memory.
    pub(crate) fn new(
        parameters: &[CParameter],
        dictionary: Option<Arc<CDict<'static>>>,
    ) -> Result<AttachedContext, Option<usize>> {
        let mut context = CCtx::try_create().ok_or(None)?;
        for &parameter in parameters {
            context.set_parameter(parameter)?;
        }
        if let Some(dictionary) = &dictionary {
            // SAFETY: 1. the pointer is aligned, not null, and points to a valid value: it is the
            // `Arc`'s own; 2. the value is alive and shared as long as the reference is: the
            // reference is only in `context`, which is dropped before the `Arc` next to it (I1, I2,
            // I3), here and in case of an error below (locals and parameters are dropped in reverse
            // order); 3. there is no `&mut` to it: it was shared already.
            let lasting: &'static CDict<'static> = unsafe { &*Arc::as_ptr(dictionary) };
            context.ref_cdict(lasting)?;
        }
        Ok(AttachedContext { context, _dictionary: dictionary })
    }

    /// Compresses `block` into a frame at the front of `out`. Returns its length, or the library's
    /// error code. The context stays usable either way.
    #[inline]
    pub(crate) fn compress(&mut self, block: &[u8], out: &mut [u8]) -> SafeResult {
        self.context.compress2(out, block)
    }

    /// Returns the bytes that the library holds for the context, without the dictionary.
    #[inline]
    pub(crate) fn bytes_held(&self) -> usize {
        self.context.sizeof()
    }
}
