//! A value that cannot fit is refused before anything is evicted for it, whatever the allocator
//! rounds its parts up to.

use crate::common::{Look, block, builder, check_books, spec};
use zswap::AtLimit;

const LIMIT: usize = 8 << 20;
const BLOCK: usize = 4096;

/// Stores 1 000 blocks, then a value of `parts` blocks of `random` bytes that do not shrink. Checks
/// that either the value or all blocks are there.
fn try_value(text: &str, random: usize, parts: usize) {
    let store = builder().spec(spec(text)).limit_bytes(LIMIT).at_limit(AtLimit::Evict);
    let store = store.max_value_len(4 * LIMIT).build().unwrap();
    (0..1000).for_each(|key| store.store(key, block(key, 2000, Look::Noise)).unwrap());
    let before = store.len();
    let mut value = Vec::with_capacity(parts * BLOCK);
    for part in 0..parts {
        value.extend(block(part as u64 + 77, random, Look::Noise));
        value.resize((part + 1) * BLOCK, 0);
    }
    let result = store.store(u64::MAX, &value);
    let which = format!("{text}: {parts} parts of {random}, {} of {before} left", store.len());
    match result {
        Ok(()) => assert!(store.contains(&u64::MAX), "{which}"),
        Err(error) => assert_eq!(store.len(), before, "{which}: {error}"),
    }
    check_books(&store);
}

/// Lengths that size classes round up by different amounts, and totals from 70 % of the limit to
/// 99 %.
#[test]
#[cfg_attr(debug_assertions, ignore = "takes long; CI runs it optimized")]
fn value_near_limit_fits_or_evicts_nothing() {
    for text in ["zsmalloc+lz4", "zsmalloc(chain=1)+lz4", "zsmalloc(chain=4)+lz4", "zbud+lz4"] {
        for random in [2100, 3600, 3800] {
            for percent in [88, 97] {
                try_value(text, random, LIMIT * percent / 100 / (random + 30));
            }
        }
    }
}

/// 2 033 parts of 3 600 bytes are 87 % of the limit, and their slots are more.
#[test]
fn value_of_3600_random_bytes_fits_or_evicts_nothing() {
    for text in ["zsmalloc+lz4", "zsmalloc(chain=1)+lz4", "zsmalloc(chain=2)+lz4"] {
        for parts in [2033, 2200] {
            try_value(text, 3600, parts);
        }
    }
}

/// A value that surely fits is stored, even in an allocator that rounds up by much.
#[test]
fn value_of_half_limit_is_stored() {
    for text in ["zsmalloc+lz4", "zsmalloc(chain=1)+lz4"] {
        let store = builder().spec(spec(text)).limit_bytes(LIMIT).at_limit(AtLimit::Evict);
        let store = store.max_value_len(LIMIT).build().unwrap();
        (0..3000).for_each(|key| store.store(key, block(key, 2000, Look::Noise)).unwrap());
        store.store(u64::MAX, block(5, LIMIT / 2, Look::Noise)).unwrap();
        assert!(store.contains(&u64::MAX), "{text}");
    }
}
