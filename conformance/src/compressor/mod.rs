//! The suite for compressors: [`compressor_suite!`](crate::compressor_suite) and the cases behind
//! it.
//!
//! ```text
//!   compressor_suite!(name, [capabilities], Driver, "parameters")   one line in your tests/
//!        │ makes one named #[test] a case, ignored where a capability is missing
//!        ▼
//!   cases::* (&CompressorMaker)      plain functions; each opens the driver as often as it needs
//! ```
//!
//! [`COMPRESSOR_CASES`] lists the functions, for callers that want to run them otherwise.
//! [`seeded_block`] makes blocks for property tests of your own.

pub mod cases;
mod harness;
mod seeded_block;

use std::fmt;
use std::sync::Arc;

use zpool_core::CreateError;
use zpool_core::compress::{CodecCapabilities, Compressor, CompressorDriver};
use zpool_core::spec::{Component, Params};

use crate::heap_calls::HeapCalls;
use crate::summary::print_summary;

pub use seeded_block::{SeededBlock, seeded_block};

/// Opens the compressors under test: one driver with one set of parameters.
pub struct CompressorMaker {
    driver: Box<dyn CompressorDriver>,
    params: Params,
    rounds: usize,
    heap_calls: Option<HeapCalls>,
}

impl CompressorMaker {
    /// The default of [`rounds`](Self::rounds), in percent.
    pub const ROUNDS: usize = 100;

    /// Creates a maker. `params` is the text between the parentheses of a spec, such as `level=7`,
    /// or empty.
    ///
    /// # Panics
    ///
    /// If `params` cannot be parsed.
    pub fn new(
        driver: impl CompressorDriver + 'static,
        params: impl AsRef<str>,
    ) -> CompressorMaker {
        let spec: Component =
            format!("x({})", params.as_ref()).parse().unwrap_or_else(|error| panic!("{error}"));
        let driver = Box::new(driver);
        CompressorMaker {
            driver,
            params: spec.params,
            rounds: CompressorMaker::ROUNDS,
            heap_calls: None,
        }
    }

    /// Sets the number of blocks that each case tries, in percent of the usual number (default:
    /// 100), for settings that are slow. Every case tries some.
    pub fn rounds(self, rounds: usize) -> CompressorMaker {
        CompressorMaker { rounds, ..self }
    }

    /// Sets a counter of the calling thread's allocations and frees. Only a test program's own
    /// global allocator can count them.
    pub fn heap_calls(
        self,
        heap_calls: impl Fn() -> u64 + Send + Sync + 'static,
    ) -> CompressorMaker {
        CompressorMaker { heap_calls: Some(Box::new(heap_calls)), ..self }
    }

    /// Returns the driver.
    pub fn driver(&self) -> &dyn CompressorDriver {
        &*self.driver
    }

    /// Returns the parameters.
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// Opens a compressor.
    ///
    /// # Errors
    ///
    /// Errors of the driver.
    pub fn try_open(&self) -> Result<Arc<dyn Compressor>, CreateError> {
        self.driver.open(&self.params)
    }

    /// Opens a compressor with the parameters of the suite's line, which are valid.
    ///
    /// # Panics
    ///
    /// If the driver refuses them.
    pub fn open(&self) -> Arc<dyn Compressor> {
        self.try_open().unwrap_or_else(|error| panic!("{self:?} is not opened: {error}"))
    }
}

impl fmt::Debug for CompressorMaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CompressorMaker({}({}))", self.driver.name(), self.params)
    }
}

/// The capability that a compressor needs for a case to apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CompressorNeeds {
    /// No capability.
    Nothing,
    /// [`CodecCapabilities::stateless_decompression`].
    Stateless,
    /// Decompression with a context.
    Contexts,
    /// [`CodecCapabilities::warm_without_heap`], and a counter of heap calls.
    NoHeap,
}

impl CompressorNeeds {
    /// Returns whether a compressor with these capabilities meets this need, in a program that can
    /// count heap calls or not.
    pub fn met_by(self, capabilities: CodecCapabilities, counts_heap_calls: bool) -> bool {
        match self {
            CompressorNeeds::Nothing => true,
            CompressorNeeds::Stateless => capabilities.stateless_decompression,
            CompressorNeeds::Contexts => !capabilities.stateless_decompression,
            CompressorNeeds::NoHeap => capabilities.warm_without_heap && counts_heap_calls,
        }
    }
}

