//! Worker threads of the library, which take no signals meant for the program.

use std::io;

use super::thread;

/// Starts a thread called `name` that runs `work` with signals blocked, whatever mask the caller
/// has.
///
/// A signal to a process is delivered to any of its threads that does not block it. A program that
/// blocks a signal in all its threads, to read it from a `signalfd` or with `sigwait`, cannot know
/// of the library's threads. So these block all signals, except for the six that report a fault of
/// the thread itself (`SIGSEGV`, `SIGBUS`, `SIGILL`, `SIGFPE`, `SIGTRAP`, `SIGSYS`): a blocked
/// fault would kill the process instead of calling the program's handler.
///
/// # Errors
///
/// If `name` contains a zero byte ([`io::ErrorKind::InvalidInput`]), or if the system cannot start
/// a thread.
pub fn spawn_worker(
    name: &str,
    work: impl FnOnce() + Send + 'static,
) -> io::Result<thread::JoinHandle<()>> {
    if name.contains('\0') {
        let message = "a thread's name must not contain a zero byte: choose another name";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    // A thread inherits its parent's mask. Ours is changed only for the start, and the drop
    // restores it.
    let _blocked = mask::SignalsBlocked::enter()?;
    thread::Builder::new().name(name.to_owned()).spawn(work)
}

#[cfg(all(unix, not(zpool_loom)))]
#[allow(unsafe_code, reason = "signal masks have no safe interface")]
mod mask {
    use core::mem::MaybeUninit;
    use core::ptr;
    use std::io;

    /// Faults of the thread itself.
    const FAULTS: [libc::c_int; 6] =
        [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGTRAP, libc::SIGSYS];

    /// Blocks signals in the calling thread until this is dropped.
    pub(super) struct SignalsBlocked {
        before: libc::sigset_t,
    }

    impl SignalsBlocked {
        pub(super) fn enter() -> io::Result<SignalsBlocked> {
            let mut blocked = MaybeUninit::uninit();
            // SAFETY: the pointer is to memory for a set, which the call fills.
            unsafe { libc::sigfillset(blocked.as_mut_ptr()) };
            for fault in FAULTS {
                // SAFETY: the set was filled above, and `fault` is a signal's number.
                unsafe { libc::sigdelset(blocked.as_mut_ptr(), fault) };
            }
            let mut before = MaybeUninit::uninit();
            // SAFETY: both pointers are to memory for a set; the first one was filled above.
            let error = unsafe {
                libc::pthread_sigmask(libc::SIG_SETMASK, blocked.as_ptr(), before.as_mut_ptr())
            };
            if error != 0 {
                return Err(io::Error::from_raw_os_error(error));
            }
            // SAFETY: the call succeeded, so it has written the mask that was there.
            let before = unsafe { before.assume_init() };
            Ok(SignalsBlocked { before })
        }
    }

    impl Drop for SignalsBlocked {
        fn drop(&mut self) {
            // SAFETY: `before` is a mask that the system wrote; the null pointer means that the
            // current mask is not asked for. The call cannot fail: both arguments are valid.
            unsafe {
                libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.before, ptr::null_mut())
            };
        }
    }
}

#[cfg(any(not(unix), zpool_loom))]
mod mask {
    /// There are no signals to block.
    pub(super) struct SignalsBlocked;

    impl SignalsBlocked {
        pub(super) fn enter() -> std::io::Result<SignalsBlocked> {
            Ok(SignalsBlocked)
        }
    }
}

#[cfg(all(test, target_os = "linux", not(zpool_loom)))]
mod tests {
    use super::*;

    /// Returns the mask of blocked signals of the calling thread, from the system.
    fn blocked() -> u64 {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("SigBlk:")).unwrap();
        u64::from_str_radix(line.trim(), 16).unwrap()
    }

    /// The worker blocks every signal that can be blocked except faults, and its parent's mask does
    /// not change.
    #[test]
    fn worker_blocks_signals_and_parent_does_not() {
        let before = blocked();
        let (send, mask) = std::sync::mpsc::channel();
        let worker = spawn_worker("masked", move || send.send(blocked()).unwrap()).unwrap();
        worker.join().unwrap();
        let mask = mask.recv().unwrap();
        // Not blockable: KILL, STOP, and the two that the C library uses itself.
        let never = [libc::SIGKILL, libc::SIGSTOP, 32, 33];
        let faults =
            [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGTRAP, libc::SIGSYS];
        for signal in 1..=64 {
            let open = never.contains(&signal) || faults.contains(&signal);
            assert_eq!(mask >> (signal - 1) & 1 == 0, open, "signal {signal}");
        }
        assert_eq!(blocked(), before);
        assert_eq!(spawn_worker("a\0b", || ()).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(blocked(), before);
    }
}
