//! Threads that serve faults: the default mode.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use rustix::io::fcntl_dupfd_cloexec;
use zpool_core::internal::sync::{spawn_worker, thread};

use crate::descriptors;
use crate::engine::Engine;
use crate::fault::Served;
use crate::uffd::FaultEvent;

/// The handler threads of a region, and the descriptor that stops them.
#[derive(Debug)]
pub(crate) struct Handlers {
    threads: Vec<thread::JoinHandle<()>>,
    /// Becomes readable when the threads have to end.
    stop: Arc<OwnedFd>,
}

impl Handlers {
    /// Starts `count` threads.
    pub(crate) fn start(engine: &Arc<Engine>, count: usize) -> io::Result<Handlers> {
        let stop = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Handlers::start_with(engine, count, stop, |_, _| {})
    }

    /// Starts `count` threads that have tables of descriptors of their own, so that the program
    /// cannot close what they need. The descriptor that stops them is numbered from `least` on.
    pub(crate) fn start_apart(
        engine: &Arc<Engine>,
        count: usize,
        least: RawFd,
    ) -> io::Result<Handlers> {
        let stop = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let stop = fcntl_dupfd_cloexec(&stop, least).unwrap_or(stop);
        Handlers::start_with(engine, count, stop, |engine, stop| {
            descriptors::keep_only([engine.uffd.as_fd().as_raw_fd(), stop.as_raw_fd()]);
        })
    }

    /// The number of the descriptor that stops them.
    pub(crate) fn stop_number(&self) -> RawFd {
        self.stop.as_raw_fd()
    }

    fn start_with(
        engine: &Arc<Engine>,
        count: usize,
        stop: OwnedFd,
        prepare: fn(&Engine, &OwnedFd),
    ) -> io::Result<Handlers> {
        let stop = Arc::new(stop);
        let mut handlers = Handlers { threads: Vec::with_capacity(count), stop };
        for _ in 0..count {
            let (engine, stop) = (engine.clone(), handlers.stop.clone());
            let started = spawn_worker("zpool-region", move || run(&engine, &stop, prepare));
            match started {
                Ok(thread) => handlers.threads.push(thread),
                Err(error) => {
                    handlers.stop();
                    return Err(error);
                }
            }
        }
        Ok(handlers)
    }

    /// Ends the threads and waits for them. Accesses in flight wait until handlers are started
    /// again.
    pub(crate) fn stop(&mut self) {
        // An eventfd takes 2^64 - 2 such writes. If the program has closed it, the threads cannot
        // be stopped, and waiting for them would never end.
        if rustix::io::write(&*self.stop, &1_u64.to_ne_bytes()).is_err() {
            std::process::abort();
        }
        for thread in self.threads.drain(..) {
            // A handler does not unwind: see `run`.
            let _ = thread.join();
        }
    }
}

/// Serves faults until `stop` is readable.
///
/// A handler that ended early would leave every accessor waiting for ever. So a panic, which could
/// only be a bug of this crate (the store contains those of plug-ins), ends the process.
fn run(engine: &Engine, stop: &OwnedFd, prepare: fn(&Engine, &OwnedFd)) {
    let serve = || {
        prepare(engine, stop);
        serve_until(engine, stop);
    };
    if catch_unwind(AssertUnwindSafe(serve)).is_err() {
        std::process::abort();
    }
}

fn serve_until(engine: &Engine, stop: &OwnedFd) {
    loop {
        let mut ready =
            [PollFd::new(&engine.uffd, PollFlags::IN), PollFd::new(stop, PollFlags::IN)];
        if poll(&mut ready, None).is_err() {
            // Interrupted: signals are blocked here, but a debugger may stop us.
            continue;
        }
        if !ready[1].revents().is_empty() {
            return;
        }
        let mut served = 0;
        let read = engine.uffd.read_events(|event| {
            serve_event(engine, event);
            served += 1;
        });
        if read.is_err() {
            std::process::abort();
        }
        // Reclaim after the threads were woken: they do not wait for it.
        (0..served).for_each(|_| engine.balance());
    }
}

fn serve_event(engine: &Engine, event: FaultEvent) {
    engine.note_fault();
    // The staging area is registered as well, but nothing accesses a missing page of it.
    let Some(unit) = engine.unit_at(event.address) else { return };
    match engine.serve(unit, event.write) {
        // The page was filled before this event was read, so its thread may still wait.
        Served::Present => engine.wake(unit),
        // The mark may have been set, or the unit closed, after the thread began to wait.
        Served::Poisoned | Served::Closed => engine.wake(unit),
        // Filling wakes, and an owner was asked to.
        Served::Filled | Served::InTransit => {}
    }
}
