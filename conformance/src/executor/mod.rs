//! The suite for executors: [`executor_suite!`](crate::executor_suite) and the cases behind it.
//!
//! ```text
//!   executor_suite!(name, [capabilities], || MyExecutor::new())     one line in your tests/ folder
//!        │ makes one named #[test] a case, ignored where a capability is missing
//!        ▼
//!   cases::* (&ExecutorMaker)      plain functions; each makes its executors and a job log
//! ```
//!
//! [`EXECUTOR_CASES`] lists the functions, for callers that want to run them otherwise.
//!
//! No case checks that a job runs at most once, because [`Job::run`](zpool_core::exec::Job::run)
//! consumes it. A job that is kept for ever is found by a flush, or after [`DEFAULT_MAX_WAIT`] if
//! the executor has none. An executor that waits for itself hangs its test.

pub mod cases;
mod harness;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use zpool_core::exec::{DrainExecutor, Executor, ExecutorCapabilities};

use crate::heap_calls::HeapCalls;
use crate::summary::print_summary;

pub use harness::DEFAULT_MAX_WAIT;

/// Makes the executors under test. All are of the same kind, each with threads of its own or none.
pub struct ExecutorMaker {
    make: Box<dyn Fn() -> Made + Send + Sync>,
    heap_calls: Option<HeapCalls>,
    max_wait: Duration,
}

/// An executor, with the same one as a [`DrainExecutor`] if it can be drained.
#[derive(Clone)]
struct Made {
    executor: Arc<dyn Executor>,
    drain: Option<Arc<dyn DrainExecutor>>,
}

impl ExecutorMaker {
    /// Wraps the closure of an [`executor_suite!`](crate::executor_suite) line without `drain`.
    pub fn new<E: Executor + 'static>(
        make: impl Fn() -> E + Send + Sync + 'static,
    ) -> ExecutorMaker {
        ExecutorMaker::of(move || Made { executor: Arc::new(make()), drain: None })
    }

    /// Wraps the closure of a line with `drain`.
    pub fn draining<E: DrainExecutor + 'static>(
        make: impl Fn() -> E + Send + Sync + 'static,
    ) -> ExecutorMaker {
        ExecutorMaker::of(move || {
            let executor = Arc::new(make());
            Made { executor: executor.clone(), drain: Some(executor) }
        })
    }

    fn of(make: impl Fn() -> Made + Send + Sync + 'static) -> ExecutorMaker {
        ExecutorMaker { make: Box::new(make), heap_calls: None, max_wait: DEFAULT_MAX_WAIT }
    }

    /// Sets a counter of the calling thread's allocations and frees. Only a test program's own
    /// global allocator can count them.
    pub fn heap_calls(self, heap_calls: impl Fn() -> u64 + Send + Sync + 'static) -> ExecutorMaker {
        ExecutorMaker { heap_calls: Some(Box::new(heap_calls)), ..self }
    }

    /// Sets how long a case waits while no job ends, before it reports a lost job (default:
    /// [`DEFAULT_MAX_WAIT`]). No correct executor takes that long.
    pub fn max_wait(self, max_wait: Duration) -> ExecutorMaker {
        ExecutorMaker { max_wait, ..self }
    }

    /// Makes an executor.
    pub fn make(&self) -> Arc<dyn Executor> {
        (self.make)().executor
    }
}

impl fmt::Debug for ExecutorMaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ExecutorMaker")
    }
}

/// The capability that an executor needs for a case to apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExecutorNeeds {
    /// No capability.
    Nothing,
    /// [`ExecutorCapabilities::runs_on_caller`].
    OnCaller,
    /// Jobs that run on another thread or later.
    Elsewhere,
    /// [`ExecutorCapabilities::ordered`].
    Order,
    /// [`ExecutorCapabilities::submit_in_no_block`].
    NoBlock,
    /// [`ExecutorCapabilities::submit_in_no_block`], and a counter of heap calls.
    NoHeap,
    /// [`DrainExecutor`].
    Drain,
}

impl ExecutorNeeds {
    /// Returns whether an executor with these capabilities meets this need, with or without
    /// draining, in a program that can count heap calls or not.
    pub fn met_by(
        self,
        capabilities: ExecutorCapabilities,
        drains: bool,
        counts_heap_calls: bool,
    ) -> bool {
        match self {
            ExecutorNeeds::Nothing => true,
            ExecutorNeeds::OnCaller => capabilities.runs_on_caller,
            ExecutorNeeds::Elsewhere => !capabilities.runs_on_caller,
            ExecutorNeeds::Order => capabilities.ordered,
            ExecutorNeeds::NoBlock => capabilities.submit_in_no_block,
            ExecutorNeeds::NoHeap => capabilities.submit_in_no_block && counts_heap_calls,
            ExecutorNeeds::Drain => drains,
        }
    }
}

