//! The processor of handlers: that of the one thread that faults, or any.

#![cfg(target_os = "linux")]

mod common;

use std::fs;
use std::thread;

use common::{Mode, PAGE, build, fill, with_mode};
use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use zpool_region::Region;

const PAGES: usize = 400;

/// Returns the id of the handler thread of this process, once it has its name.
fn handler() -> Pid {
    loop {
        let tasks = fs::read_dir("/proc/self/task").unwrap();
        let handler = tasks.filter_map(Result::ok).find_map(|task| {
            let name = fs::read_to_string(task.path().join("comm")).ok()?;
            let id = task.file_name().to_str()?.parse().ok()?;
            (name.trim_end() == "zpool-region").then(|| Pid::from_raw(id))?
        });
        match handler {
            Some(handler) => return handler,
            None => thread::yield_now(),
        }
    }
}

fn processors(set: &CpuSet) -> Vec<usize> {
    (0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect()
}

/// Waits until the processors of `handler` are these.
fn wait_for(handler: Pid, expected: &[usize]) {
    while processors(&sched_getaffinity(Some(handler)).unwrap()) != expected {
        thread::yield_now();
    }
}

/// Touches pages that are not resident, so that each is a fault.
fn touch(region: &Region, pages: std::ops::Range<usize>) -> usize {
    pages.map(|page| usize::from(std::hint::black_box(region[page * PAGE]))).sum()
}

/// A handler moves to the processor of a thread that faults alone, and follows it. With another
/// thread it is free again.
#[test]
fn handler_follows_lone_thread() {
    let builder = Region::builder().len(PAGES * PAGE).limit_bytes(2 * PAGES * PAGE).readahead(1);
    let Some(mut region) = build(with_mode(builder, Mode::Threads(1))) else { return };
    let allowed = processors(&sched_getaffinity(None).unwrap());
    let handler = handler();
    fill(&mut region, 1);
    for &processor in &allowed {
        region.evict(0..PAGES * PAGE);
        thread::scope(|scope| {
            let alone = scope.spawn(|| {
                let mut only = CpuSet::new();
                only.set(processor);
                sched_setaffinity(None, &only).unwrap();
                touch(&region, 0..PAGES / 2)
            });
            alone.join().unwrap();
        });
        wait_for(handler, &[processor]);
    }
    // Two threads in turns.
    region.evict(0..PAGES * PAGE);
    for page in 0..4 {
        thread::scope(|scope| {
            scope.spawn(|| touch(&region, page..page + 1));
        });
    }
    wait_for(handler, &allowed);
}
