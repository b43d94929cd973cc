//! Panics of plug-ins: how to catch one, and what to do with its payload, which is foreign too.

use core::any::Any;
use core::fmt;
use core::mem;
use core::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Calls foreign code and returns its result, or `None` if it panicked.
///
/// State that the call leaves half changed is the caller's responsibility.
#[inline]
pub fn catch<R>(call: impl FnOnce() -> R) -> Option<R> {
    catch_unwind(AssertUnwindSafe(call)).map_err(discard_payload).ok()
}

/// Owns a plug-in, and catches the panics of its drop and of its `Debug`.
///
/// A destructor is foreign code that runs wherever the last owner is dropped. A field of this type
/// neither unwinds out of its owner's drop nor keeps later fields from being dropped.
pub struct Foreign<T>(Option<T>);

impl<T> Foreign<T> {
    /// Takes ownership of `value`.
    pub fn new(value: T) -> Foreign<T> {
        Foreign(Some(value))
    }

    #[inline]
    fn value(&self) -> &T {
        self.0.as_ref().expect("only the drop takes it out")
    }
}

impl<T> Deref for Foreign<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        self.value()
    }
}

impl<T: Clone> Clone for Foreign<T> {
    fn clone(&self) -> Self {
        Foreign::new(self.value().clone())
    }
}

impl<T> From<T> for Foreign<T> {
    fn from(value: T) -> Self {
        Foreign::new(value)
    }
}

impl<T> Drop for Foreign<T> {
    fn drop(&mut self) {
        let value = self.0.take();
        catch(|| drop(value));
    }
}

impl<T: fmt::Debug> fmt::Debug for Foreign<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Formats into a string first, so that a panic halfway leaves no partial output.
        match catch(|| format!("{:?}", self.value())) {
            Some(text) => f.write_str(&text),
            None => f.write_str("(its Debug panicked)"),
        }
    }
}

/// Returns the message of a caught panic, for errors that contain it.
///
/// Dropping the payload may panic again: pass it to [`discard_payload`], or call
/// [`take_panic_message`], which does both.
pub fn panic_message(payload: &(dyn Any + Send)) -> String {
    let text = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("(no message)").to_owned()
}

/// Drops the payload of a caught panic. Never panics, even while the thread is unwinding.
///
/// A plug-in chooses its payload (`panic_any`), and dropping it may panic too. A bare `drop` would
/// unwind out of the code that has just caught a panic. The payload of a second panic is leaked.
#[cold]
pub fn discard_payload(payload: Box<dyn Any + Send>) {
    if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        mem::forget(second);
    }
}

/// Returns the message of a caught panic and [discards](discard_payload) its payload.
#[cold]
pub fn take_panic_message(payload: Box<dyn Any + Send>) -> String {
    let message = panic_message(&*payload);
    discard_payload(payload);
    message
}

#[cfg(all(test, not(zpool_loom)))]
mod tests {
    use super::*;
    use std::panic::{panic_any, resume_unwind};

    /// Its drop panics with another `Chain` as payload, as many times as the number says.
    struct Chain(u32);

    impl Drop for Chain {
        fn drop(&mut self) {
            if self.0 > 0 {
                panic_any(Chain(self.0 - 1));
            }
        }
    }

    fn chain_payload() -> Box<dyn Any + Send> {
        catch_unwind(|| panic_any(Chain(3))).unwrap_err()
    }

    /// A payload whose drop panics is discarded without a panic, and has no message.
    #[test]
    fn discard_payload_that_panics_returns() {
        discard_payload(chain_payload());
        assert_eq!((catch(|| panic_any(Chain(3))), catch(|| 7)), (None::<()>, Some(7)));
        assert_eq!(take_panic_message(chain_payload()), "(no message)");
        assert_eq!(take_panic_message(Box::new("text")), "text");
        assert_eq!(take_panic_message(Box::new("owned".to_owned())), "owned");
    }

    /// A value whose drop or `Debug` panics, in a field of [`Foreign`], harms neither its owner nor
    /// the fields next to it.
    #[test]
    fn foreign_field_catches_panics_of_drop_and_debug() {
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
        let fields = (Foreign::new(Bad), Foreign::from(Bad), Foreign::new(7));
        assert_eq!(format!("{fields:?}"), "((its Debug panicked), (its Debug panicked), 7)");
        assert_eq!((*fields.2, *fields.2.clone()), (7, 7));
        assert!(catch_unwind(AssertUnwindSafe(|| drop(fields))).is_ok());
    }

    /// A payload that panics is discarded while the thread unwinds, without an abort.
    #[test]
    fn discard_payload_while_unwinding_returns() {
        struct InDrop;
        impl Drop for InDrop {
            fn drop(&mut self) {
                discard_payload(chain_payload());
            }
        }
        let unwound = catch_unwind(|| {
            let _in_drop = InDrop;
            resume_unwind(Box::new("the first"));
        });
        assert_eq!(take_panic_message(unwound.unwrap_err()), "the first");
    }
}
