//! The executors that destroy the pools of a storm.

use std::sync::Arc;

use zpool_core::exec::{DrainExecutor, Executor, Inline, Manual};
use zpool_manager::WorkQueue;

use crate::cli::ExecutorChoice;
use crate::error::Failure;

/// The executor of a phase, which the phase can run and drain.
#[derive(Debug, Clone)]
pub(super) enum StormExecutor {
    Queue(Arc<WorkQueue>),
    Manual(Arc<Manual>),
    Inline(Arc<Inline>),
}

impl StormExecutor {
    /// Creates an executor.
    pub(super) fn new(choice: ExecutorChoice) -> Result<StormExecutor, Failure> {
        Ok(match choice {
            ExecutorChoice::Queue => StormExecutor::Queue(Arc::new(WorkQueue::new("storm-work")?)),
            ExecutorChoice::Manual => StormExecutor::Manual(Arc::default()),
            ExecutorChoice::Inline => StormExecutor::Inline(Arc::default()),
        })
    }

    /// Returns the executor as a store takes it.
    pub(super) fn executor(&self) -> Arc<dyn Executor> {
        match self {
            StormExecutor::Queue(queue) => queue.clone(),
            StormExecutor::Manual(manual) => manual.clone(),
            StormExecutor::Inline(inline) => inline.clone(),
        }
    }

    /// Returns the number of pools that may await destruction before a switch waits for them.
    /// `None` for the store's default.
    ///
    /// It has no bound if the switching thread itself runs the jobs between two switches, because
    /// that thread would wait for itself.
    pub(super) fn max_pending(&self) -> Option<usize> {
        matches!(self, StormExecutor::Manual(_)).then_some(usize::MAX)
    }

    /// Runs the jobs that the switching thread runs between two switches.
    pub(super) fn between_switches(&self) {
        if let StormExecutor::Manual(manual) = self {
            manual.run_all();
        }
    }

    /// Waits until all jobs have run.
    pub(super) fn drain(&self) -> Result<(), Failure> {
        match self {
            StormExecutor::Queue(queue) => queue.flush()?,
            StormExecutor::Manual(manual) => manual.flush()?,
            StormExecutor::Inline(_) => (),
        }
        Ok(())
    }
}
