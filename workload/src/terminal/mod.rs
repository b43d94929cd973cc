//! A view that is redrawn in place until a key ends it. Without a terminal, it is a list of frames.
//!
//! ```text
//!   open ──► alternate screen, single keys, no cursor
//!   show ──► one frame, in place of the last one, cut to the size of the screen
//!   wait ──► q: quit │ time is over: the next frame │ Ctrl-Z, fg: the next frame at once
//!   drop, panic, a signal that ends or stops the process ──► the terminal is as before
//! ```
//!
//! Ctrl-C stays a signal, so that it also ends a program that hangs.

mod screen;

use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::undo::Undoable;
use screen::ScreenMode;

/// Look at least this often whether the process was stopped and continued.
const LONGEST_WAIT: Duration = Duration::from_millis(200);

/// The reason why a wait is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LiveEvent {
    /// The next frame is due.
    Refresh,
    /// The reader pressed q, or closed the terminal.
    Quit,
}

/// A view on the standard output that changes in place.
#[derive(Debug)]
pub struct LiveScreen {
    /// `None` if the standard output is not a terminal.
    screen: Option<Undoable<ScreenMode>>,
    /// Whether keys can be read.
    has_keys: bool,
    /// Printed between two frames if there is no terminal.
    gap: &'static str,
    frames: u64,
}

impl LiveScreen {
    /// Takes the terminal of the standard output, if it is one that can be redrawn.
    ///
    /// # Errors
    ///
    /// If the terminal cannot be set, or if signals cannot be watched. Then the terminal is
    /// unchanged.
    pub fn open() -> io::Result<LiveScreen> {
        let redraws =
            std::env::var_os("TERM").is_some_and(|term| term != "dumb" && !term.is_empty());
        let takes = redraws && io::stdout().is_terminal();
        let has_keys = takes && io::stdin().is_terminal();
        let screen = takes.then(|| ScreenMode::prepare(has_keys)).transpose()?;
        let screen = screen.map(Undoable::new).transpose()?;
        if let Some(screen) = &screen {
            screen.lock().enter()?;
        }
        Ok(LiveScreen { screen, has_keys, gap: "\n", frames: 0 })
    }

    /// Prints frames one after another, without a gap and also on a terminal, for programs.
    pub fn plain() -> LiveScreen {
        LiveScreen { screen: None, has_keys: false, gap: "", frames: 0 }
    }

    /// Returns whether frames replace each other.
    pub fn is_terminal(&self) -> bool {
        self.screen.is_some()
    }

    /// Shows `frame`, whose lines end in line feeds. Without a terminal, an empty line comes
    /// between two frames.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn show(&mut self, frame: &str) -> io::Result<()> {
        self.frames += 1;
        match &self.screen {
            // Under the lock, so that a signal restores the terminal after a whole frame.
            Some(screen) => screen.lock().draw(frame),
            None => {
                let gap = if self.frames > 1 { self.gap } else { "" };
                let mut stdout = io::stdout().lock();
                stdout.write_all(format!("{gap}{frame}").as_bytes())?;
                stdout.flush()
            }
        }
    }

    /// Waits until `time` is over, a key ends the view, or the process was continued after a stop.
    ///
    /// # Errors
    ///
    /// If the keys cannot be read.
    pub fn wait(&mut self, time: Duration) -> io::Result<LiveEvent> {
        let until = Instant::now() + time;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || self.must_redraw() {
                return Ok(LiveEvent::Refresh);
            }
            if !self.has_keys {
                std::thread::sleep(left.min(LONGEST_WAIT));
            } else if quits(left.min(LONGEST_WAIT))? {
                return Ok(LiveEvent::Quit);
            }
        }
    }

    fn must_redraw(&self) -> bool {
        self.screen.as_ref().is_some_and(|screen| screen.lock().must_redraw())
    }
}

/// Waits for a key for at most `time`. Returns whether it ends the view.
fn quits(time: Duration) -> io::Result<bool> {
    let stdin = io::stdin();
    let timeout =
        Timespec { tv_sec: time.as_secs() as i64, tv_nsec: i64::from(time.subsec_nanos()) };
    let mut ready = [PollFd::new(&stdin, PollFlags::IN)];
    match poll(&mut ready, Some(&timeout)) {
        Ok(0) | Err(rustix::io::Errno::INTR) => return Ok(false),
        Ok(_) => {}
        Err(error) => return Err(error.into()),
    }
    // Not through `Stdin`, whose buffer would hide keys from the next poll.
    let mut keys = [0; 64];
    match rustix::io::read(stdin.as_fd(), &mut keys) {
        // The terminal is closed.
        Ok(0) => Ok(true),
        Ok(read) => Ok(keys[..read].iter().any(|key| matches!(key, b'q' | b'Q'))),
        Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
