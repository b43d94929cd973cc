//! S1, S2, S3: contents are exact under every race.

#![cfg(target_os = "linux")]

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use common::{MODES, Mode, build, fill, has, with_mode};
use zpool_region::{PlantedBug, Region, RegionBuilder};
use zpool_testing::random::TestRng;

/// Bytes of a piece: not a multiple of a page, so that threads share units.
const PIECE: usize = 1000;
const LEN: usize = 8 << 20;
const LIMIT: usize = 6 << 20;

fn builder() -> RegionBuilder {
    Region::builder().len(LEN).limit_bytes(LIMIT)
}

/// A thread's share of the pieces, with the seed of what it last wrote to each.
struct Share<'a> {
    pieces: Vec<(&'a mut [u8], u64)>,
    rng: TestRng,
}

impl Share<'_> {
    /// Verifies a piece, and writes something else to it now and then. Returns whether it was
    /// right.
    fn step(&mut self, at: usize, write: bool) -> bool {
        let (piece, seed) = &mut self.pieces[at];
        let right = if *seed == 0 { piece.iter().all(|&b| b == 0) } else { has(piece, *seed) };
        if write {
            *seed = self.rng.next() | 1;
            fill(piece, *seed);
        }
        right
    }
}

/// Threads write and verify random and sequential pieces while another one changes limits, evicts,
/// prefetches and switches. Returns how many pieces were wrong.
fn storm(region: &mut Region, threads: usize, steps: usize) -> usize {
    let control = region.control();
    let done = AtomicBool::new(false);
    let mut shares: Vec<Share> = (0..threads)
        .map(|id| Share { pieces: Vec::new(), rng: TestRng::new(id as u64 + 1) })
        .collect();
    for (at, piece) in region.chunks_mut(PIECE).enumerate() {
        shares[at % threads].pieces.push((piece, 0));
    }
    thread::scope(|scope| {
        let steering = scope.spawn(|| {
            let mut rng = TestRng::new(99);
            let specs = ["zsmalloc+lz4", "zsmalloc(chain=4)+lz4"].map(|s| s.parse().unwrap());
            let mut round = 0;
            while !done.load(Ordering::Relaxed) {
                round += 1;
                let start = rng.below(LEN - (1 << 18));
                match round % 5 {
                    0 => drop(control.switch(&specs[round / 5 % 2]).unwrap().unwrap()),
                    1 => control.set_limit(LIMIT - rng.below(1 << 20)),
                    2 => control.prefetch(start..start + (1 << 18)),
                    _ => drop(control.evict(start..start + (1 << 18))),
                }
                thread::yield_now();
            }
        });
        let workers: Vec<_> = shares
            .iter_mut()
            .map(|share| {
                scope.spawn(move || {
                    let mut wrong = 0;
                    for step in 0..steps {
                        let count = share.pieces.len();
                        let sequential = step / 512 % 3 == 2;
                        let at = if sequential { step % count } else { share.rng.below(count) };
                        let write = !sequential && share.rng.below(3) == 0;
                        wrong += usize::from(!share.step(at, write));
                    }
                    for at in 0..share.pieces.len() {
                        wrong += usize::from(!share.step(at, false));
                    }
                    wrong
                })
            })
            .collect();
        let wrong = workers.into_iter().map(|worker| worker.join().unwrap()).sum();
        done.store(true, Ordering::Relaxed);
        steering.join().unwrap();
        wrong
    })
}

/// S1: no byte is wrong, in any mode, with and without clean copies and readahead.
#[test]
fn s1_storm_is_exact() {
    for mode in MODES {
        for (copies, readahead) in [(true, 16), (false, 1)] {
            let builder = with_mode(builder(), mode).clean_copies(copies).readahead(readahead);
            let Some(mut region) = build(builder) else { return };
            assert_eq!(storm(&mut region, 4, 4_000), 0, "{mode:?}, copies {copies}");
            let stats = region.stats();
            assert!(stats.units_evicted > 500, "{stats:?}");
            assert_eq!(stats.units_poisoned, 0, "{stats:?}");
            assert_eq!(stats.units_dropped_clean > 0, copies, "{stats:?}");
            assert!(stats.units_read_ahead > 0, "{stats:?}");
        }
    }
}

/// S3: a copy that is invalidated too late removes a newer block. The unit is then lost, which
/// `hold` reports without an access.
#[test]
fn s3_late_invalidate_is_found() {
    for planted in [PlantedBug::None, PlantedBug::LateInvalidate] {
        // Without copies, each load leaves a block that must be invalidated.
        let builder = builder().clean_copies(false).plant(planted);
        let Some(mut region) = build(builder) else { return };
        fill(&mut region[..4 * common::PAGE], 5);
        region.evict(0..4 * common::PAGE);
        // In this thread, so that the test does not race with a handler.
        region.prefetch(0..4 * common::PAGE);
        region.evict(0..4 * common::PAGE);
        let lost = region.hold(0..4 * common::PAGE).is_err();
        assert_eq!(lost, planted == PlantedBug::LateInvalidate, "{planted:?}");
        if !lost {
            assert!(has(&region[..4 * common::PAGE], 5));
        }
    }
}

/// Units that are zero when they go need no block, and read as zeros afterwards.
#[test]
fn contents_zeros_need_no_block() {
    let Some(mut region) = build(builder()) else { return };
    region[..64 * common::PAGE].fill(7);
    region.evict(0..64 * common::PAGE);
    assert_eq!(region.stats().stored_units, 64);
    region[..64 * common::PAGE].fill(0);
    region.evict(0..64 * common::PAGE);
    let stats = region.stats();
    assert_eq!((stats.stored_units, stats.units_dropped_zero), (0, 64), "{stats:?}");
    assert!(region[..64 * common::PAGE].iter().all(|&byte| byte == 0));
}

/// A page that did not change since it was loaded goes without a compression, one that changed is
/// stored again.
#[test]
fn contents_clean_copy_is_compared() {
    let pages = 256 * common::PAGE;
    let Some(mut region) = build(builder()) else { return };
    fill(&mut region[..pages], 3);
    region.evict(0..pages);
    // Late enough not to count as a refault, which would give the block up.
    fill(&mut region[pages..4 * pages], 4);
    region.evict(pages..4 * pages);
    region.prefetch(0..pages);
    region[common::PAGE] ^= 1;
    let before = region.stats();
    assert_eq!(region.evict(0..pages), pages);
    let after = region.stats();
    assert_eq!(after.units_dropped_clean - before.units_dropped_clean, 255, "{after:?}");
    region[common::PAGE] ^= 1;
    assert!(has(&region[..pages], 3));
}

/// Values through a shared borrow: many threads fault in the same units at once.
#[test]
fn contents_shared_readers() {
    for mode in [Mode::Threads(2), Mode::Signal] {
        let Some(mut region) = build(with_mode(builder(), mode)) else { return };
        fill(&mut region, 11);
        let sum = |bytes: &[u8]| bytes.iter().map(|&byte| u64::from(byte)).sum::<u64>();
        let mut expected = vec![0; LEN];
        fill(&mut expected, 11);
        let expected = sum(&expected);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| assert_eq!(sum(&region), expected));
            }
        });
    }
}
