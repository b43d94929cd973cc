//! An executor may run the pool's next job while the one that submitted it is still ending. A pool
//! that is dropped waits for both.

use std::sync::{Arc, Condvar, Mutex};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::Duration;

use zpool_core::exec::{Executor, ExecutorCapabilities, Job, Refused, RefusedReason};
use zpool_core::page::{HeapSource, ObservedSource};
use zpool_core::{PoolConfig, ZPoolDriver};
use zpool_zsmalloc::ZsmallocDriver;

/// Progress of the two jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Begun,
    /// The second job is about to run.
    Armed,
    /// It is in the page source, and stays there.
    Inside,
    /// It may continue.
    LetGo,
}

#[derive(Debug)]
struct Stages(Mutex<Stage>, Condvar);

impl Stages {
    fn reach(&self, stage: Stage) {
        *self.0.lock().unwrap() = stage;
        self.1.notify_all();
    }

    fn now(&self) -> Stage {
        *self.0.lock().unwrap()
    }

    fn wait_for(&self, stage: Stage) {
        drop(self.1.wait_while(self.0.lock().unwrap(), |now| *now < stage).unwrap());
    }
}

/// Keeps the first job until the test asks for it. The second one, which the first submits, runs on
/// a thread of its own, and is inside the page source before `submit` returns. Refuses later ones.
#[derive(Debug)]
struct Beside {
    stages: Arc<Stages>,
    first: Mutex<Option<Job>>,
    second: Mutex<Option<JoinHandle<()>>>,
}

impl Executor for Beside {
    fn submit(&self, job: Job) -> Result<(), Refused> {
        let mut first = self.first.lock().unwrap();
        match self.stages.now() {
            Stage::Begun if first.is_none() => *first = Some(job),
            Stage::Armed => {
                *self.second.lock().unwrap() = Some(spawn(|| job.run().unwrap()));
                self.stages.wait_for(Stage::Inside);
            }
            _ => return Err(Refused { job, reason: RefusedReason::Full }),
        }
        Ok(())
    }

    fn capabilities(&self) -> ExecutorCapabilities {
        ExecutorCapabilities::CAUTIOUS.with_submit_in_no_block()
    }
}

/// The pool's drop waits for a job that outlives the one before it.
#[test]
fn drop_waits_for_overlapping_jobs() {
    let stages = Arc::new(Stages(Mutex::new(Stage::Begun), Condvar::new()));
    let watched = stages.clone();
    let source = ObservedSource::new(Arc::new(HeapSource::new(4096)), move |_| {
        if watched.now() == Stage::Armed {
            watched.reach(Stage::Inside);
            watched.wait_for(Stage::LetGo);
        }
    });
    let executor = Arc::new(Beside {
        stages: stages.clone(),
        first: Mutex::default(),
        second: Mutex::default(),
    });
    let config = PoolConfig::new(Arc::new(source), 4096).with_executor(executor.clone());
    let pool = ZsmallocDriver.create(&config).unwrap();
    let objects: Vec<_> = (0..6000).map(|_| pool.insert(&[1; 1300]).unwrap()).collect();
    let (go, _stay): (Vec<_>, Vec<_>) =
        objects.into_iter().enumerate().partition(|(i, _)| i % 2 == 0);
    go.into_iter().for_each(|(_, handle)| pool.free(handle).unwrap());

    let first = executor.first.lock().unwrap().take().expect("there is much to gain");
    stages.reach(Stage::Armed);
    // It leaves the pool what it has needed recently, and submits the next one for that.
    spawn(|| first.run().unwrap()).join().unwrap();
    assert_eq!(stages.now(), Stage::Inside, "the second job runs, the first has ended");

    let seen = stages.clone();
    let dropping = spawn(move || {
        drop(pool);
        seen.now()
    });
    // Long enough that a pool which does not wait would be gone by then.
    for _ in 0..100 {
        if dropping.is_finished() {
            break;
        }
        sleep(Duration::from_millis(2));
    }
    stages.reach(Stage::LetGo);
    assert_eq!(
        dropping.join().unwrap(),
        Stage::LetGo,
        "the pool was gone before its second job ended"
    );
    executor.second.lock().unwrap().take().unwrap().join().unwrap();
}
