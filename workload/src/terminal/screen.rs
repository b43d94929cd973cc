//! The mode of a terminal: changed, drawn on, and put back.

use std::io::{self, Write};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

use crate::undo::Undo;

/// The alternate screen, without a cursor.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
/// The cursor, and the screen as it was.
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

/// A terminal, and the settings that it had.
#[derive(Debug)]
pub(super) struct ScreenMode {
    /// The settings of the standard input, if keys are read from it.
    keys: Option<Termios>,
    entered: bool,
    /// Set when the process continues after a stop.
    redraw: bool,
}

impl ScreenMode {
    /// Remembers the settings, and changes nothing.
    pub(super) fn prepare(has_keys: bool) -> io::Result<ScreenMode> {
        let keys = has_keys.then(|| tcgetattr(io::stdin())).transpose()?;
        Ok(ScreenMode { keys, entered: false, redraw: false })
    }

    pub(super) fn enter(&mut self) -> io::Result<()> {
        // First, because `undo` has to put back a part of it as well.
        self.entered = true;
        if let Some(before) = &self.keys {
            let mut single_keys = before.clone();
            single_keys.local_modes -= LocalModes::ICANON | LocalModes::ECHO;
            tcsetattr(io::stdin(), OptionalActions::Now, &single_keys)?;
        }
        write(ENTER)
    }

    /// Draws `frame` over the last one.
    pub(super) fn draw(&mut self, frame: &str) -> io::Result<()> {
        let (rows, columns) = match tcgetwinsize(io::stdout()) {
            Ok(size) if size.ws_row > 0 && size.ws_col > 0 => (size.ws_row, size.ws_col),
            _ => (24, 80),
        };
        write(&drawing(frame, rows.into(), columns.into()))
    }

    /// Returns whether a stop has erased the screen, and clears that flag.
    pub(super) fn must_redraw(&mut self) -> bool {
        std::mem::take(&mut self.redraw)
    }
}

/// Nothing can be done about errors here: the terminal may be closed.
impl Undo for ScreenMode {
    fn undo(&mut self) {
        if !std::mem::take(&mut self.entered) {
            return;
        }
        let _ = write(LEAVE);
        if let Some(before) = &self.keys {
            let _ = tcsetattr(io::stdin(), OptionalActions::Now, before);
        }
    }

    fn pause(&mut self) {
        self.undo();
    }

    fn redo(&mut self) {
        let _ = self.enter();
        self.redraw = true;
    }
}

/// Returns what draws `frame` at the top left, cut to the size of the screen.
fn drawing(frame: &str, rows: usize, columns: usize) -> String {
    let mut drawing = "\x1b[H".to_owned();
    for (row, line) in frame.lines().take(rows).enumerate() {
        // No line feed after the last row, which would scroll.
        drawing.push_str(if row == 0 { "" } else { "\r\n" });
        drawing.extend(line.chars().take(columns));
        drawing.push_str("\x1b[K");
    }
    drawing.push_str("\x1b[J");
    drawing
}

fn write(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame is cut to the screen, and what an earlier one left is erased.
    #[test]
    fn drawing_is_cut_to_the_screen() {
        let drawn = drawing("one\ntwo µs\nthree\n", 2, 5);
        assert_eq!(drawn, "\x1b[Hone\x1b[K\r\ntwo µ\x1b[K\x1b[J");
        assert_eq!(drawing("", 24, 80), "\x1b[H\x1b[J");
    }
}
