//! A caller's panic that waits until the work around it is done.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use zpool_core::internal::discard_payload;

/// Keeps the first panic of the calls that it runs, so that later calls run as well.
///
/// For keys whose drop panics: their panics belong to the caller, but must not prevent the removal
/// of other entries.
#[derive(Default)]
pub(crate) struct DeferredPanic {
    first: Option<Box<dyn Any + Send>>,
}

impl DeferredPanic {
    /// Runs `call`. Its panic is kept, or discarded if there is one already.
    pub(crate) fn run(&mut self, call: impl FnOnce()) {
        match catch_unwind(AssertUnwindSafe(call)) {
            Ok(()) => {}
            Err(panic) if self.first.is_none() => self.first = Some(panic),
            Err(panic) => discard_payload(panic),
        }
    }

    /// Returns whether a call has panicked.
    pub(crate) fn has_panic(&self) -> bool {
        self.first.is_some()
    }

    /// Drops `value` as [`run`](Self::run) runs a call.
    #[inline]
    pub(crate) fn drop<T>(&mut self, value: T) {
        if std::mem::needs_drop::<T>() {
            self.run(|| drop(value));
        }
    }

    /// Raises the panic that was kept. If the thread is already unwinding, discards it, because a
    /// second panic would abort.
    pub(crate) fn raise(self) {
        match self.first {
            Some(panic) if std::thread::panicking() => discard_payload(panic),
            Some(panic) => resume_unwind(panic),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deferred_first_panic_is_raised_at_the_end() {
        let mut ran = Vec::new();
        let raised = catch_unwind(AssertUnwindSafe(|| {
            let mut deferred = DeferredPanic::default();
            for n in 0..4 {
                deferred.run(|| {
                    ran.push(n);
                    if n % 2 == 1 {
                        resume_unwind(Box::new(n));
                    }
                });
            }
            deferred.raise();
        }));
        assert_eq!(raised.unwrap_err().downcast_ref::<i32>(), Some(&1));
        assert_eq!(ran, [0, 1, 2, 3]);
        DeferredPanic::default().raise();
    }
}
