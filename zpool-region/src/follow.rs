//! Keeps a handler on the processor of the one thread whose faults it serves.
//!
//! A thread that waits for its page leaves its processor idle. If the handler runs there, a fault
//! costs two switches of threads. Elsewhere it also wakes an idle processor, twice: that takes an
//! interrupt each time and, in a virtual machine, often an exit to the host. The scheduler chooses
//! the other processor, because the thread still runs when it wakes the handler.
//!
//! As long as all faults in a row are of one thread, the handler asks now and then where that runs,
//! and binds itself to that processor. The first fault of another thread ends this: with several
//! threads, other processors are awake, or should be.

use std::ffi::CStr;
use std::io::Write;

use rustix::fs::{Mode, OFlags, open};
use rustix::io::read;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Faults in a row of one thread before the handler follows it.
const ALONE: u32 = 32;

/// Faults of that thread between two looks at where it runs: a look costs as much as some faults.
const LOOK: u32 = 256;

/// The number of the field `processor` in `/proc/PID/stat`, counted from the one behind the name
/// (proc_pid_stat(5): 39, and the name is 2).
const PROCESSOR_FIELD: usize = 39 - 3;

/// The processor of a handler, and the thread that it serves.
#[derive(Debug)]
pub(crate) struct Follower {
    /// The processors that the handler may use. `None` if the system does not tell.
    allowed: Option<CpuSet>,
    /// The thread of the latest fault, and how many in a row were its.
    thread: u32,
    in_a_row: u32,
    /// The processor that the handler is bound to.
    bound_to: Option<usize>,
}

impl Follower {
    /// Makes the state of the calling thread, which is a handler.
    pub(crate) fn new() -> Follower {
        let allowed = sched_getaffinity(None).ok();
        Follower { allowed, thread: 0, in_a_row: 0, bound_to: None }
    }

    /// Notes a fault of `thread`, and follows that thread if it is alone.
    pub(crate) fn note(&mut self, thread: u32) {
        if thread != self.thread {
            (self.thread, self.in_a_row) = (thread, 0);
            self.unbind();
            return;
        }
        self.in_a_row += 1;
        if self.in_a_row == ALONE {
            self.bind();
        } else if self.in_a_row == ALONE + LOOK {
            self.in_a_row = ALONE;
            self.bind();
        }
    }

    fn bind(&mut self) {
        let Some(allowed) = &self.allowed else { return };
        let processor = processor_of(self.thread).filter(|cpu| allowed.is_set(*cpu));
        let Some(processor) = processor else { return self.unbind() };
        if self.bound_to != Some(processor) {
            let mut only = CpuSet::new();
            only.set(processor);
            if sched_setaffinity(None, &only).is_ok() {
                self.bound_to = Some(processor);
            }
        }
    }

    fn unbind(&mut self) {
        if let (Some(_), Some(allowed)) = (self.bound_to.take(), &self.allowed) {
            // If the system refuses, its own choice of processors is as good.
            let _ = sched_setaffinity(None, allowed);
        }
    }
}

/// Returns the processor that a thread of this process runs on, or ran on last. Makes no heap call.
fn processor_of(thread: u32) -> Option<usize> {
    let mut path = [0; 40];
    write!(&mut path[..], "/proc/self/task/{thread}/stat\0").ok()?;
    let path = CStr::from_bytes_until_nul(&path).ok()?;
    let file = open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let mut line = [0; 512];
    let len = read(&file, &mut line).ok()?;
    processor_in(&line[..len])
}

/// Returns the processor in a line of `/proc/PID/stat`. The name may contain spaces and brackets.
fn processor_in(line: &[u8]) -> Option<usize> {
    let behind_name = line.iter().rposition(|byte| *byte == b')')? + 1;
    let fields = line[behind_name..].trim_ascii();
    let field = fields.split(|byte| *byte == b' ').nth(PROCESSOR_FIELD)?;
    std::str::from_utf8(field).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The field is found behind any name, and nothing is made up where it is missing.
    #[test]
    fn processor_is_found_behind_any_name() {
        let fields: Vec<String> = (4..=52).map(|n| (n * 10).to_string()).collect();
        for name in ["sort", "a b", ") 1 2 (", ""] {
            let line = format!("17 ({name}) R {}\n", fields.join(" "));
            assert_eq!(processor_in(line.as_bytes()), Some(390), "{name:?}");
        }
        for line in ["", "17 (sort", "17 (sort) R 1 2 3"] {
            assert_eq!(processor_in(line.as_bytes()), None, "{line:?}");
        }
    }

    /// A thread that may run on one processor is found there.
    #[test]
    fn processor_of_bound_thread_is_known() {
        let allowed = sched_getaffinity(None).unwrap();
        let processor = (0..CpuSet::MAX_CPU).rfind(|cpu| allowed.is_set(*cpu)).unwrap();
        let mut only = CpuSet::new();
        only.set(processor);
        std::thread::spawn(move || {
            sched_setaffinity(None, &only).unwrap();
            let thread = rustix::thread::gettid().as_raw_nonzero().get() as u32;
            assert_eq!(processor_of(thread), Some(processor));
        })
        .join()
        .unwrap();
        assert_eq!(processor_of(u32::MAX), None);
    }
}
