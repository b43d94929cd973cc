//! Submitting from unusual places.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::thread;

use zpool_core::NoBlock;
use zpool_core::exec::Job;

use crate::executor::ExecutorMaker;
use crate::executor::harness::{ExecutorHarness, run_if_full, yield_often};
use crate::iterations::scaled;

/// X5, X1: jobs submit jobs, which submit jobs. All run once.
pub fn x5_from_inside_a_job(maker: &ExecutorMaker) {
    let harness = ExecutorHarness::new(maker);
    for _ in 0..scaled(30) {
        submit_nested(&harness, 3);
    }
    harness.wait_for_all();
}

/// Submits a job that submits two like it, `depth` levels deep.
fn submit_nested(harness: &ExecutorHarness, depth: usize) {
    let inner = harness.clone();
    harness.submit(harness.job(move || {
        for _ in 0..if depth == 0 { 0 } else { 2 } {
            submit_nested(&inner, depth - 1);
        }
    }));
}

/// X5, X1: a thread that unwinds submits from a destructor.
pub fn x5_while_the_thread_unwinds(maker: &ExecutorMaker) {
    let harness = ExecutorHarness::new(maker);
    for _ in 0..scaled(10) {
        let refused = Cell::new(None);
        let unwinding = catch_unwind(AssertUnwindSafe(|| {
            let _submits = SubmitsWhenDropped { harness: &harness, refused: &refused };
            resume_unwind(Box::new("not a panic of the executor"));
        }));
        assert!(unwinding.is_err(), "it unwound");
        // Keep it until here, because a second panic would abort the program.
        assert!(refused.take().is_none(), "X5: refused from a thread that unwinds");
    }
    harness.wait_for_all();
}

struct SubmitsWhenDropped<'a> {
    harness: &'a ExecutorHarness,
    refused: &'a Cell<Option<Job>>,
}

impl Drop for SubmitsWhenDropped<'_> {
    fn drop(&mut self) {
        self.refused.set(self.harness.try_submit(self.harness.job(|| {})).err());
    }
}

/// X5, X1: threads submit in no-block sections, to an idle executor and to a busy one, and no call
/// reports that it blocks.
pub fn x5_in_a_no_block_section(maker: &ExecutorMaker) {
    let harness = ExecutorHarness::new(maker);
    for _ in 0..scaled(20) {
        let job = harness.job(yield_often);
        {
            let _section = NoBlock::enter();
            harness.submit(job);
        }
        harness.wait_for_all();
    }
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..scaled(300) {
                    let job = harness.job(|| {});
                    let _section = NoBlock::enter();
                    harness.submit(job);
                }
            });
        }
    });
    harness.wait_for_all();
    assert_eq!(harness.on_caller(), [], "X3: jobs that ran inside the call that submitted them");
}

/// X5: `submit` makes no heap call, neither for the first job nor for many, on an idle or a busy
/// executor.
pub fn x5_without_a_heap_call(maker: &ExecutorMaker) {
    let heap_calls = maker.heap_calls.as_ref().expect("the suite's line has a counter");
    let before = heap_calls();
    let harness = ExecutorHarness::new(maker);
    assert!(
        heap_calls() > before,
        "the counter of the suite's line does not see this thread's heap calls"
    );
    for burst in [1, 1, scaled(500), 1, scaled(500)] {
        let jobs: Vec<_> = (0..burst).map(|_| harness.job(|| {})).collect();
        for job in jobs {
            let before = heap_calls();
            let section = NoBlock::enter();
            let outcome = harness.executor().submit(job);
            drop(section);
            // Check before running a returned job, which frees its memory.
            assert_eq!(
                heap_calls() - before,
                0,
                "X5: heap calls of a submit in a no-block section"
            );
            if run_if_full(outcome).is_err() {
                panic!("X4: refused as shut down, but no shutdown was requested");
            }
        }
        harness.wait_for_all();
    }
}
