//! The suite for allocators: [`pool_suite!`](crate::pool_suite) and the cases behind it.
//!
//! ```text
//!   pool_suite!(name, [capabilities], |source| ...)     one line in your tests/ folder
//!        │ makes one named #[test] a case, ignored where a capability is missing
//!        ▼
//!   cases::* (&PoolMaker)      plain functions; each makes its pools over page sources of its own
//! ```
//!
//! [`POOL_CASES`] lists the functions, for callers that want to run them otherwise. The suite's own
//! tests run them on pools with one bug each, and expect a panic.

pub mod cases;
mod harness;
mod model_runner;
#[cfg(target_os = "linux")]
mod wiping;

use std::fmt;
use std::sync::{Arc, OnceLock};

use zpool_core::page::PageSource;
use zpool_core::{CreateError, ZPool};

use crate::heap_calls::HeapCalls;
use crate::summary::print_summary;

pub use model_runner::PoolModelRunner;
#[cfg(target_os = "linux")]
pub use wiping::assert_wipes_on_free;

/// Makes the pools under test. All are of the same kind with the same settings, each over the page
/// source that it gets.
pub struct PoolMaker {
    make: Box<MakeFn>,
    copies: OnceLock<bool>,
    heap_calls: Option<HeapCalls>,
}

type MakeFn = dyn Fn(Arc<dyn PageSource>) -> Result<Box<dyn ZPool>, CreateError> + Send + Sync;

impl PoolMaker {
    /// Wraps the closure of a [`pool_suite!`](crate::pool_suite) line.
    pub fn new(
        make: impl Fn(Arc<dyn PageSource>) -> Result<Box<dyn ZPool>, CreateError>
        + Send
        + Sync
        + 'static,
    ) -> PoolMaker {
        PoolMaker { make: Box::new(make), copies: OnceLock::new(), heap_calls: None }
    }

    /// Sets a counter of the calling thread's heap calls. Only a test program's own global
    /// allocator can count them.
    ///
    /// It counts allocations and frees if the pool uses no heap in `read` and `free`. If objects
    /// lie on the heap and are freed in `free` or with their guards, it counts only allocations,
    /// because the contract forbids no more (F5). The copies of a pool that hands out copies do not
    /// count.
    pub fn heap_calls(self, heap_calls: impl Fn() -> u64 + Send + Sync + 'static) -> PoolMaker {
        PoolMaker { heap_calls: Some(Box::new(heap_calls)), ..self }
    }

    /// Creates a pool over `source`.
    ///
    /// # Errors
    ///
    /// Errors of the closure.
    pub fn try_make(&self, source: Arc<dyn PageSource>) -> Result<Box<dyn ZPool>, CreateError> {
        (self.make)(source)
    }

    /// Returns whether these pools hand out copies. A guard then holds nothing of the pool, and a
    /// freed object is gone even under a guard.
    fn copies(&self) -> bool {
        *self.copies.get_or_init(|| {
            let harness = harness::PoolHarness::new(self);
            let object = harness.put(0, harness.max());
            let (one, other) = (harness.guard(&object), harness.guard(&object));
            one.as_ptr() != other.as_ptr()
        })
    }

    /// Creates a pool over `source`, which has memory.
    ///
    /// # Panics
    ///
    /// If the pool cannot be created.
    pub fn make(&self, source: Arc<dyn PageSource>) -> Box<dyn ZPool> {
        self.try_make(source)
            .unwrap_or_else(|error| panic!("no pool over a source that has memory: {error}"))
    }
}

impl fmt::Debug for PoolMaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PoolMaker")
    }
}

/// The capability that a pool needs for a case to apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolNeeds {
    /// Nothing beyond the required methods.
    Nothing,
    /// [`Capabilities::can_compact`](zpool_core::Capabilities::can_compact).
    Compaction,
    /// No compaction.
    NoCompaction,
    /// [`Capabilities::can_reclaim`](zpool_core::Capabilities::can_reclaim).
    Reclaim,
    /// No reclaim.
    NoReclaim,
    /// A counter of heap calls.
    NoHeap,
}