/// A case of the suite. It passes by returning and fails by panicking.
#[derive(Debug, Clone, Copy)]
pub struct ExecutorCase {
    /// The name of its function and of its test.
    pub name: &'static str,
    /// The capability that it needs.
    pub needs: ExecutorNeeds,
    /// The function in [`cases`].
    pub run: fn(&ExecutorMaker),
}

/// Checks that the suite's line lists the capabilities of the executor, so that no applicable case
/// is skipped, and prints how many cases the suite has and how many run. `suite` is its name.
///
/// The compiler checks `drain` if it is listed. A `drain` that is missing cannot be found.
///
/// # Panics
///
/// If they differ.
pub fn capabilities_are_those_listed(maker: &ExecutorMaker, suite: &str, listed: &[&str]) {
    let made = (maker.make)();
    let capabilities = made.executor.capabilities();
    let (drains, counts) = (made.drain.is_some(), maker.heap_calls.is_some());
    let can_run = EXECUTOR_CASES.iter().map(|case| case.needs.met_by(capabilities, drains, counts));
    print_summary("executor suite", suite, can_run);
    let facts = [
        ("no_block", capabilities.submit_in_no_block),
        ("ordered", capabilities.ordered),
        ("on_caller", capabilities.runs_on_caller),
    ];
    for (name, has) in facts {
        assert_eq!(
            listed.contains(&name),
            has,
            "`{name}` on the suite's line, and in ExecutorCapabilities (which say {capabilities:?})"
        );
    }
}

