//! Waits that only the waiter can end do end: no thread waits for a job that no other thread runs.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak, mpsc};
use std::time::Duration;

use crate::common::*;
use parking_lot::Mutex;
use zpool_core::exec::{
    DrainError, DrainExecutor, Executor, ExecutorCapabilities, Job, Manual, Refused, RefusedReason,
};
use zpool_core::{NoBlock, PoolConfig, ZPool, ZPoolDriver};
use zpool_manager::{
    PoolEvent, PoolEventKind, PoolManager, PoolObserver, SwitchError, WorkQueue, pools_leaked,
};
use zpool_testing::executors::ScriptedExecutor;

/// Held by tests that leak a pool or count leaked pools, because the count is for the process.
static LEAKS: Mutex<()> = Mutex::new(());

/// Runs `work` on a thread of its own, with a watchdog, since a fault would show as a wait without
/// end.
fn ends<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, wait) = mpsc::channel();
    std::thread::spawn(move || done.send(work()));
    wait.recv_timeout(Duration::from_secs(60)).expect("it waits for ever, or panicked")
}

/// A thread can switch any number of times with an executor that only it could run.
#[test]
fn switch_with_manual_executor_never_waits() {
    let (script, manual) = (Script::new(), Arc::new(Manual::new()));
    let manager = builder(&script).executor(manual.clone()).build(&spec("a+x")).unwrap();
    let manager = ends(move || {
        for n in 0..60 {
            manager.switch(&spec(if n % 2 == 0 { "b+y" } else { "a+x" })).unwrap();
        }
        manager
    });
    assert!(manager.stats().pending_destroy <= 16);
    let manager = ends(move || manager.flush().map(|()| manager).unwrap());
    assert_eq!((script.alive(), manager.stats().pending_destroy), (1, 0));
    assert_eq!(manager.stats().destroyed_on_caller, 0, "by the switcher, not by a releaser");
    // The tickets that the executor still has find no job, and do no harm.
    assert_eq!(manual.run_all(), 60);
    assert_eq!((script.alive(), manager.stats().pools_destroyed), (1, 60));
}

/// Switches, flushes and reaps at every event, and keeps the results.
#[derive(Debug, Default)]
struct SwitchingObserver {
    manager: OnceLock<Weak<PoolManager>>,
    switches: Mutex<Vec<Result<(), SwitchError>>>,
    flushes: Mutex<Vec<Result<(), DrainError>>>,
    reaped: AtomicUsize,
}

impl PoolObserver for SwitchingObserver {
    fn observe(&self, event: &PoolEvent<'_>) {
        // The last event comes from a manager that is being dropped.
        let Some(manager) = self.manager.get().and_then(Weak::upgrade) else { return };
        if event.kind == PoolEventKind::Emptied {
            return;
        }
        self.switches.lock().push(manager.switch(&spec("b+x")).map(drop));
        self.switches.lock().push(manager.set_compressor(&component("x")).map(drop));
        self.flushes.lock().push(manager.flush());
        self.reaped.fetch_add(manager.reap(), Ordering::SeqCst);
    }
}

/// In an observer, as in a constructor, a switch and a flush are errors, and a reap does nothing.
#[test]
fn observer_that_switches_or_flushes_gets_an_error() {
    let (script, observer) = (Script::new(), Arc::new(SwitchingObserver::default()));
    let manager = builder(&script).observer(observer.clone()).build(&spec("a+x")).unwrap();
    let manager = Arc::new(manager);
    observer.manager.set(Arc::downgrade(&manager)).unwrap();
    let manager = ends(move || {
        manager.switch(&spec("a+y")).unwrap();
        manager.flush().unwrap();
        manager
    });
    let switches = observer.switches.lock();
    // Created, published, retired, destroyed.
    assert_eq!((switches.len(), observer.flushes.lock().len()), (8, 4));
    assert!(switches.iter().all(|outcome| *outcome == Err(SwitchError::InsideObserver)));
    assert!(observer.flushes.lock().iter().all(|outcome| *outcome == Err(DrainError)));
    assert_eq!(observer.reaped.load(Ordering::SeqCst), 0);
    let message = SwitchError::InsideObserver.to_string();
    assert_eq!(message, "an observer called a switch: switch when the observed call is over");
    drop(switches);
    drop(manager);
}

