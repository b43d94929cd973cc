//! S4, S7, S8, S9: forks, locked memory, descriptors, drops and dumps.

#![cfg(target_os = "linux")]

mod common;

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};

use common::{MODES, Mode, PAGE, build, fill, has, with_mode};
use zpool_region::{Region, RegionBuilder, RegionError};

const LEN: usize = 4 << 20;

/// The variable that tells a test that it is the child.
const CHILD: &str = "ZPOOL_REGION_CHILD";

fn builder() -> RegionBuilder {
    Region::builder().len(LEN).limit_bytes(LEN)
}

/// Runs a test of this program again, in a process of its own, and returns how it ended.
fn run_child(test: &str) -> ExitStatus {
    let program = std::env::current_exe().unwrap();
    Command::new(program)
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(CHILD, "1")
        .status()
        .unwrap()
}

fn is_child() -> bool {
    std::env::var_os(CHILD).is_some()
}

/// Forks; the child runs `child` and exits with its result. Returns how it ended.
#[allow(unsafe_code, reason = "fork has no safe interface")]
fn fork(child: impl FnOnce() -> i32) -> ExitStatus {
    // SAFETY: the child only touches memory, drops a region, and exits without cleaning up.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let code = child();
        // SAFETY: ends the child.
        unsafe { libc::_exit(code) };
    }
    assert!(pid > 0, "a fork");
    let mut status = 0;
    // SAFETY: our own child.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    ExitStatus::from_raw(status)
}

/// S4: a forked child is killed by an access instead of reading zeros, and can drop its copy.
#[test]
fn s4_forked_child_reads_no_zeros() {
    for mode in [Mode::Threads(1), Mode::Signal] {
        let Some(mut region) = build(with_mode(builder(), mode)) else { return };
        fill(&mut region, 1);
        region.evict(0..LEN / 2);
        for at in [0, LEN - 1] {
            let ended = fork(|| i32::from(std::hint::black_box(region[at])));
            let signal = ended.signal();
            assert!(
                [Some(libc::SIGSEGV), Some(libc::SIGBUS)].contains(&signal),
                "{mode:?}, at {at}: {ended:?}"
            );
        }
        let ended = fork(|| {
            region.prefetch(0..LEN);
            region.discard(1..LEN);
            let held = region.hold(0..PAGE);
            i32::from(region.evict(0..LEN) != 0 || !matches!(held, Err(RegionError::OtherProcess)))
        });
        assert_eq!(ended.code(), Some(0), "{ended:?}");
        let mut region = Some(region);
        let ended = fork(|| {
            drop(region.take());
            0
        });
        assert_eq!(ended.code(), Some(0), "{ended:?}");
        assert!(has(region.as_ref().unwrap(), 1), "the parent has all of it");
    }
}

/// S4: the end of a hold in a forked child does not try to put pages away.
#[test]
fn s4_hold_that_ends_in_a_child_does_nothing() {
    for mode in [Mode::Threads(1), Mode::Signal] {
        let Some(mut region) = build(with_mode(builder().limit_bytes(2 * LEN), mode)) else {
            return;
        };
        fill(&mut region, 5);
        let control = region.control();
        let mut held = Some(region.hold(0..LEN).unwrap());
        // Held pages stay, so the region is over this limit.
        control.set_limit(LEN / 2);
        let ended = fork(|| {
            drop(held.take());
            // Pages of the parent do not move, and would count as pinned.
            i32::from(control.stats().unwrap().units_pinned != 0)
        });
        assert_eq!(ended.code(), Some(0), "{mode:?}: {ended:?}");
        assert_eq!(control.stats().unwrap().units_evicted, 0);
        drop(held);
        assert!(control.stats().unwrap().units_evicted > 0);
        assert!(has(&region, 5), "{mode:?}");
    }
}

/// S4: if a forked child maps a file where the region was, our handler does not serve its `SIGBUS`.
#[test]
#[allow(unsafe_code, reason = "maps a file over a region in a child")]
fn s4_sigbus_of_a_child_is_not_served() {
    let Some(mut region) = build(with_mode(builder(), Mode::Signal)) else { return };
    fill(&mut region, 6);
    region.evict(0..LEN);
    let empty = tempfile::tempfile().unwrap();
    let ended = fork(|| {
        let start = region.as_ptr().cast_mut();
        let flags = libc::MAP_SHARED | libc::MAP_FIXED;
        // SAFETY: ends the child if the access below is repeated for ever.
        unsafe { libc::alarm(20) };
        // SAFETY: the child does not have the region, so nothing is replaced.
        let over =
            unsafe { libc::mmap(start.cast(), LEN, libc::PROT_READ, flags, empty.as_raw_fd(), 0) };
        if over != start.cast() {
            return 1;
        }
        // SAFETY: behind the end of the file, so this raises `SIGBUS`.
        i32::from(unsafe { start.read_volatile() })
    });
    assert_eq!(ended.signal(), Some(libc::SIGBUS), "{ended:?}");
    assert!(has(&region, 6));
}

