//! The suite for backing stores: [`backing_store_suite!`](crate::backing_store_suite) and the cases
//! behind it.
//!
//! ```text
//!   backing_store_suite!(name, [capabilities], || MyBacking::new())   one line in your tests/
//!        │ makes one named #[test] a case, ignored where a capability is missing
//!        ▼
//!   cases::* (&BackingMaker)       plain functions; each makes an empty backing store
//! ```
//!
//! [`BACKING_CASES`] lists the functions, for callers that want to run them otherwise: for instance
//! in one test, which is skipped on machines without the server that it needs.
//!
//! The suite cannot make a medium fail, so what a failed write leaves (W6) and what a lost segment
//! says are left to the implementation's own tests. A call that waits for ever hangs its test.

pub mod cases;
mod harness;

use std::fmt;

use zpool_core::backing::{BackingCapabilities, BackingStore};

use crate::summary::print_summary;

/// Makes the backing stores under test. All are of the same kind, and each is empty.
pub struct BackingMaker {
    make: Box<dyn Fn() -> Box<dyn BackingStore> + Send + Sync>,
}

impl BackingMaker {
    /// Wraps the closure of a [`backing_store_suite!`](crate::backing_store_suite) line.
    pub fn new<B: BackingStore + 'static>(
        make: impl Fn() -> B + Send + Sync + 'static,
    ) -> BackingMaker {
        BackingMaker { make: Box::new(move || Box::new(make())) }
    }

    /// Makes a backing store.
    pub fn make(&self) -> Box<dyn BackingStore> {
        (self.make)()
    }
}

impl fmt::Debug for BackingMaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BackingMaker")
    }
}

/// The capability that a backing store needs for a case to apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackingNeeds {
    /// No capability.
    Nothing,
    /// [`BackingCapabilities::partial_reads`].
    Parts,
}

impl BackingNeeds {
    /// Returns whether a backing store with these capabilities meets this need.
    pub fn met_by(self, capabilities: BackingCapabilities) -> bool {
        match self {
            BackingNeeds::Nothing => true,
            BackingNeeds::Parts => capabilities.partial_reads(),
        }
    }
}

/// A case of the suite. It passes by returning and fails by panicking.
#[derive(Debug, Clone, Copy)]
pub struct BackingCase {
    /// The name of its function and of its test.
    pub name: &'static str,
    /// The capability that it needs.
    pub needs: BackingNeeds,
    /// The function in [`cases`].
    pub run: fn(&BackingMaker),
}

/// Checks that the suite's line lists the capabilities of the backing store, so that no applicable
/// case is skipped, and prints how many cases the suite has and how many run. `suite` is its name.
///
/// # Panics
///
/// If they differ.
pub fn capabilities_are_those_listed(maker: &BackingMaker, suite: &str, listed: &[&str]) {
    let capabilities = maker.make().capabilities();
    let can_run = BACKING_CASES.iter().map(|case| case.needs.met_by(capabilities));
    print_summary("backing store suite", suite, can_run);
    let facts = [("parts", capabilities.partial_reads()), ("remote", capabilities.remote())];
    for (name, has) in facts {
        assert_eq!(
            listed.contains(&name),
            has,
            "`{name}` on the suite's line, and in BackingCapabilities (which say {capabilities:?})"
        );
    }
}

