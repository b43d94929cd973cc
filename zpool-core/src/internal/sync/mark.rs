//! Identities of threads, for waits that must end when the awaited thread is gone.

/// A thread of this process, or of the one that it was forked from.
///
/// A wait for another thread's step never ends if that thread is gone: after a `fork`, which copies
/// only the calling thread, or because it was ended from outside. So a waiter checks the mark of
/// the awaited thread after a while without news.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ThreadMark {
    process: u32,
    thread: u32,
}

impl ThreadMark {
    /// Returns the mark of the calling thread.
    pub fn here() -> ThreadMark {
        ThreadMark { process: std::process::id(), thread: thread_id() }
    }

    /// Returns whether the mark was made in another process, from which this one was forked.
    pub fn is_of_another_process(self) -> bool {
        self.process != std::process::id()
    }

    /// Returns whether the thread has certainly ended. May read `/proc`, so it is not for a hot
    /// path.
    ///
    /// Outside Linux, or without `/proc`, only a fork is noticed.
    pub fn is_gone(self) -> bool {
        self.is_of_another_process() || has_ended(self.thread)
    }
}

#[cfg(all(target_os = "linux", not(zpool_loom)))]
fn thread_id() -> u32 {
    rustix::thread::gettid().as_raw_nonzero().get().cast_unsigned()
}

#[cfg(all(target_os = "linux", not(zpool_loom)))]
fn has_ended(thread: u32) -> bool {
    let tasks = std::path::Path::new("/proc/self/task");
    // Both must be certain: a hidden `/proc` says nothing about the thread.
    matches!(tasks.join(thread.to_string()).try_exists(), Ok(false))
        && matches!(tasks.try_exists(), Ok(true))
}

#[cfg(any(not(target_os = "linux"), zpool_loom))]
fn thread_id() -> u32 {
    0
}

#[cfg(any(not(target_os = "linux"), zpool_loom))]
fn has_ended(_: u32) -> bool {
    false
}

#[cfg(all(test, target_os = "linux", not(zpool_loom)))]
mod tests {
    use super::*;

    /// A mark reports its thread as gone only after the thread was joined.
    #[test]
    fn mark_is_gone_after_its_thread() {
        let (send, marks) = std::sync::mpsc::channel();
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            send.send(ThreadMark::here()).unwrap();
            let _ = wait.recv();
        });
        let mark = marks.recv().unwrap();
        assert!(!mark.is_gone() && !ThreadMark::here().is_gone());
        drop(go);
        thread.join().unwrap();
        // The kernel wakes the joiner just before it removes the thread from the list.
        while !mark.is_gone() {
            std::thread::yield_now();
        }
        assert!(!mark.is_of_another_process());
        assert!(ThreadMark { process: mark.process + 1, ..ThreadMark::here() }.is_gone());
    }
}