/// S4: the descriptor is closed in a program that a child starts.
#[test]
fn s4_descriptor_is_close_on_exec() {
    let Some(region) = build(builder()) else { return };
    let open = |folder: &str| {
        let links = fs::read_dir(folder)
            .unwrap()
            .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
        links.filter(|to| to.to_string_lossy().contains("userfaultfd")).count()
    };
    assert!(open("/proc/self/fd") > 0);
    let list = Command::new("ls").args(["-l", "/proc/self/fd"]).output().unwrap();
    assert!(!String::from_utf8_lossy(&list.stdout).contains("userfaultfd"));
    drop(region);
}

/// S7: many regions are made, used and dropped, and leave neither threads nor descriptors.
#[test]
fn s7_drop_leaves_nothing() {
    if !is_child() {
        // Alone, because other tests have regions of their own.
        let ended = run_child("s7_drop_leaves_nothing");
        assert!(ended.success(), "{ended:?}");
        return;
    }
    let count = |folder: &str| fs::read_dir(folder).unwrap().count();
    let figures = || (count("/proc/self/fd"), count("/proc/self/task"));
    let mut before = None;
    for round in 0..30 {
        for mode in MODES {
            let Some(mut region) = build(with_mode(builder(), mode)) else { return };
            fill(&mut region[..64 * PAGE], round);
            region.evict(0..64 * PAGE);
            assert!(has(&region[..64 * PAGE], round));
        }
        // A thread that was joined may be listed for a moment.
        let settled = |wanted: &dyn Fn(usize) -> bool| {
            let mut now = figures();
            for _ in 0..100_000 {
                if wanted(now.1) {
                    break;
                }
                std::thread::yield_now();
                now = figures();
            }
            now
        };
        let first = *before.get_or_insert_with(|| settled(&|threads| threads <= 2));
        assert_eq!(settled(&|threads| threads == first.1), first, "round {round}");
    }
}

/// S8: a part that is locked later stays, and everything else goes.
#[test]
#[allow(unsafe_code, reason = "locks memory")]
fn s8_locked_pages_stay() {
    let Some(mut region) = build(builder().limit_bytes(2 * LEN)) else { return };
    fill(&mut region, 4);
    let locked = region[..8 * PAGE].as_ptr();
    // SAFETY: our own memory; contents do not change.
    if unsafe { libc::mlock(locked.cast(), 8 * PAGE) } != 0 {
        println!("skipped: mlock is not allowed: {}", std::io::Error::last_os_error());
        return;
    }
    let gone = region.evict(0..LEN);
    assert_eq!(gone, LEN - 8 * PAGE);
    assert_eq!(region.stats().units_pinned, 8);
    assert!(has(&region, 4));
    // Discarding works for locked pages as well.
    region.discard(0..4 * PAGE);
    assert!(region[..4 * PAGE].iter().all(|&byte| byte == 0));
}

/// S8: a program that locks all its memory cannot build a region, and learns why.
#[test]
#[allow(unsafe_code, reason = "locks memory")]
fn s8_mlockall_is_refused() {
    if !is_child() {
        let ended = run_child("s8_mlockall_is_refused");
        assert!(ended.success(), "{ended:?}");
        return;
    }
    if build(builder()).is_none() {
        return;
    }
    // SAFETY: contents do not change.
    if unsafe { libc::mlockall(libc::MCL_FUTURE) } != 0 {
        println!("skipped: mlockall is not allowed: {}", std::io::Error::last_os_error());
        return;
    }
    let refused = builder().build();
    assert!(matches!(refused, Err(RegionError::MemoryLocked)), "{refused:?}");
}

/// S9: the mapping of a region is marked as missing in dumps, and as one without huge pages.
#[test]
fn s9_no_dump_and_no_huge_pages() {
    let Some(region) = build(builder()) else { return };
    let start = format!("{:x}-", region.as_ptr().addr());
    let smaps = fs::read_to_string("/proc/self/smaps").unwrap();
    let ours = smaps.split_once(&start).expect("the region is mapped").1;
    let flags = ours.lines().find(|line| line.starts_with("VmFlags:")).unwrap();
    for flag in [" dd", " dc", " um"] {
        assert!(flags.contains(flag), "{flag} in {flags}");
    }
}