/// Makes a module `$name` with one `#[test]` for each case of the suite for backing stores.
///
/// ```
/// use std::collections::HashMap;
/// use std::sync::Mutex;
///
/// use zpool_conformance::backing_store_suite;
/// use zpool_core::backing::{BackingError, BackingCapabilities, BackingStore, SegmentNumber};
///
/// #[derive(Debug, Default)]
/// struct Shelf(Mutex<HashMap<SegmentNumber, Vec<u8>>>);
///
/// impl BackingStore for Shelf {
///     fn capabilities(&self) -> BackingCapabilities {
///         BackingCapabilities::new(1 << 16, 100).expect("segments of 64 KiB")
///     }
///
///     fn write(&self, segment: SegmentNumber, bytes: &[u8]) -> Result<(), BackingError> {
///         self.capabilities().check_write(segment, bytes);
///         self.0.lock().unwrap().insert(segment, bytes.to_vec());
///         Ok(())
///     }
///
///     fn read(
///         &self,
///         segment: SegmentNumber,
///         offset: usize,
///         into: &mut [u8],
///     ) -> Result<(), BackingError> {
///         self.capabilities().check_read(segment, offset, into);
///         let segments = self.0.lock().unwrap();
///         let bytes = segments.get(&segment).ok_or(BackingError::Gone)?;
///         let part = bytes.get(offset..offset + into.len());
///         into.copy_from_slice(part.ok_or_else(|| BackingError::failed("beyond the end"))?);
///         Ok(())
///     }
///
///     fn discard(&self, segment: SegmentNumber) -> Result<(), BackingError> {
///         self.capabilities().check_discard(segment);
///         self.0.lock().unwrap().remove(&segment);
///         Ok(())
///     }
/// }
///
/// backing_store_suite!(shelf, [parts], Shelf::default);
/// ```
///
/// - The list names capabilities of the backing store: `parts` (parts of a segment can be read) and
///   `remote`. Cases for a capability that is not listed become `#[ignore = "..."]`, so that the
///   skip is seen. One case compares the list with the
///   [`BackingCapabilities`](zpool_core::backing::BackingCapabilities).
/// - The closure makes an empty backing store: `Fn() -> B`. It is called several times, and must
///   always make the same kind.
#[macro_export]
macro_rules! backing_store_suite {
    ($name:ident, [$($capability:ident),* $(,)?], $make:expr $(,)?) => {
        #[cfg(test)]
        mod $name {
            #[allow(unused_imports, reason = "what the closure names may be a full path")]
            use super::*;

            $($crate::__backing_capability!($capability);)*

            fn maker() -> $crate::backing::BackingMaker {
                $crate::backing::BackingMaker::new($make)
            }

            #[test]
            fn capabilities_are_those_listed() {
                $crate::backing::capabilities_are_those_listed(
                    &maker(),
                    module_path!(),
                    &[$(stringify!($capability)),*],
                );
            }

            $crate::__backing_cases! { [$crate::__backing_tests] [$($capability)*] }
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __backing_capability {
    (parts) => {};
    (remote) => {};
    ($other:ident) => {
        compile_error!(concat!(
            "unknown capability `",
            stringify!($other),
            "` (known: parts, remote)"
        ));
    };
}

/// The table of cases: group, function, needed capability. Passes it to the macro in the first
/// brackets.
#[doc(hidden)]
#[macro_export]
macro_rules! __backing_cases {
    ([$($callback:tt)+] $context:tt) => {
        $($callback)+! {
            $context
            contents capabilities_never_change: Nothing,
            contents w1_segments_read_back: Nothing,
            contents w1_parts_read_back: Parts,
            contents w1_stores_are_separate: Nothing,
            contents w2_short_writes_read_back: Nothing,
            contents w2_reads_of_nothing_return: Nothing,
            contents w3_segments_are_written_again: Nothing,
            contents w5_discards_concern_their_segment: Nothing,
            contents w1_w5_random_calls: Nothing,
            misuse w8_segments_beyond_the_last_panic: Nothing,
            misuse w8_lengths_out_of_range_panic: Nothing,
            misuse w8_misaligned_calls_panic: Nothing,
            threads w4_reads_race_with_writes: Nothing,
            threads w9_threads_share_a_segment: Nothing,
            threads w9_threads_have_segments_of_their_own: Nothing,
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __backing_tests {
    ($context:tt $($group:ident $case:ident: $needs:ident,)*) => {
        $($crate::__backing_test! { $context $needs $group $case })*
    };
}

/// One test. The first argument is the rest of the listed capabilities.
#[doc(hidden)]
#[macro_export]
macro_rules! __backing_test {
    ($any:tt Nothing $group:ident $case:ident) => {
        $crate::__backing_test! { @run $group $case }
    };
    ([parts $($rest:ident)*] Parts $group:ident $case:ident) => {
        $crate::__backing_test! { @run $group $case }
    };
    ([] Parts $group:ident $case:ident) => {
        #[test]
        #[ignore = "reads whole segments only"]
        fn $case() {
            $crate::backing::cases::$group::$case(&maker());
        }
    };
    ([$other:ident $($rest:ident)*] $needs:ident $group:ident $case:ident) => {
        $crate::__backing_test! { [$($rest)*] $needs $group $case }
    };
    (@run $group:ident $case:ident) => {
        #[test]
        fn $case() {
            $crate::backing::cases::$group::$case(&maker());
        }
    };
}

macro_rules! list_of_cases {
    ([] $($group:ident $case:ident: $needs:ident,)*) => {
        /// Every case of [`backing_store_suite!`](crate::backing_store_suite), in its order.
        pub const BACKING_CASES: &[BackingCase] = &[$(BackingCase {
            name: stringify!($case),
            needs: BackingNeeds::$needs,
            run: cases::$group::$case,
        }),*];
    };
}
__backing_cases! { [list_of_cases] [] }