/// Makes a module `$name` with one `#[test]` for each case of the executor suite.
///
/// ```
/// use zpool_conformance::executor_suite;
/// use zpool_core::exec::{Inline, Manual};
///
/// executor_suite!(manual, [no_block, ordered, drain], Manual::new);
/// executor_suite!(inline, [ordered, on_caller], Inline::new);
/// ```
///
/// - The list names the capabilities of the executor: `no_block` (submitting is legal in a no-block
///   section), `ordered`, `on_caller` (jobs run inside `submit`), and `drain` (it is a
///   [`DrainExecutor`](zpool_core::exec::DrainExecutor)). Cases for a capability that is not listed
///   become `#[ignore = "..."]`, so that the skip is seen. One case compares the list with the
///   executor's [`ExecutorCapabilities`](zpool_core::exec::ExecutorCapabilities).
/// - The closure makes an executor: `Fn() -> E`. It is called many times, and must always make the
///   same kind.
/// - Last, optionally, settings of [`ExecutorMaker`](crate::executor::ExecutorMaker):
///   `heap_calls = closure` in a program whose global allocator counts, and `max_wait = duration`.
///
/// The cases set the check policy of the process to [`CheckPolicy::Panic`](zpool_core::CheckPolicy)
/// and leave it there.
#[macro_export]
macro_rules! executor_suite {
    (
        $name:ident, [$($capability:ident),* $(,)?], $make:expr
        $(, $setting:ident = $value:expr)* $(,)?
    ) => {
        #[cfg(test)]
        mod $name {
            #[allow(unused_imports, reason = "what the closure names may be a full path")]
            use super::*;

            $($crate::__executor_capability!($capability);)*

            fn maker() -> $crate::executor::ExecutorMaker {
                $crate::__executor_maker!([$($capability)*] $make)$(.$setting($value))*
            }

            #[test]
            fn capabilities_are_those_listed() {
                $crate::executor::capabilities_are_those_listed(
                    &maker(),
                    module_path!(),
                    &[$(stringify!($capability)),*],
                );
            }

            $crate::__executor_cases! { [$crate::__executor_tests] [$($capability)* $($setting)*] }
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __executor_capability {
    (no_block) => {};
    (ordered) => {};
    (on_caller) => {};
    (drain) => {};
    ($other:ident) => {
        compile_error!(concat!(
            "unknown capability `",
            stringify!($other),
            "` (known: no_block, ordered, on_caller, drain)"
        ));
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __executor_maker {
    ([drain $($rest:ident)*] $make:expr) => { $crate::executor::ExecutorMaker::draining($make) };
    ([] $make:expr) => { $crate::executor::ExecutorMaker::new($make) };
    ([$other:ident $($rest:ident)*] $make:expr) => { $crate::__executor_maker!([$($rest)*] $make) };
}

/// The table of cases: group, function, needed capability. Passes it to the macro in the first
/// brackets.
#[doc(hidden)]
#[macro_export]
macro_rules! __executor_cases {
    ([$($callback:tt)+] $context:tt) => {
        $($callback)+! {
            $context
            jobs capabilities_never_change: Nothing,
            jobs x1_every_job_runs_once: Nothing,
            jobs x1_jobs_of_many_threads_run_once: Nothing,
            jobs x1_delayed_jobs_run_once: Nothing,
            jobs x2_a_panicking_job_does_not_stop_the_next: Nothing,
            jobs x3_no_job_runs_inside_submit: Elsewhere,
            jobs jobs_run_inside_submit: OnCaller,
            jobs jobs_of_a_thread_run_in_order_one_at_a_time: Order,
            submit x5_from_inside_a_job: Nothing,
            submit x5_while_the_thread_unwinds: Nothing,
            submit x5_in_a_no_block_section: NoBlock,
            submit x5_without_a_heap_call: NoHeap,
            drain flush_waits_for_all_that_was_submitted_before: Drain,
            drain flush_waits_for_jobs_that_run: Drain,
            drain flushes_of_many_threads: Drain,
            drain wait_inside_own_job_fails: Drain,
            shutdown shutdown_runs_what_is_pending: Drain,
            shutdown shutdown_twice_and_from_two_threads: Drain,
            shutdown x4_once_shut_down_jobs_come_back: Drain,
            shutdown x1_submitting_races_with_shutdown: Drain,
            shutdown shutdown_now_returns_pending_jobs_in_order: Drain,
            shutdown shutdown_now_lets_the_running_job_finish: Drain,
            shutdown x1_submitting_races_with_shutdown_now: Drain,
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __executor_tests {
    ($context:tt $($group:ident $case:ident: $needs:ident,)*) => {
        $($crate::__executor_test! { $context $needs $group $case })*
    };
}

/// One test. The first argument is the rest of the listed capabilities and settings.
#[doc(hidden)]
#[macro_export]
macro_rules! __executor_test {
    ($any:tt Nothing $group:ident $case:ident) => {
        $crate::__executor_test! { @run $group $case }
    };

    ([on_caller $($rest:ident)*] OnCaller $group:ident $case:ident) => {
        $crate::__executor_test! { @run $group $case }
    };
    ([on_caller $($rest:ident)*] Elsewhere $group:ident $case:ident) => {
        $crate::__executor_test! { @ignore "runs jobs on the caller" $group $case }
    };
    ([] OnCaller $group:ident $case:ident) => {
        $crate::__executor_test! { @ignore "does not run jobs on the caller" $group $case }
    };
    ([] Elsewhere $group:ident $case:ident) => { $crate::__executor_test! { @run $group $case } };

    ([ordered $($rest:ident)*] Order $group:ident $case:ident) => {
        $crate::__executor_test! { @run $group $case }
    };
    ([] Order $group:ident $case:ident) => {
        $crate::__executor_test! { @ignore "promises no order" $group $case }
    };

    ([no_block $($rest:ident)*] NoBlock $group:ident $case:ident) => {
        $crate::__executor_test! { @run $group $case }
    };
    ([] NoBlock $group:ident $case:ident) => {
        $crate::__executor_test! { @ignore "not for no-block sections" $group $case }
    };
    ([no_block $($rest:ident)*] NoHeap $group:ident $case:ident) => {
        $crate::__executor_test! { [$($rest)*] NoHeapCounted $group $case }
    };
    ([] NoHeap $group:ident $case:ident) => {
        $crate::__executor_test! { @ignore "not for no-block sections" $group $case }
    };
    ([heap_calls $($rest:ident)*] NoHeapCounted $group:ident $case:ident) => {
        $crate::__executor_test! { @run $group $case }
    };
    ([] NoHeapCounted $group:ident $case:ident) => {
        $crate::__executor_test! {
            @ignore "no counter of heap calls on the suite's line" $group $case
        }
    };

    ([drain $($rest:ident)*] Drain $group:ident $case:ident) => {
        $crate::__executor_test! { @run $group $case }
    };
    ([] Drain $group:ident $case:ident) => {
        $crate::__executor_test! { @ignore "cannot be waited for" $group $case }
    };

    ([$other:ident $($rest:ident)*] $needs:ident $group:ident $case:ident) => {
        $crate::__executor_test! { [$($rest)*] $needs $group $case }
    };

    (@run $group:ident $case:ident) => {
        #[test]
        fn $case() {
            $crate::executor::cases::$group::$case(&maker());
        }
    };
    (@ignore $why:literal $group:ident $case:ident) => {
        #[test]
        #[ignore = $why]
        fn $case() {
            $crate::executor::cases::$group::$case(&maker());
        }
    };
}

macro_rules! list_of_cases {
    ([] $($group:ident $case:ident: $needs:ident,)*) => {
        /// Every case of [`executor_suite!`](crate::executor_suite), in its order.
        pub const EXECUTOR_CASES: &[ExecutorCase] = &[$(ExecutorCase {
            name: stringify!($case),
            needs: ExecutorNeeds::$needs,
            run: cases::$group::$case,
        }),*];
    };
}
__executor_cases! { [list_of_cases] [] }