/// A case of the suite. It passes by returning and fails by panicking.
#[derive(Debug, Clone, Copy)]
pub struct CompressorCase {
    /// The name of its function and of its test.
    pub name: &'static str,
    /// The capability that it needs.
    pub needs: CompressorNeeds,
    /// The function in [`cases`].
    pub run: fn(&CompressorMaker),
}

/// Checks that the suite's line lists the capabilities of the compressor, so that no applicable
/// case is skipped, and prints how many cases the suite has and how many run. `suite` is its name.
///
/// # Panics
///
/// If they differ.
pub fn capabilities_are_those_listed(maker: &CompressorMaker, suite: &str, listed: &[&str]) {
    let capabilities = maker.open().capabilities();
    let counts = maker.heap_calls.is_some();
    print_summary(
        "compressor suite",
        suite,
        COMPRESSOR_CASES.iter().map(|case| case.needs.met_by(capabilities, counts)),
    );
    for (name, has) in [
        ("stateless", capabilities.stateless_decompression),
        ("no_heap", capabilities.warm_without_heap),
    ] {
        assert_eq!(
            listed.contains(&name),
            has,
            "`{name}` on the suite's line, and in CodecCapabilities (which say {capabilities:?})"
        );
    }
}

/// Makes a module `$name` with one `#[test]` for each case of the compressor suite.
///
/// ```
/// use zpool_conformance::{RleDriver, compressor_suite};
///
/// compressor_suite!(rle, [stateless, no_heap], RleDriver, "");
/// ```
///
/// - `$name` becomes a module of the file, so it must differ from the name of your crate.
/// - The list names the capabilities of the codec: `stateless` (decompression needs no context),
///   `no_heap` (no heap call once warm). Cases for a capability that is not listed become
///   `#[ignore = "..."]`, so that the skip is seen. One case compares the list with the codec's
///   [`CodecCapabilities`](zpool_core::compress::CodecCapabilities).
/// - The driver is next, with its parameters as a string: `"level=7"`. Use the macro once for each
///   setting.
/// - Last, optionally, `name = value` for methods of
///   [`CompressorMaker`](crate::compressor::CompressorMaker): `rounds = 10` for slow codecs, and
///   `heap_calls = closure` in a program whose global allocator counts. Without a counter the case
///   that needs one is ignored.
///
/// ```
/// # use zpool_conformance::{NullDriver, compressor_suite};
/// # fn heap_calls_of_this_thread() -> u64 { 0 }
/// compressor_suite!(
///     null,
///     [stateless, no_heap],
///     NullDriver,
///     "",
///     rounds = 50,
///     heap_calls = heap_calls_of_this_thread,
/// );
/// ```
#[macro_export]
macro_rules! compressor_suite {
    (
        $name:ident, [$($capability:ident),* $(,)?], $driver:expr, $params:expr
        $(, $setting:ident = $value:expr)* $(,)?
    ) => {
        #[cfg(test)]
        mod $name {
            #[allow(unused_imports, reason = "the driver may be a full path")]
            use super::*;

            $($crate::__compressor_capability!($capability);)*

            fn maker() -> $crate::compressor::CompressorMaker {
                $crate::compressor::CompressorMaker::new($driver, $params)$(.$setting($value))*
            }

            #[test]
            fn capabilities_are_those_listed() {
                $crate::compressor::capabilities_are_those_listed(
                    &maker(),
                    module_path!(),
                    &[$(stringify!($capability)),*],
                );
            }

            $crate::__compressor_cases! {
                [$crate::__compressor_tests] [$($capability)* $($setting)*]
            }
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __compressor_capability {
    (stateless) => {};
    (no_heap) => {};
    ($other:ident) => {
        compile_error!(concat!(
            "unknown capability `",
            stringify!($other),
            "` (known: stateless, no_heap)"
        ));
    };
}

/// The table of cases: group, function, needed capability. Passes it to the macro in the first
/// brackets.
#[doc(hidden)]
#[macro_export]
macro_rules! __compressor_cases {
    ([$($callback:tt)+] $context:tt) => {
        $($callback)+! {
            $context
            facts identity_and_capabilities_never_change: Nothing,
            facts equal_settings_are_one_identity: Nothing,
            facts unknown_parameters_are_refused: Nothing,
            contents k8_generated_blocks_come_back: Nothing,
            contents k8_every_length_comes_back: Nothing,
            contents k8_the_longest_blocks_come_back: Nothing,
            contents k8_random_blocks_come_back: Nothing,
            contents k8_equal_identities_read_each_other: Nothing,
            destination b37_k4_k5_a_destination_of_any_length: Nothing,
            destination k5_the_bound_holds_for_every_length: Nothing,
            contexts k1_contexts_for_blocks_of_any_length: Nothing,
            contexts k2_compression_contexts_go_to_any_thread: Nothing,
            contexts k2_decompression_contexts_go_to_any_thread: Contexts,
            contexts k2_many_threads_decompress_at_once: Stateless,
            contexts k3_k7_used_context_makes_the_same_bytes: Nothing,
            contexts k6_nothing_of_earlier_blocks_in_later_output: Nothing,
            hostile k9_no_bytes: Nothing,
            hostile k9_every_prefix: Nothing,
            hostile k9_any_other_block_length: Nothing,
            hostile k9_k10_random_bytes: Nothing,
            hostile k9_k10_damaged_bytes: Nothing,
            hostile k9_the_outcome_is_that_of_these_bytes_alone: Nothing,
            warm no_heap_call_once_warm: NoHeap,
            warm through_a_codec: Nothing,
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __compressor_tests {
    ($context:tt $($group:ident $case:ident: $needs:ident,)*) => {
        $($crate::__compressor_test! { $context $needs $group $case })*
    };
}

/// One test. The first argument is the rest of the listed capabilities and settings.
#[doc(hidden)]
#[macro_export]
macro_rules! __compressor_test {
    ($any:tt Nothing $group:ident $case:ident) => {
        $crate::__compressor_test! { @run $group $case }
    };

    ([stateless $($rest:ident)*] Stateless $group:ident $case:ident) => {
        $crate::__compressor_test! { @run $group $case }
    };
    ([stateless $($rest:ident)*] Contexts $group:ident $case:ident) => {
        $crate::__compressor_test! { @ignore "decompresses without a context" $group $case }
    };
    ([] Stateless $group:ident $case:ident) => {
        $crate::__compressor_test! { @ignore "decompresses with a context" $group $case }
    };
    ([] Contexts $group:ident $case:ident) => { $crate::__compressor_test! { @run $group $case } };

    ([no_heap $($rest:ident)*] NoHeap $group:ident $case:ident) => {
        $crate::__compressor_test! { [$($rest)*] NoHeapCounted $group $case }
    };
    ([] NoHeap $group:ident $case:ident) => {
        $crate::__compressor_test! { @ignore "makes heap calls when warm" $group $case }
    };
    ([heap_calls $($rest:ident)*] NoHeapCounted $group:ident $case:ident) => {
        $crate::__compressor_test! { @run $group $case }
    };
    ([] NoHeapCounted $group:ident $case:ident) => {
        $crate::__compressor_test! {
            @ignore "no counter of heap calls on the suite's line" $group $case
        }
    };

    ([$other:ident $($rest:ident)*] $needs:ident $group:ident $case:ident) => {
        $crate::__compressor_test! { [$($rest)*] $needs $group $case }
    };

    (@run $group:ident $case:ident) => {
        #[test]
        fn $case() {
            $crate::compressor::cases::$group::$case(&maker());
        }
    };
    (@ignore $why:literal $group:ident $case:ident) => {
        #[test]
        #[ignore = $why]
        fn $case() {
            $crate::compressor::cases::$group::$case(&maker());
        }
    };
}

macro_rules! list_of_cases {
    ([] $($group:ident $case:ident: $needs:ident,)*) => {
        /// Every case of [`compressor_suite!`](crate::compressor_suite), in its order.
        pub const COMPRESSOR_CASES: &[CompressorCase] = &[$(CompressorCase {
            name: stringify!($case),
            needs: CompressorNeeds::$needs,
            run: cases::$group::$case,
        }),*];
    };
}
__compressor_cases! { [list_of_cases] [] }
