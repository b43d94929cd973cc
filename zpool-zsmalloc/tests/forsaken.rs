//! Executors that do not run the pool's job: memory comes back all the same, with the next inserts.
#![cfg(not(zpool_loom))]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use zpool_core::exec::{Executor, ExecutorProperties, Job, Manual, Refused, RefusedReason};
use zpool_core::page::{HeapSource, PageSource};
use zpool_core::{PoolConfig, ZPoolDriver};
use zpool_zsmalloc::ZsmallocDriver;

/// Refuses jobs, or takes and drops them, until it is told to work.
#[derive(Debug, Default)]
struct Unwilling {
    drops: bool,
    works: AtomicBool,
    jobs: Manual,
}

impl Executor for Unwilling {
    fn submit(&self, job: Job) -> Result<(), Refused> {
        if self.works.load(Ordering::Relaxed) {
            return self.jobs.submit(job);
        }
        if !self.drops {
            return Err(Refused { job, reason: RefusedReason::Full });
        }
        drop(job);
        Ok(())
    }

    fn submit_later(&self, _delay: Duration, job: Job) -> Result<(), Refused> {
        self.submit(job)
    }

    fn properties(&self) -> ExecutorProperties {
        ExecutorProperties::CAUTIOUS.with_submit_in_no_block()
    }
}

#[test]
fn an_insert_does_the_work_of_a_job_that_is_refused_or_dropped() {
    for drops in [false, true] {
        let executor = Arc::new(Unwilling { drops, ..Unwilling::default() });
        let source: Arc<dyn PageSource> = Arc::new(HeapSource::new(4096));
        let config = PoolConfig::new(source.clone(), 4096).with_executor(executor.clone());
        let pool = ZsmallocDriver.create(&config).unwrap();
        let fill = |n: usize| -> Vec<_> { (0..n).map(|_| pool.insert(&[1; 1400]).unwrap()).collect() };
        let empty = |handles: Vec<_>| handles.into_iter().for_each(|handle| pool.free(handle).unwrap());

        for _ in 0..3 {
            let full = fill(4000);
            let held = source.charged_frames();
            empty(full);
            let few = fill(10);
            assert!(source.charged_frames() < held / 10, "drops: {drops}, {}", source.charged_frames());
            empty(few);
            pool.validate().unwrap();
        }

        // An executor that comes round gets the job again.
        executor.works.store(true, Ordering::Relaxed);
        empty(fill(4000));
        assert!(executor.jobs.run_all() > 0, "drops: {drops}");
        assert!(source.charged_frames() <= 64, "drops: {drops}, {}", source.charged_frames());
        pool.validate().unwrap();
        drop(pool);
        assert_eq!(source.charged_frames(), 0);
    }
}
