//! Which processor a thread runs on, for tests of what is kept for each.

/// The most processors that are tried: enough to tell a thread that stays from one that moves.
#[cfg(target_os = "linux")]
const TRIED: usize = 4;

/// Runs `work` on some of the processors that this thread may run on, one after the other. On
/// systems other than Linux, does it once, wherever the thread is.
///
/// # Panics
///
/// If the system refuses to move the thread.
pub fn on_each_processor(mut work: impl FnMut()) {
    #[cfg(not(target_os = "linux"))]
    work();
    #[cfg(target_os = "linux")]
    {
        use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
        let all = sched_getaffinity(None).expect("the system knows");
        for cpu in (0..CpuSet::MAX_CPU).filter(|&cpu| all.is_set(cpu)).take(TRIED) {
            let mut one = CpuSet::new();
            one.set(cpu);
            sched_setaffinity(None, &one).expect("this thread may run there");
            work();
        }
        sched_setaffinity(None, &all).expect("it could run there before");
    }
}