/// A flush in a constructor is an error: it would wait for a destructor that may switch.
#[test]
fn constructor_that_flushes_gets_an_error() {
    let script = Script::new();
    let manager = Arc::new(builder(&script).build(&spec("a+x")).unwrap());
    let (inner, outcome) = (Arc::downgrade(&manager), Arc::new(Mutex::new(None)));
    let seen = outcome.clone();
    script.on_create(move || {
        let manager = inner.upgrade().unwrap();
        *seen.lock() = Some((manager.flush(), manager.reap()));
        Ok(())
    });
    manager.switch(&spec("b+x")).unwrap();
    script.calm();
    assert_eq!(outcome.lock().take(), Some((Err(DrainError), 0)));
}

/// Runs jobs on one thread of its own, which takes them from a channel with `room`.
#[derive(Debug)]
struct OneThread {
    jobs: mpsc::SyncSender<Box<dyn FnOnce() + Send>>,
}

impl OneThread {
    fn new(room: usize) -> (Arc<OneThread>, std::thread::JoinHandle<()>) {
        let (jobs, queue) = mpsc::sync_channel::<Box<dyn FnOnce() + Send>>(room);
        let thread = std::thread::spawn(move || queue.into_iter().for_each(|job| job()));
        (Arc::new(OneThread { jobs }), thread)
    }
}

impl Executor for OneThread {
    fn submit(&self, job: Job) -> Result<(), Refused> {
        // Blocks while there is no room.
        self.jobs.send(Box::new(move || drop(job.run()))).expect("the thread runs");
        Ok(())
    }
}

/// The last manager may be dropped on the only thread of its executor, even if `submit` blocks
/// because that thread takes no job.
#[test]
fn manager_dropped_on_its_executors_only_thread_ends() {
    for room in [0, 1, 100] {
        let (script, (executor, thread)) = (Script::new(), OneThread::new(room));
        let manager = builder(&script).executor(executor.clone()).build(&spec("a+x")).unwrap();
        let (done, wait) = mpsc::channel();
        let task = move || {
            for text in ["b+x", "a+y", "b+y", "a+x", "b+x"] {
                manager.switch(&spec(text)).unwrap();
            }
            drop(manager);
            done.send(()).unwrap();
        };
        executor.jobs.send(Box::new(task)).unwrap();
        wait.recv_timeout(Duration::from_secs(60)).expect("the drop waits for its own thread");
        assert_eq!(script.alive(), 0, "with room {room}");
        drop(executor);
        ends(move || thread.join().unwrap());
    }
}

/// Neither a runtime with one thread nor the last blocking thread of one deadlocks.
#[test]
fn manager_dropped_in_a_task_of_its_runtime_ends() {
    #[derive(Debug)]
    struct Tasks(tokio::runtime::Handle, bool);
    impl Executor for Tasks {
        fn submit(&self, job: Job) -> Result<(), Refused> {
            match self.1 {
                true => drop(self.0.spawn_blocking(move || drop(job.run()))),
                false => drop(self.0.spawn(async move { drop(job.run()) })),
            }
            Ok(())
        }
    }
    for blocking in [false, true] {
        let script = Script::new();
        let inner = script.clone();
        ends(move || {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = runtime.max_blocking_threads(1).build().unwrap();
            let tasks = Arc::new(Tasks(runtime.handle().clone(), blocking));
            let manager = builder(&inner).executor(tasks).build(&spec("a+x")).unwrap();
            let last = move || {
                manager.switch(&spec("b+x")).unwrap();
                drop(manager);
            };
            runtime.block_on(async move {
                match blocking {
                    true => tokio::task::spawn_blocking(last).await.unwrap(),
                    false => tokio::spawn(async move { last() }).await.unwrap(),
                }
            });
        });
        assert_eq!(script.alive(), 0, "blocking: {blocking}");
    }
}

/// Waiting for a relay on its executor's only thread runs its jobs there, each once and in order.
#[test]
fn relay_waited_for_on_its_only_thread_ends() {
    let (executor, thread) = OneThread::new(100);
    let relay = Arc::new(WorkQueue::relay("relay", executor.clone()).unwrap());
    let (ran, (done, wait)) = (Arc::new(Mutex::new(Vec::new())), mpsc::channel());
    let (inner, seen) = (relay.clone(), ran.clone());
    let submit = move |n: usize| {
        let seen = seen.clone();
        inner.submit(Job::new("count", move || seen.lock().push(n))).unwrap();
    };
    let inner = relay.clone();
    let task = move || {
        (0..10).for_each(&submit);
        inner.flush().unwrap();
        (10..20).for_each(&submit);
        inner.shutdown().unwrap();
        done.send(()).unwrap();
    };
    executor.jobs.send(Box::new(task)).unwrap();
    wait.recv_timeout(Duration::from_secs(60)).expect("the flush waits for its own thread");
    assert_eq!(*ran.lock(), (0..20).collect::<Vec<_>>());
    assert_eq!((relay.stats().depth, relay.stats().jobs_run), (0, 20));
    drop((relay, executor));
    ends(move || thread.join().unwrap());
    assert_eq!(ran.lock().len(), 20, "the tickets left with the executor are empty");
}

