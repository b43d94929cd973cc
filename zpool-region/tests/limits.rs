//! Limits, holds, builds that are refused, and system calls.

#![cfg(target_os = "linux")]

mod common;

use std::fs::File;
use std::io::{Read, Write};

use common::{MODES, Mode, PAGE, build, fill, fill_noise, has, with_mode};
use zpool_region::{FaultMode, Region, RegionBuilder, RegionError};

const LEN: usize = 16 << 20;

fn builder() -> RegionBuilder {
    Region::builder().len(LEN).limit_bytes(8 << 20)
}

/// The limit holds while data comes in, within a batch and a window, and after it is lowered.
#[test]
fn limit_holds() {
    for mode in MODES {
        let Some(mut region) = build(with_mode(builder(), mode)) else { return };
        let control = region.control();
        for (at, page) in region.chunks_mut(PAGE).enumerate() {
            // The rest of each page is zeros, so that it shrinks to a fraction.
            fill(&mut page[..PAGE / 4], at as u64 + 1);
            if at % 64 == 0 {
                let stats = control.stats().unwrap();
                // What the store holds grows by whole frames, and a handler reclaims after it has
                // woken the thread.
                assert!(stats.over_limit_bytes <= 64 * PAGE, "{mode:?}, {at}: {stats:?}");
            }
        }
        region.set_limit(6 << 20);
        let stats = region.stats();
        assert_eq!(stats.over_limit_bytes, 0, "{mode:?}: {stats:?}");
        assert!(stats.resident_bytes + stats.store_bytes <= 6 << 20);
        let right = |(at, page): (usize, &[u8])| has(&page[..PAGE / 4], at as u64 + 1);
        assert!(region.chunks(PAGE).enumerate().all(right));
    }
}

/// Data that does not compress is kept, and `stats` reports what it takes beyond the limit.
#[test]
fn limit_noise_is_reported() {
    let Some(mut region) = build(builder()) else { return };
    fill_noise(&mut region, 1);
    let mut expected = vec![0; LEN];
    fill_noise(&mut expected, 1);
    assert!(*region == *expected);
    assert!(region.stats().over_limit_bytes > LEN - (8 << 20));
}

/// A held part is not put away, by `evict` or by a limit, and goes again after the hold.
#[test]
fn hold_keeps_resident() {
    for mode in MODES {
        let Some(mut region) = build(with_mode(builder(), mode)) else { return };
        fill(&mut region, 8);
        region.evict(0..LEN);
        let held = region.hold(PAGE / 2..32 * PAGE).unwrap();
        assert_eq!(region.evict(0..LEN), 0, "{mode:?}");
        let mut copy = vec![0; LEN];
        copy.copy_from_slice(&region);
        assert!(has(&copy, 8) && copy[PAGE / 2..32 * PAGE] == *held);
        let again = region.hold(0..PAGE).unwrap();
        drop(held);
        region.evict(0..LEN);
        assert_eq!(region.stats().resident_bytes, PAGE);
        drop(again);
        let mut held = region.hold_mut(0..2 * PAGE).unwrap();
        held.fill(1);
        drop(held);
        assert_eq!(region.evict(0..2 * PAGE), 2 * PAGE);
        assert!(region[..2 * PAGE].iter().all(|&byte| byte == 1));
    }
}

/// System calls work on what is held in any mode, and on anything where faults of the kernel are
/// served.
#[test]
fn hold_is_enough_for_system_calls() {
    for mode in MODES {
        let Some(mut region) = build(with_mode(builder(), mode)) else { return };
        fill(&mut region, 8);
        let mut expected = region[..64 * PAGE].to_vec();
        region.evict(0..LEN);
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&region.hold(0..64 * PAGE).unwrap()).unwrap();
        region.evict(0..LEN);
        let mut zeros = File::open("/dev/zero").unwrap();
        zeros.read_exact(&mut region.hold_mut(0..PAGE).unwrap()).unwrap();
        region.evict(0..LEN);
        expected[..PAGE].fill(0);
        assert_eq!(region[..64 * PAGE], expected, "{mode:?}");
        assert!(!(region.serves_kernel_faults() && mode == Mode::Signal));
        region.evict(0..LEN);
        let unheld = zeros.read_exact(&mut region[PAGE..3 * PAGE]);
        if region.serves_kernel_faults() {
            unheld.unwrap();
            assert!(region[PAGE..3 * PAGE].iter().all(|&byte| byte == 0));
        } else {
            println!("{mode:?}: system calls need `hold` here: {unheld:?}");
        }
    }
}

/// `discard` makes exactly its range zero.
#[test]
fn discard_is_exact() {
    let Some(mut region) = build(builder()) else { return };
    let mut model = vec![0; LEN];
    fill(&mut model, 3);
    region.copy_from_slice(&model);
    let ranges =
        [5..9, PAGE - 1..PAGE + 1, 10..5 * PAGE + 7, LEN - PAGE - 3..LEN, 9 * PAGE..9 * PAGE];
    for range in ranges {
        model[range.clone()].fill(0);
        region.discard(range.clone());
        assert!(*region == *model, "{range:?}");
    }
    region.discard(0..LEN);
    let stats = region.stats();
    assert_eq!((stats.resident_bytes, stats.stored_units), (0, 0), "{stats:?}");
}

/// Settings that make no region are errors that say why.
#[test]
fn build_refuses_bad_settings() {
    if build(builder()).is_none() {
        return;
    }
    assert!(matches!(Region::builder().build(), Err(RegionError::Length(0))));
    let huge = Region::builder().len(usize::MAX).build();
    assert!(matches!(huge, Err(RegionError::Length(usize::MAX))));
    let low = builder().limit_bytes(1).build();
    assert!(matches!(low, Err(RegionError::LimitTooLow { limit: 1, .. })), "{low:?}");
    assert!(matches!(builder().handler_threads(0).build(), Err(RegionError::NoHandlers)));
    let unknown = builder().spec("none+lz4".parse().unwrap()).build();
    assert!(matches!(unknown, Err(RegionError::Store(_))), "{unknown:?}");
    assert!(!unknown.unwrap_err().is_unsupported());
}

/// The last page of a length that is not a multiple of a page, and the smallest region.
#[test]
fn region_odd_lengths() {
    for len in [1, PAGE - 1, PAGE + 1, 100 * PAGE + 17] {
        let Some(mut region) = build(Region::builder().len(len).limit_bytes(4 << 20)) else {
            return;
        };
        assert_eq!(region.len(), len);
        fill(&mut region, 6);
        region.evict(0..len);
        assert!(has(&region, 6));
        region.discard(0..len);
        assert!(region.iter().all(|&byte| byte == 0));
        assert_eq!(region.fault_mode(), FaultMode::Threads);
    }
}

/// A control handle outlives its region, and then does nothing.
#[test]
fn control_outlives_region() {
    let Some(region) = build(builder()) else { return };
    let control = region.control();
    assert_eq!(control.stats().unwrap().len, LEN);
    drop(region);
    assert!(control.stats().is_none());
    assert_eq!(control.evict(0..LEN), 0);
    control.prefetch(0..LEN);
    control.set_limit(0);
    assert!(control.switch(&"zsmalloc+lz4".parse().unwrap()).is_none());
}
