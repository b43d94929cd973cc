//! Separates the time that a call took from the time that its thread was ready but had no
//! processor.
//!
//! ```text
//!   wall   ├── runs ──┤ waits for a lock ├── ready, another thread runs ──┤ runs ┤
//!   cpu    ├── runs ──┤                                                  ├ runs ┤
//!   ready                                ├────────────────────────────────┤   `schedstat`
//! ```
//!
//! A load that waits for a lock is slow because of the store. A load that was preempted is slow
//! because of the machine. Both look alike on the wall clock, and the clock of the thread shows
//! neither.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use workload::{Elapsed, clocked};

/// The scheduler's account of one thread. Readable from any thread of the process.
#[derive(Debug)]
pub(crate) struct Account {
    schedstat: File,
    status: File,
}

/// The waits of a thread since its start.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Waits {
    /// The time in which the thread was runnable without a processor.
    pub(crate) runnable_wait: Duration,
    /// How often the thread got a processor. If unchanged, the thread neither slept nor was
    /// preempted.
    pub(crate) slices: u64,
}

impl Account {
    /// Opens the account of the calling thread.
    ///
    /// # Errors
    ///
    /// If `/proc` is not mounted, or the kernel keeps no such account.
    pub(crate) fn of_this_thread() -> io::Result<Account> {
        let open = |name| File::open(format!("/proc/thread-self/{name}"));
        let account = Account { schedstat: open("schedstat")?, status: open("status")? };
        // Fails here rather than in the middle of a measurement.
        let first = fs::read_to_string("/proc/thread-self/schedstat")?;
        ready_field(&first).ok_or(io::ErrorKind::InvalidData)?;
        Ok(account)
    }

    /// Returns the time that the thread was runnable without a processor, since its start.
    pub(crate) fn runnable_wait(&self) -> Duration {
        self.waits().runnable_wait
    }

    /// Returns how the thread waited, since its start.
    pub(crate) fn waits(&self) -> Waits {
        let mut buffer = [0; 128];
        let text = read(&self.schedstat, &mut buffer);
        let runnable_wait = Duration::from_nanos(ready_field(text).unwrap_or(0));
        Waits { runnable_wait, slices: slices_field(text).unwrap_or(0) }
    }

    /// Returns how often the thread went to sleep, since its start.
    pub(crate) fn sleeps(&self) -> u64 {
        let mut buffer = [0; 4096];
        sleeps_field(read(&self.status, &mut buffer)).unwrap_or(0)
    }

    /// Runs `work` on the thread of this account and returns its wall time less the time it was
    /// runnable without a processor.
    pub(crate) fn timed<R>(&self, work: impl FnOnce() -> R) -> (Duration, R) {
        let before = self.runnable_wait();
        let (elapsed, result) = clocked(work);
        (elapsed.wall.saturating_sub(self.runnable_wait().saturating_sub(before)), result)
    }
}

/// Returns what a call cost that took `elapsed`.
///
/// If the thread `slept`, it waited for a lock, and the wall time counts. From that we subtract the
/// time that it was runnable without a processor, or that the `other` thread was, which it waited
/// for. The two may overlap, so only the longer one is subtracted: on a busy machine a cost is too
/// high rather than too low.
///
/// If the thread did not sleep, its clock counts, which leaves out what a hypervisor took.
pub(crate) fn cost(elapsed: Elapsed, slept: bool, waited: Duration, other: Duration) -> Duration {
    match slept {
        true => elapsed.wall.saturating_sub(waited.max(other)).max(elapsed.cpu),
        false => elapsed.cpu,
    }
}

/// Reads a file of `/proc` from its beginning, without the heap.
fn read<'b>(file: &File, buffer: &'b mut [u8]) -> &'b str {
    let length = file.read_at(buffer, 0).unwrap_or(0);
    std::str::from_utf8(&buffer[..length]).unwrap_or_default()
}

/// Parses `ran ready slices`. The first two are nanoseconds.
fn ready_field(schedstat: &str) -> Option<u64> {
    schedstat.split_ascii_whitespace().nth(1)?.parse().ok()
}

fn slices_field(schedstat: &str) -> Option<u64> {
    schedstat.split_ascii_whitespace().nth(2)?.parse().ok()
}

fn sleeps_field(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn fields_are_found() {
        assert_eq!(ready_field("139242 3815184 2\n"), Some(3_815_184));
        assert_eq!(ready_field("139242"), None);
        assert_eq!(slices_field("139242 3815184 2\n"), Some(2));
        let status = "Name:\tscale\nvoluntary_ctxt_switches:\t17\nnonvoluntary_ctxt_switches:\t4\n";
        assert_eq!(sleeps_field(status), Some(17));
    }

    /// A preempted call costs what it ran. A call that slept costs its wait as well.
    #[test]
    fn cost_counts_waits_but_not_preemption() {
        let elapsed = Elapsed { cpu: ms(1), wall: ms(20) };
        assert_eq!(cost(elapsed, false, ms(19), ms(0)), ms(1));
        assert_eq!(cost(elapsed, true, ms(0), ms(0)), ms(20));
        assert_eq!(cost(elapsed, true, ms(4), ms(6)), ms(14));
        assert_eq!(cost(elapsed, true, ms(30), ms(6)), ms(1));
    }

    #[test]
    fn account_counts_sleeps_of_its_thread() {
        let account = Account::of_this_thread().unwrap();
        let before = account.sleeps();
        std::thread::sleep(ms(1));
        assert!(account.sleeps() > before);
    }
}