/// The last manager may be dropped inside its executor's `submit`: it does not wait for that call
/// to return.
#[test]
fn manager_dropped_inside_submit_ends() {
    let (script, last) = (Script::new(), Arc::new(Mutex::new(None::<PoolManager>)));
    let dropped = last.clone();
    let executor = Arc::new(ScriptedExecutor::in_no_block(move |job| {
        let manager = dropped.lock().take();
        drop(manager);
        let _ = job.run();
        Ok(())
    }));
    let manager = builder(&script).executor(executor.clone()).build(&spec("a+x")).unwrap();
    let pool = manager.current().unwrap();
    manager.switch(&spec("b+x")).unwrap();
    *last.lock() = Some(manager);
    ends(move || drop(pool));
    assert_eq!((script.alive(), Arc::strong_count(&executor)), (0, 1));
}

/// Refuses a job, but not before the manager's drop has begun.
#[derive(Debug, Default)]
struct RefusesLate {
    gateway: OnceLock<Weak<dyn Executor>>,
    begun: Mutex<Option<mpsc::Sender<()>>>,
}

impl Executor for RefusesLate {
    fn submit(&self, job: Job) -> Result<(), Refused> {
        if job.label() == "probe" {
            return job.run().map_err(|_| unreachable!("it does nothing"));
        }
        let begun = self.begun.lock().take();
        if let (Some(begun), Some(gateway)) = (begun, self.gateway.get().and_then(Weak::upgrade)) {
            begun.send(()).unwrap();
            // The manager's own executor refuses once the manager is being dropped.
            while gateway.submit(Job::new("probe", || ())).is_ok() {
                std::thread::yield_now();
            }
        }
        Err(Refused { job, reason: RefusedReason::Full })
    }

    fn capabilities(&self) -> ExecutorCapabilities {
        ExecutorCapabilities::CAUTIOUS.with_submit_in_no_block()
    }
}

/// A manager that is dropped waits for a thread that hands a pool over, and destroys the pool if it
/// is refused. The other thread is in a no-block section, and could only leak it.
#[test]
fn dropped_manager_waits_for_hand_over() {
    let _leaks = LEAKS.lock();
    let (script, leaked) = (Script::new(), pools_leaked());
    let executor = Arc::new(RefusesLate::default());
    let manager = builder(&script).executor(executor.clone()).build(&spec("a+x")).unwrap();
    executor.gateway.set(Arc::downgrade(manager.executor())).unwrap();
    let last = manager.current().unwrap();
    manager.switch(&spec("b+x")).unwrap();
    let (begun, begins) = mpsc::channel();
    *executor.begun.lock() = Some(begun);
    let releaser = std::thread::spawn(move || {
        let _section = NoBlock::enter();
        drop(last);
    });
    begins.recv().unwrap();
    ends(move || drop(manager));
    releaser.join().unwrap();
    assert_eq!((script.alive(), pools_leaked() - leaked), (0, 0));
    assert_eq!(Arc::strong_count(&executor), 1);
}

/// Records whether it was dropped, and whether inside a no-block section. Waits in `submit`.
#[derive(Debug)]
struct BlockingExecutor {
    waits: Mutex<Option<(mpsc::Sender<()>, mpsc::Receiver<()>)>>,
    dropped: Arc<Mutex<Option<bool>>>,
}

impl Executor for BlockingExecutor {
    fn submit(&self, job: Job) -> Result<(), Refused> {
        let waits = self.waits.lock().take();
        if let Some((begun, go)) = waits {
            begun.send(()).unwrap();
            let _ = go.recv();
        }
        Err(Refused { job, reason: RefusedReason::Full })
    }

    fn capabilities(&self) -> ExecutorCapabilities {
        ExecutorCapabilities::CAUTIOUS.with_submit_in_no_block()
    }
}

impl Drop for BlockingExecutor {
    fn drop(&mut self) {
        *self.dropped.lock() = Some(NoBlock::is_active());
    }
}

