//! Two clocks at once: the time that a thread ran, and the wall-clock time.

use std::ops::AddAssign;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// The time that a piece of work took.
///
/// For work that never waits, both are the same on an idle machine. On a shared one, `wall`
/// includes the turns of other programs, which hit one measurement and not the next. `cpu` includes
/// only what those programs did to the caches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Elapsed {
    /// The time that this thread ran, in user space or in the kernel.
    pub cpu: Duration,
    /// The wall-clock time.
    pub wall: Duration,
}

impl AddAssign for Elapsed {
    fn add_assign(&mut self, other: Elapsed) {
        self.cpu += other.cpu;
        self.wall += other.wall;
    }
}

/// Returns the time that `work` takes on both clocks, and its result. The clocks cost a little, so
/// `work` should take 100 µs or more.
pub fn clocked<R>(work: impl FnOnce() -> R) -> (Elapsed, R) {
    let (start, ran) = (Instant::now(), thread_time());
    let result = std::hint::black_box(work());
    let cpu = thread_time().saturating_sub(ran);
    (Elapsed { cpu, wall: start.elapsed() }, result)
}

/// Returns the time of all threads of this process as `cpu`, and the wall time, for work that is
/// partly done in the background. That work must be over when `work` returns, or it counts for the
/// next measurement.
pub fn clocked_process<R>(work: impl FnOnce() -> R) -> (Elapsed, R) {
    let (start, ran) = (Instant::now(), time_of(ClockId::ProcessCPUTime));
    let result = std::hint::black_box(work());
    let cpu = time_of(ClockId::ProcessCPUTime).saturating_sub(ran);
    (Elapsed { cpu, wall: start.elapsed() }, result)
}

/// Returns how long this thread has run so far.
fn thread_time() -> Duration {
    time_of(ClockId::ThreadCPUTime)
}

fn time_of(clock: ClockId) -> Duration {
    let now = clock_gettime(clock);
    // It is never negative, and its nanoseconds are below a second.
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sleeping_is_no_work() {
        let (elapsed, result) = clocked(|| {
            std::thread::sleep(Duration::from_millis(20));
            7
        });
        assert_eq!(result, 7);
        assert!(
            elapsed.wall >= Duration::from_millis(20) && elapsed.cpu < elapsed.wall,
            "{elapsed:?}"
        );
    }

    /// The work of other threads is on the clock of the process.
    #[test]
    fn process_clock_has_all_threads() {
        let spin = || (0..2_000_000u64).fold(1, |a, b| std::hint::black_box(a ^ b));
        let (elapsed, thread) =
            clocked_process(|| std::thread::spawn(move || clocked(spin).0).join().unwrap());
        assert!(elapsed.cpu >= thread.cpu && thread.cpu > Duration::ZERO, "{elapsed:?} {thread:?}");
    }

    #[test]
    fn work_is_on_both_clocks() {
        let spin = || (0..200_000u64).fold(1, |a, b| std::hint::black_box(a ^ b));
        let (mut elapsed, _) = clocked(spin);
        elapsed += clocked(spin).0;
        assert!(elapsed.cpu > Duration::ZERO && elapsed.wall > Duration::ZERO, "{elapsed:?}");
    }
}
