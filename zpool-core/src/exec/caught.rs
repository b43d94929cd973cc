//! What to do with a panic that was caught: what it carries is foreign, too.

use core::any::Any;
use core::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Calls foreign code and ends its panic: `None` then. What the call leaves half done is the business of whoever wrote it.
#[inline]
pub fn contained<R>(call: impl FnOnce() -> R) -> Option<R> {
    catch_unwind(AssertUnwindSafe(call)).map_err(swallow).ok()
}

/// The text of a caught panic, for errors that contain it.
///
/// The panic itself still has to be dropped, which may panic again: whoever owns it calls [`swallowed_message`].
pub fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text =
        panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("(no message)").to_owned()
}

/// Ends a caught panic. Never panics, also where the thread unwinds already.
///
/// What a plug-in panics with (`panic_any`) is the plug-in's own, and its drop may panic as well: a bare `drop` of it is an unwinding out of the very place that
/// contains unwinding. What *that* panic carries is leaked.
#[cold]
pub fn swallow(panic: Box<dyn Any + Send>) {
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
        // Enough of that.
        mem::forget(again);
    }
}

/// Ends a caught panic as [`swallow`] does, and gives its text.
#[cold]
pub fn swallowed_message(panic: Box<dyn Any + Send>) -> String {
    let message = panic_message(&*panic);
    swallow(panic);
    message
}

#[cfg(all(test, not(zpool_loom)))]
mod tests {
    use super::*;
    use std::panic::{panic_any, resume_unwind};

    /// Panics with one of its kind when it is dropped, and that one again, this many times.
    struct Chain(u32);

    impl Drop for Chain {
        fn drop(&mut self) {
            if self.0 > 0 {
                panic_any(Chain(self.0 - 1));
            }
        }
    }

    fn caught() -> Box<dyn Any + Send> {
        catch_unwind(|| panic_any(Chain(3))).unwrap_err()
    }

    #[test]
    fn what_panics_when_dropped_is_swallowed_and_has_no_message() {
        swallow(caught());
        assert_eq!((contained(|| panic_any(Chain(3))), contained(|| 7)), (None::<()>, Some(7)));
        assert_eq!(swallowed_message(caught()), "(no message)");
        assert_eq!(swallowed_message(Box::new("text")), "text");
        assert_eq!(swallowed_message(Box::new("owned".to_owned())), "owned");
    }

    #[test]
    fn swallowed_while_the_thread_unwinds_it_does_not_abort() {
        struct InDrop;
        impl Drop for InDrop {
            fn drop(&mut self) {
                swallow(caught());
            }
        }
        let unwound = catch_unwind(|| {
            let _in_drop = InDrop;
            resume_unwind(Box::new("the first"));
        });
        assert_eq!(swallowed_message(unwound.unwrap_err()), "the first");
    }
}