/// An executor that a manager left to a releasing thread is dropped there, but never inside a
/// no-block section: its drop may block.
#[test]
fn executor_left_to_releaser_survives_no_block() {
    let _leaks = LEAKS.lock();
    for (inside, expected) in [(false, Some(false)), (true, None)] {
        let (script, dropped) = (Script::new(), Arc::new(Mutex::new(None)));
        let executor =
            Arc::new(BlockingExecutor { waits: Mutex::default(), dropped: dropped.clone() });
        let weak = Arc::downgrade(&executor);
        let manager = builder(&script).executor(executor).build(&spec("a+x")).unwrap();
        let last = manager.current().unwrap();
        manager.switch(&spec("b+x")).unwrap();
        let ((begun, begins), (go, wait)) = (mpsc::channel(), mpsc::channel());
        *weak.upgrade().unwrap().waits.lock() = Some((begun, wait));
        let releaser = std::thread::spawn(move || {
            let _section = inside.then(NoBlock::enter);
            drop(last);
        });
        begins.recv().unwrap();
        // Inside a job, the manager waits for no thread and leaves the executor.
        Job::new("drop the manager", move || drop(manager)).run().unwrap();
        assert_eq!(*dropped.lock(), None);
        go.send(()).unwrap();
        releaser.join().unwrap();
        assert_eq!(*dropped.lock(), expected, "inside: {inside}");
    }
}

/// An allocator whose pools own the executor from their configuration.
#[derive(Debug)]
struct Owning(Arc<Script>, Arc<Mutex<Vec<Arc<dyn Executor>>>>);

impl ZPoolDriver for Owning {
    fn name(&self) -> &str {
        "owning"
    }

    fn canonical(
        &self,
        params: &zpool_core::spec::Params,
    ) -> Result<zpool_core::spec::Params, zpool_core::CreateError> {
        Ok(params.clone())
    }

    fn create(&self, config: &PoolConfig) -> Result<Box<dyn ZPool>, zpool_core::CreateError> {
        // Lives as long as the pool and this test: the executor that pools get must not be the
        // manager's.
        self.1.lock().extend(config.executor.clone());
        ScriptedDriver { name: "owning", script: self.0.clone() }.create(config)
    }
}

/// An executor that is dropped with jobs drops them and their pools, although pools own the
/// executor that they were given. After the manager is gone, that executor takes no job.
#[test]
fn executor_dropped_with_jobs_drops_their_pools() {
    let (script, manual, given) = (Script::new(), Arc::new(Manual::new()), Arc::default());
    let registry = registry(&script);
    registry.register_allocator(Arc::new(Owning(script.clone(), Arc::clone(&given)))).unwrap();
    let manager = PoolManager::builder(registry).executor(manual.clone());
    let manager = manager.build(&spec("owning+x")).unwrap();
    for n in 0..5 {
        manager.switch(&spec(&format!("owning(n={n})+x"))).unwrap();
    }
    let ran = Arc::new(AtomicBool::new(false));
    let mark = |ran: &Arc<AtomicBool>| {
        let ran = ran.clone();
        Job::new("mark", move || ran.store(true, Ordering::SeqCst))
    };
    let gateway = given.lock()[0].clone();
    gateway.submit(mark(&ran)).unwrap();
    drop(manager);
    assert_eq!(script.alive(), 6, "a supplied executor destroys them when its jobs run");
    assert!(gateway.submit(mark(&ran)).is_err_and(|r| r.reason == RefusedReason::ShutDown));
    assert!(gateway.submit_later(Duration::ZERO, mark(&ran)).is_err());
    let weak = Arc::downgrade(&manual);
    drop(manual);
    assert_eq!((weak.strong_count(), script.alive()), (0, 0));
    assert!(!ran.load(Ordering::SeqCst), "dropped unrun");
}

/// `destroy_pending` destroys pools that the executor has not begun or has refused. Inside a job or
/// a no-block section it does nothing.
#[test]
fn destroy_pending_runs_what_no_thread_has_begun() {
    let (script, manual) = (Script::new(), Arc::new(Manual::new()));
    let manager = Arc::new(builder(&script).executor(manual).build(&spec("a+x")).unwrap());
    assert_eq!(manager.destroy_pending(), 0);
    manager.switch(&spec("b+y")).unwrap();
    assert_eq!(manager.stats().pending_destroy, 1);
    let inside = manager.clone();
    Job::new("store", move || assert_eq!(inside.destroy_pending(), 0)).run().unwrap();
    {
        let _section = NoBlock::enter();
        assert_eq!(manager.destroy_pending(), 0);
    }
    assert_eq!(manager.stats().pending_destroy, 1);
    manager.destroy_pending();
    let stats = manager.stats();
    assert_eq!(
        (stats.pending_destroy, stats.pending_destroy_bytes, stats.pools_destroyed),
        (0, 0, 1)
    );
    assert_eq!((script.alive(), stats.destroyed_on_caller), (1, 0));
}
