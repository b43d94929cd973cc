//! Runs each measurement in a process of its own. The running program is started again, fed through
//! a pipe, and answers in JSON.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::pages::Pages;

/// Runs the current program again as a child, for one measurement.
///
/// ```text
///     this process                       child: the same program, other arguments
///     Pages ──► write_to ──── stdin ────► Pages::read_from, measure
///     R     ◄── last line ─── stdout ◄─── print_result(&result)
///                             stderr ───► this process' own
/// ```
///
/// The allocators of one process share its heap. The next measurement would reuse what an earlier
/// one left free there, so that its resident bytes come out too low. Caches, tables and the
/// contexts of a codec would be warm for it. Pages go through the pipe and touch no disk.
#[derive(Clone, Debug, Default)]
pub struct Isolated {
    args: Vec<OsString>,
    envs: Vec<(OsString, OsString)>,
}

/// The reason why a child gave no result. Each message is one line.
#[derive(Debug)]
#[non_exhaustive]
pub enum IsolatedError {
    /// It could not be started.
    Start(io::Error),
    /// A pipe to or from it broke, although it ended well.
    Pipe(io::Error),
    /// It did not end with success. What it wrote to the standard error says why.
    Failed(ExitStatus),
    /// The last line of its stdout is not the result that was expected.
    Answer(serde_json::Error),
}

impl Isolated {
    /// Creates a child without arguments.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().into());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().into()));
        self
    }

    /// Sets a variable of the child's environment. The child inherits all others.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.envs.push((name.as_ref().into(), value.as_ref().into()));
        self
    }

    /// Runs the child with `pages` on its standard input and returns what it passed to
    /// [`print_result`].
    ///
    /// The child may end without reading all of its input. We wait for it in every case.
    ///
    /// # Errors
    ///
    /// See [`IsolatedError`].
    pub fn run<R: DeserializeOwned>(&self, pages: &Pages) -> Result<R, IsolatedError> {
        let mut child = self.spawn(Stdio::piped())?;
        let stdin = child.stdin.take();
        // A thread writes the input, because a child may answer before it has read all of it. If we
        // wrote here, the child could wait for us to read its output while we wait for it to read
        // its input.
        thread::scope(|scope| {
            // The pipe closes when the writer ends, which is the end of the child's input.
            let writer = scope.spawn(move || stdin.map_or(Ok(()), |pipe| pages.write_to(pipe)));
            let answer = finish(child);
            let written = writer.join().unwrap_or_else(|panic| resume_unwind(panic));
            let answer = answer?;
            match written {
                Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                    Err(IsolatedError::Pipe(error))
                }
                _ => parse(&answer),
            }
        })
    }

    /// Runs the child without input and returns the pages that it writes to its stdout with
    /// [`Pages::write_to`].
    ///
    /// # Errors
    ///
    /// See [`IsolatedError`]. [`IsolatedError::Pipe`] if the child ended well but wrote no pages.
    pub fn run_for_pages(&self) -> Result<Pages, IsolatedError> {
        let mut child = self.spawn(Stdio::null())?;
        // Close the pipe before waiting, as in `finish`.
        let read =
            child.stdout.take().map_or(Err(io::ErrorKind::UnexpectedEof.into()), Pages::read_from);
        let status = child.wait().map_err(IsolatedError::Pipe)?;
        if status.success() {
            read.map_err(IsolatedError::Pipe)
        } else {
            Err(IsolatedError::Failed(status))
        }
    }

    /// Runs the child with an empty standard input. It finds its input by its arguments.
    ///
    /// # Errors
    ///
    /// See [`IsolatedError`].
    pub fn run_without_input<R: DeserializeOwned>(&self) -> Result<R, IsolatedError> {
        parse(&finish(self.spawn(Stdio::null())?)?)
    }

    fn spawn(&self, stdin: Stdio) -> Result<Child, IsolatedError> {
        let mut command = Command::new(own_program().map_err(IsolatedError::Start)?);
        if let Some(name) = std::env::args_os().next() {
            command.arg0(name);
        }
        command
            .args(&self.args)
            .envs(self.envs.iter().map(|(name, value)| (name, value)))
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .map_err(IsolatedError::Start)
    }
}

/// Prints `result` as one line of JSON, the last of the standard output. A child calls this; the
/// parent ignores the lines before it.
///
/// # Errors
///
/// If the standard output is closed, or if `result` has no JSON form, such as a map whose keys are
/// not strings.
pub fn print_result(result: &impl Serialize) -> io::Result<()> {
    // Start a new line, because the last one may be unfinished. JSON escapes line feeds, so the
    // result is one line.
    let line = format!("\n{}\n", serde_json::to_string(result)?);
    let mut stdout = io::stdout().lock();
    stdout.write_all(line.as_bytes())?;
    stdout.flush()
}

/// Returns the running program. Linux keeps it reachable under this name even if a newer build has
/// replaced the file.
fn own_program() -> io::Result<PathBuf> {
    let link = Path::new("/proc/self/exe");
    if link.exists() { Ok(link.into()) } else { std::env::current_exe() }
}

/// Reads all of the standard output and waits for the child.
fn finish(mut child: Child) -> Result<Vec<u8>, IsolatedError> {
    let mut answer = Vec::new();
    // Close the pipe before waiting, so that a child that still writes gets an error and does not
    // wait for ever.
    let read = child.stdout.take().map_or(Ok(0), |mut pipe| pipe.read_to_end(&mut answer));
    let status = child.wait().map_err(IsolatedError::Pipe)?;
    if !status.success() {
        return Err(IsolatedError::Failed(status));
    }
    read.map_err(IsolatedError::Pipe)?;
    Ok(answer)
}

fn parse<R: DeserializeOwned>(stdout: &[u8]) -> Result<R, IsolatedError> {
    let last = stdout.trim_ascii_end().rsplit(|&byte| byte == b'\n').next().unwrap_or_default();
    serde_json::from_slice(last).map_err(IsolatedError::Answer)
}

impl fmt::Display for IsolatedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start(error) => write!(f, "cannot start a process to measure in: {error}"),
            Self::Pipe(error) => write!(f, "the pipe to a measuring process broke: {error}"),
            Self::Failed(status) => write!(f, "a measuring process failed ({status})"),
            Self::Answer(error) => write!(f, "a measuring process gave no result: {error}"),
        }
    }
}

/// The message already contains the cause, so there is no `source` (`docs/decisions/0039`).
impl std::error::Error for IsolatedError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_is_the_result() {
        assert_eq!(parse::<u32>(b"running 1 test\nnoise\n7\n\n").unwrap(), 7);
        assert_eq!(parse::<u32>(b"7").unwrap(), 7);
        let none = parse::<u32>(b"").unwrap_err();
        assert!(none.to_string().starts_with("a measuring process gave no result"));
        assert!(parse::<u32>(b"7\nnoise\n").is_err());
    }
}
