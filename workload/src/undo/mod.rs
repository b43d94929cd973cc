//! Changes to the system that are undone when their owner is dropped, and when a signal ends the
//! process.
//!
//! ```text
//!   signal ──► handler, which writes a byte into a pipe ──► thread "undo"
//!          ──► undo all changes, newest first ──► the signal's default action
//!   drop, also while unwinding ──► undo this change
//! ```
//!
//! Lock order: the list of changes, then a change. The thread keeps every lock until the process
//! has ended, so that no other thread changes the system again meanwhile. A signal that was ignored
//! when the process began, as `nohup` does, stays ignored. A process cannot undo anything after
//! SIGKILL or an abort.

use std::fs;
use std::io;
use std::sync::Arc;
use std::thread;

use signal_hook::consts::signal::{
    SIGALRM, SIGHUP, SIGINT, SIGPROF, SIGQUIT, SIGTERM, SIGTSTP, SIGUSR1, SIGUSR2, SIGVTALRM,
    SIGXCPU, SIGXFSZ,
};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;
use zpool_core::internal::sync::{Mutex, MutexGuard};

/// The usual signals that end a process by default, and SIGTSTP (Ctrl-Z).
const SIGNALS: [i32; 12] = [
    SIGALRM, SIGHUP, SIGINT, SIGPROF, SIGQUIT, SIGTERM, SIGTSTP, SIGUSR1, SIGUSR2, SIGVTALRM,
    SIGXCPU, SIGXFSZ,
];

/// A change of the system.
pub(crate) trait Undo: Send {
    /// Puts the system back. Called once, except that it is called again after each
    /// [`redo`](Self::redo).
    fn undo(&mut self);

    /// Puts the system back before the process is stopped (default: leaves it).
    fn pause(&mut self) {}

    /// Makes the change again once the process continues (default: nothing to do).
    fn redo(&mut self) {}
}

/// Owns a change, and undoes it once.
#[derive(Debug)]
pub(crate) struct Undoable<T: Undo + 'static> {
    change: Arc<Mutex<T>>,
    number: u64,
}

static CHANGES: Mutex<Changes> = Mutex::new(Changes { next: 0, watching: false, list: Vec::new() });

struct Changes {
    next: u64,
    watching: bool,
    list: Vec<(u64, Arc<Mutex<dyn Undo>>)>,
}

impl<T: Undo + 'static> Undoable<T> {
    /// Registers `change`, which may be made from now on, under its lock.
    ///
    /// # Errors
    ///
    /// If signals cannot be watched. Then the change must not be made.
    pub(crate) fn new(change: T) -> io::Result<Self> {
        let change = Arc::new(Mutex::new(change));
        let mut changes = CHANGES.lock();
        if !changes.watching {
            watch()?;
            changes.watching = true;
        }
        let number = changes.next;
        changes.next += 1;
        changes.list.push((number, change.clone()));
        Ok(Undoable { change, number })
    }

    /// Locks the change. A signal waits while it is locked.
    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.change.lock()
    }
}

impl<T: Undo + 'static> Drop for Undoable<T> {
    fn drop(&mut self) {
        // Under the lock of the list, so that a signal comes before all of this or after it.
        let mut changes = CHANGES.lock();
        self.change.lock().undo();
        changes.list.retain(|(number, _)| *number != self.number);
    }
}

/// Starts the thread that waits for signals, which never ends.
fn watch() -> io::Result<()> {
    let ignored = ignored_signals();
    let mut signals =
        Signals::new(SIGNALS.iter().filter(|&&signal| ignored >> (signal - 1) & 1 == 0))?;
    thread::Builder::new().name("undo".to_owned()).spawn(move || {
        for signal in signals.forever() {
            on_signal(signal);
        }
    })?;
    Ok(())
}

fn on_signal(signal: i32) {
    let changes = CHANGES.lock();
    let mut locked: Vec<_> = changes.list.iter().rev().map(|(_, change)| change.lock()).collect();
    let stops = signal == SIGTSTP;
    locked.iter_mut().for_each(|change| if stops { change.pause() } else { change.undo() });
    // Returns only if the signal stopped the process, and the process was continued.
    if emulate_default_handler(signal).is_err() {
        std::process::exit(128 + signal);
    }
    locked.iter_mut().for_each(|change| change.redo());
}

/// Returns a mask with bit `n - 1` for signal `n`, or 0 if the system does not report it.
fn ignored_signals() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    struct Count(Arc<AtomicUsize>);

    impl Undo for Count {
        fn undo(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A change is undone once when its owner is dropped, even while a panic unwinds. After that it
    /// is forgotten.
    #[test]
    fn dropped_change_is_undone_once() {
        let undone = Arc::new(AtomicUsize::new(0));
        drop(Undoable::new(Count(undone.clone())).unwrap());
        assert_eq!(undone.load(Ordering::Relaxed), 1);
        let change = Undoable::new(Count(undone.clone())).unwrap();
        let number = change.number;
        let panicked = thread::spawn(move || {
            let _change = change;
            panic!("on purpose");
        });
        assert!(panicked.join().is_err());
        assert_eq!(undone.load(Ordering::Relaxed), 2);
        assert!(CHANGES.lock().list.iter().all(|(other, _)| *other != number));
    }
}