impl PoolNeeds {
    /// Returns whether a pool with these capabilities meets this need, in a program that can count
    /// heap calls or not.
    pub fn met_by(self, capabilities: zpool_core::Capabilities, counts_heap_calls: bool) -> bool {
        match self {
            PoolNeeds::Nothing => true,
            PoolNeeds::Compaction => capabilities.can_compact,
            PoolNeeds::NoCompaction => !capabilities.can_compact,
            PoolNeeds::Reclaim => capabilities.can_reclaim,
            PoolNeeds::NoReclaim => !capabilities.can_reclaim,
            PoolNeeds::NoHeap => counts_heap_calls,
        }
    }
}

/// A case of the suite. It passes by returning and fails by panicking.
#[derive(Debug, Clone, Copy)]
pub struct PoolCase {
    /// The name of its function and of its test.
    pub name: &'static str,
    /// The capability that it needs.
    pub needs: PoolNeeds,
    /// The function in [`cases`].
    pub run: fn(&PoolMaker),
}

/// Checks that the suite's line lists the capabilities of the pool, so that no applicable case is
/// skipped, and prints how many cases the suite has and how many run. `suite` is its name.
///
/// # Panics
///
/// If they differ.
pub fn capabilities_are_those_listed(maker: &PoolMaker, suite: &str, listed: &[&str]) {
    let capabilities = maker.make(harness::fresh_source()).capabilities();
    let counts = maker.heap_calls.is_some();
    print_summary(
        "pool suite",
        suite,
        POOL_CASES.iter().map(|case| case.needs.met_by(capabilities, counts)),
    );
    for (name, has) in
        [("compact", capabilities.can_compact), ("reclaim", capabilities.can_reclaim)]
    {
        assert_eq!(
            listed.contains(&name),
            has,
            "`{name}` on the suite's line, and in Capabilities (which say {capabilities:?})"
        );
    }
}

