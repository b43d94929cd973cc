//! Waiting for readers of a block, where the allocator cannot count one more.

use std::time::Duration;

use zpool_core::{NoBlock, PoolError};

use crate::value::error::Error;

/// Attempts that only yield: most readers are done within the time slice they get.
const YIELDS: u32 = 8;

/// The number of sleeps after these, and the longest one. Together about 0.5 s.
const SLEEPS: u32 = 32;
const LONGEST: Duration = Duration::from_millis(20);

/// A bounded wait for readers to finish, for loads that met [`PoolError::TooManyReaders`].
///
/// Readers hold a block while they decompress it, so a place is soon free. But a caller may hold a
/// block for as long as its closure runs, so the wait is bounded and then ends with an error.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    attempts: u32,
}

impl Backoff {
    /// Waits a little. Returns false at once if the wait was long enough or the thread must not
    /// block.
    #[cold]
    pub(crate) fn wait(&mut self) -> bool {
        if self.attempts == YIELDS + SLEEPS || NoBlock::is_active() {
            return false;
        }
        match self.attempts.checked_sub(YIELDS) {
            None => std::thread::yield_now(),
            Some(sleeps) => {
                std::thread::sleep(LONGEST.min(Duration::from_micros(50 << sleeps.min(16))))
            }
        }
        self.attempts += 1;
        true
    }

    /// Repeats `attempt` as long as it meets too many readers and the wait is not over.
    pub(crate) fn retry<R>(
        &mut self,
        mut attempt: impl FnMut() -> Result<R, Error>,
    ) -> Result<R, Error> {
        loop {
            match attempt() {
                Err(error) if is_too_many_readers(&error) && self.wait() => {}
                result => return result,
            }
        }
    }
}

/// Returns whether this error ends when readers finish. Out of line, so that other loads do not
/// check.
#[cold]
#[inline(never)]
pub(crate) fn is_too_many_readers(error: &Error) -> bool {
    matches!(error, Error::Pool(PoolError::TooManyReaders))
}

#[cfg(all(test, not(zpool_loom)))]
mod tests {
    use super::*;

    #[test]
    fn backoff_that_never_succeeds_ends() {
        let (mut backoff, mut attempts) = (Backoff::default(), 0);
        let result: Result<(), _> = backoff.retry(|| {
            attempts += 1;
            Err(Error::Pool(PoolError::TooManyReaders))
        });
        assert!(is_too_many_readers(&result.unwrap_err()) && !backoff.wait());
        assert_eq!(attempts, YIELDS + SLEEPS + 1);
    }

    #[test]
    fn backoff_in_noblock_section_does_not_wait() {
        let _section = NoBlock::enter();
        assert!(!Backoff::default().wait());
    }

    #[test]
    fn backoff_other_errors_end_at_once() {
        let mut attempts = 0;
        let result: Result<(), _> = Backoff::default().retry(|| {
            attempts += 1;
            Err(Error::Pool(PoolError::OutOfMemory))
        });
        assert_eq!((result, attempts), (Err(Error::Pool(PoolError::OutOfMemory)), 1));
    }
}
