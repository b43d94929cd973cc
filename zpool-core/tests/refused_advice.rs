//! Systems that do not take memory back, or make it resident unasked: `mlockall`, seccomp filters
//! that refuse `madvise`, and filters that accept it without effect. Each test has a child process.
#![cfg(all(target_os = "linux", not(zpool_loom), not(miri)))]
#![allow(unsafe_code, reason = "a pool's side of a page source")]

use std::fs;
use std::sync::Arc;

use zpool_core::page::{BudgetedSource, Discard, FramesRetained, MmapSource, PageSource, Run};
use zpool_testing::child::in_child;
use zpool_testing::system::{ANSWERS, lock_memory, refuse};

const ADVICE: [libc::c_long; 2] = [libc::SYS_madvise, libc::SYS_process_madvise];
const ADVICE_AND_MOVES: [libc::c_long; 3] =
    [libc::SYS_madvise, libc::SYS_process_madvise, libc::SYS_mremap];

/// Returns the resident anonymous memory of this process in bytes.
fn resident() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}

/// Returns the number of resident frames of a run.
fn frames_of(source: &MmapSource, run: &Run) -> usize {
    let mut frames = vec![0u8; run.len() / source.frame_size()];
    // SAFETY: the run is mapped, and there is a byte for each of its frames.
    let asked =
        unsafe { libc::mincore(run.base().as_ptr().cast(), run.len(), frames.as_mut_ptr()) };
    assert_eq!(asked, 0);
    frames.iter().filter(|&&byte| byte & 1 == 1).count()
}

/// Reserves and charges a run, and writes all of it.
fn written(source: &dyn PageSource, frames: usize) -> Run {
    let run = source.reserve(frames).unwrap();
    source.charge(frames).unwrap();
    // SAFETY: there is no other reference into it.
    unsafe { run.write(0, &vec![7; run.len()]) };
    run
}

/// Copies the run, for an entry of `discard_all`.
fn again(run: &Run) -> Run {
    // SAFETY: only addresses are used until the run itself is released.
    unsafe { Run::new(run.base(), run.len()) }
}

fn discard(source: &MmapSource, run: &Run) -> Result<(), FramesRetained> {
    // SAFETY: a run of this source, without a reference into it.
    unsafe { source.discard(run, 0..run.len() / source.frame_size()) }
}

fn release(source: &dyn PageSource, runs: Vec<Run>) {
    // SAFETY: runs of this source, without a reference into them.
    unsafe { source.release_all(&mut runs.into_iter()) };
}

/// Discards all of the runs at once. Returns how many were taken back.
fn discard_all(source: &MmapSource, runs: &[Run]) -> usize {
    let entry = |run: &Run| Discard::new(again(run), 0..run.len() / source.frame_size());
    let mut entries: Vec<_> = runs.iter().map(entry).collect();
    // SAFETY: runs of this source, without a reference into them.
    unsafe { source.discard_all(&mut entries) };
    let in_order = entries.iter().zip(runs).all(|(entry, run)| entry.run().base() == run.base());
    assert!(in_order, "entries stay in their order");
    entries.iter().filter(|entry| entry.is_discarded()).count()
}

/// With all mapped memory locked, reserving makes only written frames resident.
#[test]
fn locked_reserve_is_not_resident() {
    if !in_child("locked_reserve_is_not_resident")
        || !lock_memory(libc::MCL_CURRENT | libc::MCL_FUTURE)
    {
        return;
    }
    let before = resident();
    let source = MmapSource::new();
    let runs: Vec<_> = (1..=20).map(|frames| source.reserve(frames).unwrap()).collect();
    for run in &runs {
        assert_eq!(frames_of(&source, run), 0);
        // SAFETY: there is no other reference into it.
        unsafe { run.write(0, b"touched") };
        assert_eq!(frames_of(&source, run), 1);
    }
    assert!(resident() - before < 1 << 20, "{} bytes for 20 frames", resident() - before);
    release(&source, runs);
    assert_eq!(source.retained_frames(), 0);
}