/// Makes a module `$name` with one `#[test]` for each case of the pool suite.
///
/// ```
/// use zpool_conformance::{ReferenceDriver, pool_suite};
/// use zpool_core::{PoolConfig, ZPoolDriver};
///
/// pool_suite!(reference, [], |source| ReferenceDriver.create(&PoolConfig::new(source, 4096)));
/// ```
///
/// - `$name` becomes a module of the file, so it must differ from the name of your crate.
/// - The list names the capabilities of the pool: `compact`, `reclaim`. Cases for a capability that
///   is not listed become `#[ignore = "cannot compact"]`, so that the skip is seen. One case
///   compares the list with the pool's [`Capabilities`](zpool_core::Capabilities).
/// - The closure creates a pool over its page source:
///   `Fn(Arc<dyn PageSource>) -> Result<Box<dyn ZPool>, CreateError>`. It is called many times, and
///   must always create the same kind. Use the macro once for each setting.
/// - Last, optionally, `heap_calls = closure` in a program whose global allocator counts, for
///   [`PoolMaker::heap_calls`](crate::pool::PoolMaker::heap_calls). Without a counter the case that
///   needs one is ignored.
///
/// ```
/// # use zpool_conformance::{ReferenceDriver, pool_suite};
/// # use zpool_core::{PoolConfig, ZPoolDriver};
/// # fn allocations_of_this_thread() -> u64 { 0 }
/// pool_suite!(
///     counted,
///     [],
///     |source| ReferenceDriver.create(&PoolConfig::new(source, 4096)),
///     heap_calls = allocations_of_this_thread,
/// );
/// ```
///
/// The cases set the check policy of the process to [`CheckPolicy::Panic`](zpool_core::CheckPolicy)
/// and leave it there.
#[macro_export]
macro_rules! pool_suite {
    (
        $name:ident, [$($capability:ident),* $(,)?], $make:expr
        $(, $setting:ident = $value:expr)* $(,)?
    ) => {
        #[cfg(test)]
        mod $name {
            #[allow(unused_imports, reason = "what the closure names may be a full path")]
            use super::*;

            $($crate::__pool_capability!($capability);)*

            fn maker() -> $crate::pool::PoolMaker {
                $crate::pool::PoolMaker::new($make)$(.$setting($value))*
            }

            #[test]
            fn capabilities_are_those_listed() {
                $crate::pool::capabilities_are_those_listed(
                    &maker(),
                    module_path!(),
                    &[$(stringify!($capability)),*],
                );
            }

            $crate::__pool_cases! { [$crate::__pool_tests] [$($capability)* $($setting)*] }
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __pool_capability {
    (compact) => {};
    (reclaim) => {};
    ($other:ident) => {
        compile_error!(concat!(
            "unknown capability `",
            stringify!($other),
            "` (known: compact, reclaim)"
        ));
    };
}

/// The table of cases: group, function, needed capability. Passes it to the macro in the first
/// brackets.
#[doc(hidden)]
#[macro_export]
macro_rules! __pool_cases {
    ([$($callback:tt)+] $context:tt) => {
        $($callback)+! {
            $context
            contents every_length_comes_back: Nothing,
            contents b16_neighbours_are_not_touched: Nothing,
            contents a_slot_used_again_shows_nothing_of_its_last_object: Nothing,
            contents id_and_capabilities_stay_the_same: Nothing,
            errors empty_and_too_large_objects_are_refused: Nothing,
            errors foreign_handles_are_refused_and_returned: Nothing,
            errors stale_handles_are_refused: Nothing,
            errors b18_made_up_handles_are_stale: Nothing,
            accounts accounts_balance_after_every_step: Nothing,
            accounts accounts_balance_with_frames_of_16_kib: Nothing,
            accounts an_empty_pool_holds_no_frame: Nothing,
            accounts a_footprint_is_at_least_the_length: Nothing,
            accounts freed_memory_is_used_again: Nothing,
            accounts trim_releases_all_frames_once_empty: Nothing,
            accounts dropping_a_pool_releases_every_frame: Nothing,
            bulk many_objects_are_freed_at_once: Nothing,
            bulk free_many_counts_what_it_refuses: Nothing,
            bulk free_many_frees_what_came_before_a_panic: Nothing,
            bulk free_many_never_blocks: Nothing,
            bulk free_many_makes_no_heap_call: NoHeap,
            bulk dropping_a_pool_drops_its_objects: Nothing,
            memory one_refusal_at_every_call_of_the_page_source: Nothing,
            memory no_memory_from_every_call_on: Nothing,
            memory refusals_with_frames_of_16_kib: Nothing,
            memory a_full_pool_goes_on_after_a_free: Nothing,
            memory a_page_source_that_panics_leaves_the_pool_whole: Nothing,
            memory frames_the_system_keeps_stay_counted: Nothing,
            calling_out no_lock_is_held_while_the_page_source_works: Nothing,
            guards a_guard_outlives_the_free_of_its_object: Nothing,
            guards bytes_under_a_guard_are_not_used_again: Nothing,
            guards many_guards_hold_one_object: Nothing,
            guards guards_go_to_other_threads: Nothing,
            guards guards_do_not_block_other_calls: Nothing,
            guards b9_a_leaked_guard_costs_its_bytes_only: Nothing,
            exchange exchanged_handles_name_each_others_objects: Nothing,
            exchange objects_are_replaced_under_handles_that_stay: Nothing,
            exchange an_object_under_a_guard_keeps_its_handle: Nothing,
            exchange foreign_and_stale_handles_are_not_exchanged: Nothing,
            exchange readers_find_one_object_or_the_other: Nothing,
            exchange an_exchange_never_blocks: Nothing,
            exchange an_exchange_makes_no_heap_call: NoHeap,
            threads threads_insert_read_and_free: Nothing,
            threads racing_read_and_free_see_the_object_or_nothing: Nothing,
            threads one_of_two_racing_frees_wins: Nothing,
            threads b15_accounts_stay_sane_while_threads_work: Nothing,
            noblock reading_and_freeing_never_block: Nothing,
            noblock reading_and_freeing_make_no_heap_call: NoHeap,
            noblock blocking_insert_is_reported_and_harmless: Nothing,
            noblock drop_in_no_block_is_reported: Nothing,
            compaction a_pool_that_cannot_compact_does_nothing: NoCompaction,
            compaction compact_releases_frames_keeps_contents: Compaction,
            compaction compaction_skips_what_guards_hold: Compaction,
            compaction compaction_keeps_to_its_budget: Compaction,
            compaction compaction_without_memory_loses_nothing: Compaction,
            compaction b12_pages_emptied_during_compaction_go_back: Compaction,
            compaction b14_compaction_races_with_reads_and_frees: Compaction,
            reclaim a_pool_that_cannot_reclaim_says_so: NoReclaim,
            reclaim reclaim_releases_the_pages_it_reports: Reclaim,
            reclaim reclaim_of_nothing_asks_no_owner: Reclaim,
            reclaim b41_an_owner_that_keeps_some_loses_nothing: Reclaim,
            reclaim b43_reclaim_lying_owner_ends: Reclaim,
            reclaim b43_owner_may_insert_during_eviction: Reclaim,
            reclaim b42_objects_freed_by_others_during_eviction: Reclaim,
            reclaim an_owner_that_panics_leaves_the_pool_whole: Reclaim,
            reclaim a_held_object_keeps_its_page: Reclaim,
            eviction an_object_given_up_under_a_guard_keeps_its_page: Reclaim,
            eviction b42_another_thread_frees_during_eviction: Reclaim,
            eviction an_owner_may_call_every_other_method: Reclaim,
            eviction b42_reclaims_race_with_everything: Reclaim,
            random random_actions_agree_with_the_reference: Nothing,
            random random_actions_with_frames_of_16_kib: Nothing,
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __pool_tests {
    ($context:tt $($group:ident $case:ident: $needs:ident,)*) => {
        $($crate::__pool_test! { $context $needs $group $case })*
    };
}

/// One test. The first argument is the rest of the listed capabilities and settings.
#[doc(hidden)]
#[macro_export]
macro_rules! __pool_test {
    ($any:tt Nothing $group:ident $case:ident) => {
        $crate::__pool_test! { @run $group $case }
    };

    ([compact $($rest:ident)*] Compaction $group:ident $case:ident) => {
        $crate::__pool_test! { @run $group $case }
    };
    ([compact $($rest:ident)*] NoCompaction $group:ident $case:ident) => {
        $crate::__pool_test! { @ignore "can compact" $group $case }
    };
    ([] Compaction $group:ident $case:ident) => {
        $crate::__pool_test! { @ignore "cannot compact" $group $case }
    };
    ([] NoCompaction $group:ident $case:ident) => {
        $crate::__pool_test! { @run $group $case }
    };

    ([reclaim $($rest:ident)*] Reclaim $group:ident $case:ident) => {
        $crate::__pool_test! { @run $group $case }
    };
    ([reclaim $($rest:ident)*] NoReclaim $group:ident $case:ident) => {
        $crate::__pool_test! { @ignore "can reclaim" $group $case }
    };
    ([] Reclaim $group:ident $case:ident) => {
        $crate::__pool_test! { @ignore "cannot reclaim" $group $case }
    };
    ([] NoReclaim $group:ident $case:ident) => {
        $crate::__pool_test! { @run $group $case }
    };

    ([heap_calls $($rest:ident)*] NoHeap $group:ident $case:ident) => {
        $crate::__pool_test! { @run $group $case }
    };
    ([] NoHeap $group:ident $case:ident) => {
        $crate::__pool_test! { @ignore "no counter of heap calls on the suite's line" $group $case }
    };

    ([$other:ident $($rest:ident)*] $needs:ident $group:ident $case:ident) => {
        $crate::__pool_test! { [$($rest)*] $needs $group $case }
    };

    (@run $group:ident $case:ident) => {
        #[test]
        fn $case() {
            $crate::pool::cases::$group::$case(&maker());
        }
    };
    (@ignore $why:literal $group:ident $case:ident) => {
        #[test]
        #[ignore = $why]
        fn $case() {
            $crate::pool::cases::$group::$case(&maker());
        }
    };
}

macro_rules! list_of_cases {
    ([] $($group:ident $case:ident: $needs:ident,)*) => {
        /// Every case of [`pool_suite!`](crate::pool_suite), in its order.
        pub const POOL_CASES: &[PoolCase] =
            &[$(PoolCase {
                name: stringify!($case),
                needs: PoolNeeds::$needs,
                run: cases::$group::$case,
            }),*];
    };
}
__pool_cases! { [list_of_cases] [] }
