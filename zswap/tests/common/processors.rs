//! Which processor a thread runs on, for tests of what is kept for each.

/// Processors that are tried: as many as tell a thread that stays from one that moves.
#[cfg(target_os = "linux")]
const TRIED: usize = 4;

/// Does `work` on some of the processors that this thread may run on, in turn; it stays on each
/// meanwhile. Elsewhere than on Linux `work` is done once, wherever the thread is.
pub(crate) fn on_each_processor(mut work: impl FnMut()) {
    #[cfg(not(target_os = "linux"))]
    work();
    #[cfg(target_os = "linux")]
    {
        use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
        let all = sched_getaffinity(None).unwrap();
        for cpu in (0..CpuSet::MAX_CPU).filter(|&cpu| all.is_set(cpu)).take(TRIED) {
            let mut one = CpuSet::new();
            one.set(cpu);
            sched_setaffinity(None, &one).unwrap();
            work();
        }
        sched_setaffinity(None, &all).unwrap();
    }
}