/// If the system cannot lock on fault, a run is not locked, and only written frames are resident.
#[test]
fn reserve_without_lock_on_fault_is_not_resident() {
    if !in_child("reserve_without_lock_on_fault_is_not_resident")
        || !lock_memory(libc::MCL_CURRENT | libc::MCL_FUTURE)
        || !refuse(&[libc::SYS_mlock2], libc::ENOSYS)
    {
        return;
    }
    let source = MmapSource::new();
    let runs: Vec<_> = (1..=20).map(|frames| source.reserve(frames).unwrap()).collect();
    let filled: usize = runs.iter().map(|run| frames_of(&source, run)).sum();
    assert_eq!(filled, 0, "of 210 frames");
    release(&source, runs);
}

/// Locked frames are returned like others, one run at a time and many at once.
#[test]
fn locked_frames_are_discarded() {
    if !in_child("locked_frames_are_discarded")
        || !lock_memory(libc::MCL_CURRENT | libc::MCL_FUTURE)
    {
        return;
    }
    let source = MmapSource::new();
    let keep = written(&source, 1);
    let runs: Vec<_> = (0..300).map(|_| written(&source, 5)).collect();
    assert_eq!(discard(&source, &runs[0]), Ok(()));
    assert_eq!(frames_of(&source, &runs[0]), 0);
    assert_eq!(discard_all(&source, &runs[1..200]), 199);
    assert!(runs[..200].iter().all(|run| frames_of(&source, run) == 0));
    let full = resident();
    release(&source, runs);
    assert!(full - resident() >= 90 * 5 * source.frame_size(), "100 runs had memory");
    assert_eq!((source.retained_frames(), frames_of(&source, &keep)), (0, 1));
    release(&source, vec![keep]);
}

/// A program that locks its memory later does not make the rest of an arena resident, either.
#[test]
fn locked_later_reserve_is_not_resident() {
    if !in_child("locked_later_reserve_is_not_resident") {
        return;
    }
    let source = MmapSource::new();
    let first = written(&source, 1);
    let before = resident();
    if !lock_memory(libc::MCL_CURRENT) {
        return;
    }
    let runs: Vec<_> = (0..1000).map(|_| source.reserve(16).unwrap()).collect();
    let grown = resident().saturating_sub(before);
    // Other reservations of the process (stacks, the heap) are not ours; an arena is 64 MiB.
    assert!(grown < 32 << 20, "{grown} bytes");
    let filled: usize = runs.iter().map(|run| frames_of(&source, run)).sum();
    assert!(filled * source.frame_size() <= 1 << 20, "a step of an arena: {filled} frames");
    release(&source, runs);
    release(&source, vec![first]);
}

/// If madvise is refused, or accepted without effect, frames are returned in another way.
#[test]
fn refused_advice_discards_by_moving() {
    if !in_child("refused_advice_discards_by_moving") {
        return;
    }
    // A filter belongs to a thread and cannot be removed, so each has a thread.
    for answer in ANSWERS {
        let done = std::thread::spawn(move || discard_by_moving(&MmapSource::new(), answer)).join();
        done.unwrap_or_else(|_| panic!("answer {answer}"));
    }
}

fn discard_by_moving(source: &MmapSource, answer: i32) {
    let runs: Vec<_> = (0..200).map(|_| written(source, 4)).collect();
    if !refuse(&ADVICE, answer) {
        return;
    }
    // A refused hint is not an error.
    source.populate(&runs[0], 0..4);
    assert_eq!(discard(source, &runs[0]), Ok(()));
    assert_eq!(discard_all(source, &runs[1..100]), 99);
    for run in &runs[..100] {
        assert_eq!(frames_of(source, run), 0);
        // SAFETY: there is no other reference into it.
        unsafe { run.write(0, b"used again") };
        // SAFETY: and it is not written meanwhile.
        assert!(unsafe { run.slice(0, run.len()) }[10..].iter().all(|&byte| byte == 0));
    }
    let full = resident();
    release(source, runs);
    assert!(full - resident() >= 400 * source.frame_size());
    assert_eq!(source.retained_frames(), 0);
}

