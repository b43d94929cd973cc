//! What to do with a panic that was caught: what it carries is foreign, too.

use core::any::Any;
use core::fmt;
use core::mem;
use core::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Calls foreign code and ends its panic: `None` then. What the call leaves half done is the business of whoever wrote it.
#[inline]
pub fn contained<R>(call: impl FnOnce() -> R) -> Option<R> {
    catch_unwind(AssertUnwindSafe(call)).map_err(swallow).ok()
}

/// Owns a plug-in, and contains the panics of its drop and of its `Debug`.
///
/// A destructor is foreign code that runs wherever its last owner happens to go. In a field of this
/// type it neither leaves the owner's drop nor keeps the fields after it from being dropped.
pub struct Contained<T>(Option<T>);

impl<T> Contained<T> {
    /// Takes ownership of `value`.
    pub fn new(value: T) -> Contained<T> {
        Contained(Some(value))
    }

    #[inline]
    fn value(&self) -> &T {
        self.0.as_ref().expect("only the drop takes it out")
    }
}

impl<T> Deref for Contained<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        self.value()
    }
}

impl<T: Clone> Clone for Contained<T> {
    fn clone(&self) -> Self {
        Contained::new(self.value().clone())
    }
}

impl<T> From<T> for Contained<T> {
    fn from(value: T) -> Self {
        Contained::new(value)
    }
}

impl<T> Drop for Contained<T> {
    fn drop(&mut self) {
        let value = self.0.take();
        contained(|| drop(value));
    }
}

impl<T: fmt::Debug> fmt::Debug for Contained<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Into a string first: a panic in the middle must not leave the formatter half used.
        match contained(|| format!("{:?}", self.value())) {
            Some(text) => f.write_str(&text),
            None => f.write_str("(its Debug panicked)"),
        }
    }
}

/// The text of a caught panic, for errors that contain it.
///
/// The panic itself still has to be dropped, which may panic again: whoever owns it calls [`swallowed_message`].
pub fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
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

    /// A value whose drop or `Debug` panics, in a field of [`Contained`], harms neither its owner
    /// nor the fields next to it.
    #[test]
    fn contained_field_ends_panics_of_drop_and_debug() {
        struct Bad;
        impl Drop for Bad {
            fn drop(&mut self) {
                panic_any(Chain(2));
            }
        }
        impl fmt::Debug for Bad {
            fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
                panic!("no text");
            }
        }
        let fields = (Contained::new(Bad), Contained::from(Bad), Contained::new(7));
        assert_eq!(format!("{fields:?}"), "((its Debug panicked), (its Debug panicked), 7)");
        assert_eq!((*fields.2, *fields.2.clone()), (7, 7));
        assert!(catch_unwind(AssertUnwindSafe(|| drop(fields))).is_ok());
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
