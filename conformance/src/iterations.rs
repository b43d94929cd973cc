//! How much a case does: less where everything is slow.

/// Iterations of a loop: `n`, or fewer where each is slow.
pub(crate) fn scaled(n: usize) -> usize {
    if cfg!(miri) { n.div_ceil(50) } else { n }
}