/// Frames that cannot be returned are reported as kept, stay usable and charged, and are handed out
/// before other memory. When their arena is no longer used, they are freed with it.
#[test]
fn refused_frames_stay_counted() {
    if !in_child("refused_frames_stay_counted") {
        return;
    }
    for answer in ANSWERS {
        let done = std::thread::spawn(move || keep_on_the_books(answer)).join();
        done.unwrap_or_else(|_| panic!("answer {answer}"));
    }
}

fn keep_on_the_books(answer: i32) {
    let source = MmapSource::new();
    let (keep, runs): (_, Vec<_>) =
        (written(&source, 1), (0..200).map(|_| written(&source, 4)).collect());
    if !refuse(&ADVICE_AND_MOVES, answer) {
        return;
    }
    assert_eq!(discard(&source, &runs[0]), Err(FramesRetained));
    assert_eq!((discard_all(&source, &runs), frames_of(&source, &runs[3])), (0, 4));
    // SAFETY: there is no other reference into it.
    unsafe { runs[0].write(0, b"usable") };
    release(&source, runs);
    source.uncharge(800);
    assert_eq!((source.retained_frames(), source.charged_frames()), (800, 801));
    let reused: Vec<_> = (0..200).map(|_| source.reserve(4).unwrap()).collect();
    assert!(reused.iter().all(|run| frames_of(&source, run) == 4), "those that have memory");
    assert_eq!((source.retained_frames(), source.charged_frames()), (0, 1));
    let (full, arenas) = (resident(), source.arenas());
    release(&source, reused);
    release(&source, vec![keep]);
    assert_eq!((source.retained_frames(), source.arenas()), (0, arenas - 1));
    assert!(full - resident() >= 800 * source.frame_size(), "the arena was unmapped");
}

/// Frames that the source behind a budget has kept count as charged, but not towards the budget.
/// (They were not counted.)
#[test]
fn budget_counts_retained_frames_as_charged() {
    if !in_child("budget_counts_retained_frames_as_charged") {
        return;
    }
    let inner = Arc::new(MmapSource::new());
    let source = BudgetedSource::new(inner.clone(), 5);
    let (keep, run) = (written(&source, 1), written(&source, 4));
    if !refuse(&ADVICE_AND_MOVES, libc::EPERM) {
        return;
    }
    release(&source, vec![run]);
    source.uncharge(4);
    assert_eq!((source.retained_frames(), source.charged_frames()), (4, 5));
    assert_eq!(inner.charged_frames(), 5);
    source.charge(4).unwrap();
    assert_eq!((source.charged_frames(), source.charge(1).is_err()), (9, true));
    release(&source, vec![keep]);
}

/// Locked frames are kept if the system neither unlocks nor moves them, even if it does not report
/// what is resident.
#[test]
fn refused_unlock_keeps_frames() {
    if !in_child("refused_unlock_keeps_frames")
        || !lock_memory(libc::MCL_CURRENT | libc::MCL_FUTURE)
    {
        return;
    }
    let source = MmapSource::new();
    let (keep, run) = (written(&source, 1), written(&source, 4));
    let mut calls = ADVICE_AND_MOVES.to_vec();
    // In place of the advice for locked memory, which Linux knows since 5.18.
    calls.extend([libc::SYS_munlock, libc::SYS_mincore]);
    if !refuse(&calls, libc::EINVAL) {
        return;
    }
    assert_eq!(discard(&source, &run), Err(FramesRetained));
    assert_eq!(discard_all(&source, std::slice::from_ref(&run)), 0);
    release(&source, vec![run]);
    assert_eq!(source.retained_frames(), 4);
    release(&source, vec![keep]);
}

/// A source excluded from core dumps works even if that is refused.
#[test]
fn refused_no_dump_is_no_error() {
    if !in_child("refused_no_dump_is_no_error") || !refuse(&ADVICE, libc::EPERM) {
        return;
    }
    let source = MmapSource::excluded_from_dumps();
    let run = written(&source, 2);
    release(&source, vec![run]);
    assert_eq!(source.retained_frames(), 0);
}
