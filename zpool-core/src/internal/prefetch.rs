//! Prefetch instructions.

/// Bytes of a cache line.
const LINE: usize = 64;

/// Prefetches the first `lines` cache lines of `things` into the L1 cache, without waiting for
/// them.
///
/// A hint with no visible effect. Does nothing on processors other than x86-64.
#[inline]
pub fn prefetch<T>(things: &[T], lines: usize) {
    #[cfg(target_arch = "x86_64")]
    for line in 0..lines.min(size_of_val(things).div_ceil(LINE)) {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let at = things.as_ptr().cast::<i8>().wrapping_add(line * LINE);
        // SAFETY: a prefetch reads nothing that the program sees, and faults on no address; this
        // memory is borrowed.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (things, lines);
}

/// Prefetches `bytes` bytes from `at` on into the L2 cache, for code that will write there soon.
///
/// Accesses no memory, so any address is valid.
#[inline]
pub fn prefetch_far(at: *const u8, bytes: usize) {
    #[cfg(target_arch = "x86_64")]
    for offset in (0..bytes).step_by(LINE) {
        use core::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: a prefetch reads nothing that the program sees, and faults on no address.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(at.wrapping_add(offset).cast::<i8>()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (at, bytes);
}

#[cfg(all(test, not(zpool_loom)))]
mod tests {
    use super::*;

    /// Any slice, address and number of lines can be prefetched.
    #[test]
    fn prefetch_accepts_any_slice_and_length() {
        let words = [7u64; 25];
        for lines in [0, 1, 3, 4, usize::MAX] {
            prefetch(&words, lines);
            prefetch(&words[..0], lines);
            prefetch(&[(), ()], lines);
            prefetch_far(core::ptr::without_provenance(lines), 1000);
        }
        prefetch_far(words.as_ptr().cast(), size_of_val(&words));
        prefetch_far(core::ptr::null(), 0);
        assert_eq!(words, [7; 25]);
    }
}
