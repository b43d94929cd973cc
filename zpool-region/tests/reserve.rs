//! Address space of which parts are opened and closed, and forked children that adopt it.

#![cfg(target_os = "linux")]
#![allow(unsafe_code, reason = "reads and writes a reserve by pointers, and forks")]

mod common;

use std::{slice, thread};

use common::{PAGE, fill, has};
use zpool_region::{Region, RegionReserve};

const LEN: usize = 64 << 20;
const LIMIT: usize = 4 << 20;
/// Three times the limit.
const PART: usize = 12 << 20;

fn reserve() -> Option<RegionReserve> {
    match Region::builder().len(LEN).limit_bytes(LIMIT).reserve() {
        Ok(reserve) => Some(reserve),
        Err(error) if error.is_unsupported() => {
            println!("skipped: {error}");
            None
        }
        Err(error) => panic!("a reserve: {error}"),
    }
}

/// Lends an open part.
#[allow(clippy::mut_from_ref, reason = "the tests are careful")]
fn part(reserve: &RegionReserve, at: usize, len: usize) -> &mut [u8] {
    // SAFETY: open parts of the reserve, of which a test lends one at a time.
    unsafe { slice::from_raw_parts_mut(reserve.base().wrapping_add(at), len) }
}

/// S1: parts keep their contents, are zeros again when they were closed, and readahead fills
/// nothing behind them.
#[test]
fn s1_parts_keep_their_contents() {
    let Some(reserve) = reserve() else { return };
    let starts = [0, PART + 7 * PAGE, 3 * PART];
    for (seed, start) in starts.into_iter().enumerate() {
        reserve.open(start..start + PART).unwrap();
        fill(part(&reserve, start, PART), seed as u64);
    }
    for (seed, start) in starts.into_iter().enumerate() {
        assert!(has(part(&reserve, start, PART), seed as u64));
    }
    let stats = reserve.stats();
    assert!(
        stats.units_evicted > (2 * PART / PAGE) as u64 && stats.resident_bytes <= LIMIT + PART / 8
    );
    // SAFETY: nothing refers to the part.
    unsafe { reserve.close(starts[1]..starts[1] + PART) }.unwrap();
    reserve.open(starts[1]..starts[1] + PART).unwrap();
    assert!(part(&reserve, starts[1], PART).iter().all(|&byte| byte == 0));
    // SAFETY: nothing refers to the part.
    unsafe { reserve.discard(PAGE..2 * PAGE) };
    assert!(part(&reserve, PAGE, PAGE).iter().all(|&byte| byte == 0));
    assert!(has(part(&reserve, starts[2], PART), 2));
    for start in starts {
        // SAFETY: nothing refers to the part.
        unsafe { reserve.close(start..start + PART) }.unwrap();
    }
    let stats = reserve.stats();
    assert_eq!((stats.resident_bytes, stats.stored_units), (0, 0));
    // A part of one page, with closed ones on both sides.
    reserve.open(LEN / 2..LEN / 2 + PAGE).unwrap();
    part(&reserve, LEN / 2, PAGE)[7] = 7;
    // The handler counts the page just after it has woken this thread.
    while reserve.stats().resident_bytes == 0 {
        thread::yield_now();
    }
    assert_eq!(reserve.stats().resident_bytes, PAGE);
}

/// S4: a child that was forked between `suspend` and `resume_in_child` has a copy of all contents.
/// What either process writes later is its own.
#[test]
fn s4_child_adopts_its_copy() {
    let Some(reserve) = reserve() else { return };
    reserve.open(0..PART).unwrap();
    fill(part(&reserve, 0, PART), 1);
    for round in 0..3 {
        let process = fork(&reserve);
        if process == 0 {
            exit_child(child_checks(&reserve));
        }
        // Changed while the child may still read its copy.
        reserve.open(PART..2 * PART).unwrap();
        fill(part(&reserve, PART, PART), round + 2);
        reserve.evict(0..2 * PART);
        assert_eq!(wait_for(process), 0, "round {round}");
        assert!(has(part(&reserve, 0, PART), 1));
        assert!(has(part(&reserve, PART, PART), round + 2));
        // SAFETY: nothing refers to the part.
        unsafe { reserve.close(PART..2 * PART) }.unwrap();
    }
    let stats = reserve.stats();
    assert_eq!((stats.units_poisoned, stats.stores_failed), (0, 0));
}

/// Uses the copy of a child. Returns an exit code.
fn child_checks(reserve: &RegionReserve) -> i32 {
    let mine = part(reserve, 0, PART);
    if !has(mine, 1) {
        return 1;
    }
    fill(&mut mine[..PART / 2], 9);
    reserve.evict(0..PART);
    if !has(&mine[..PART / 2], 9) {
        return 2;
    }
    // A program that closes what it does not know.
    for number in reserve.descriptors() {
        // SAFETY: the handlers have copies.
        unsafe { libc::close(number) };
    }
    if has(&mine[..PART / 2], 9) { 0 } else { 3 }
}

/// S4: without `suspend`, a child has no memory of the reserve.
#[test]
fn s4_bare_child_has_no_memory() {
    let Some(reserve) = reserve() else { return };
    reserve.open(0..PART).unwrap();
    fill(part(&reserve, 0, PART), 1);
    // SAFETY: the child reads a byte, and exits.
    let process = unsafe { libc::fork() };
    if process == 0 {
        exit_child(i32::from(std::hint::black_box(part(&reserve, 0, 1))[0]));
    }
    assert_eq!(wait_for(process) & 0x7F, libc::SIGSEGV);
    assert!(has(part(&reserve, 0, PART), 1));
}

fn fork(reserve: &RegionReserve) -> i32 {
    // SAFETY: (1) one thread; (2) it only forks; (3) both processes resume below.
    unsafe { reserve.suspend() };
    // SAFETY: the child does what these tests do, and exits.
    let process = unsafe { libc::fork() };
    if process == 0 {
        // SAFETY: (1) suspended above.
        if unsafe { reserve.resume_in_child() }.is_err() {
            exit_child(100);
        }
    } else {
        // SAFETY: (1) suspended above.
        unsafe { reserve.resume_in_parent() };
    }
    assert!(process >= 0, "a fork");
    process
}

fn exit_child(code: i32) -> ! {
    // SAFETY: ends the child, without what belongs to the parent.
    unsafe { libc::_exit(code) }
}

fn wait_for(process: i32) -> i32 {
    let mut status = 0;
    // SAFETY: our own child.
    assert_eq!(unsafe { libc::waitpid(process, &raw mut status, 0) }, process);
    status
}
