//! Two clocks at once: what the thread worked, and what went by on the wall.

use std::ops::AddAssign;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// What a piece of work took.
///
/// On an idle machine both are the same for work that never waits. On a shared one `wall` has the turns of other programs in it, which fall on whoever
/// happens to be measured; `cpu` has only what they did to the caches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Elapsed {
    /// Time that this thread ran, in user space or in the kernel.
    pub cpu: Duration,
    /// Time that went by.
    pub wall: Duration,
}

impl AddAssign for Elapsed {
    fn add_assign(&mut self, other: Elapsed) {
        self.cpu += other.cpu;
        self.wall += other.wall;
    }
}

/// The time that `work` takes on both clocks, and its result. Costs under a microsecond: `work` should take a hundred.
pub fn clocked<R>(work: impl FnOnce() -> R) -> (Elapsed, R) {
    let (start, ran) = (Instant::now(), thread_time());
    let result = std::hint::black_box(work());
    let cpu = thread_time().saturating_sub(ran);
    (Elapsed { cpu, wall: start.elapsed() }, result)
}

/// As [`clocked`], with the time that all threads of this process ran as `cpu`: for work that is partly done in the background. Such work must be
/// over when `work` returns, or it counts for whoever is measured next.
pub fn clocked_process<R>(work: impl FnOnce() -> R) -> (Elapsed, R) {
    let (start, ran) = (Instant::now(), time_of(ClockId::ProcessCPUTime));
    let result = std::hint::black_box(work());
    let cpu = time_of(ClockId::ProcessCPUTime).saturating_sub(ran);
    (Elapsed { cpu, wall: start.elapsed() }, result)
}

/// Time that this thread has run so far.
fn thread_time() -> Duration {
    time_of(ClockId::ThreadCPUTime)
}

fn time_of(clock: ClockId) -> Duration {
    let now = clock_gettime(clock);
    // Never negative, and its nanoseconds are below a second.
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

    #[test]
    fn the_work_of_other_threads_is_on_the_clock_of_the_process() {
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
