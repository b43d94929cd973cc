//! The number of iterations of a case.

/// Returns `n` iterations of a loop, or fewer under miri, where each is slow.
pub(crate) fn scaled(n: usize) -> usize {
    if cfg!(miri) { n.div_ceil(50) } else { n }
}
