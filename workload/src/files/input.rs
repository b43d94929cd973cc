//! Files and pipes that the user names, opened without an endless wait.

use std::fmt;
use std::fs::{File, FileType, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use crate::report::format_bytes;

/// Wait this long for a pipe's writer, because the shell may start the reader first.
const MAX_WAIT_FOR_WRITER: Duration = Duration::from_secs(2);

/// The reason why files gave no blocks. Each message is one line.
#[derive(Debug)]
#[non_exhaustive]
pub enum FilesError {
    /// No file was named.
    NoFile,
    /// The file cannot be opened or read.
    Io {
        /// The file.
        path: PathBuf,
        /// The error of the OS.
        error: io::Error,
    },
    /// The path names a folder, a device or a socket.
    NotAFile {
        /// The path.
        path: PathBuf,
        /// The kind of thing that it names.
        what: &'static str,
    },
    /// The path names a pipe that no program has open for writing.
    NoWriter {
        /// The pipe.
        path: PathBuf,
    },
    /// The file has no bytes.
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// The file holds less than one block.
    TooShort {
        /// The file.
        path: PathBuf,
        /// Its length.
        bytes: u64,
        /// The length of a block.
        block_size: usize,
    },
    /// The limit leaves room for no block.
    LimitTooSmall {
        /// The limit.
        max_bytes: u64,
        /// The length of a block.
        block_size: usize,
    },
}

/// A file or pipe, opened to be read.
#[derive(Debug)]
pub struct Input {
    /// The open file. The first byte of a pipe may have been read already: see `first`.
    pub(crate) file: File,
    /// The length in bytes of a file; `None` for a pipe.
    pub len: Option<u64>,
    /// The first byte of a pipe, which we read to find out whether a program writes to it.
    first: Option<u8>,
}

/// Returns the file that `path` names. `-` is the standard input.
pub fn input_path(path: &Path) -> &Path {
    if path.as_os_str() == "-" { Path::new("/dev/stdin") } else { path }
}

impl Input {
    /// Opens a file or a pipe. `-` is the standard input.
    ///
    /// If no program has a pipe open for writing, waits 2 seconds for one. A pipe with a writer is
    /// read as it is written.
    ///
    /// # Errors
    ///
    /// [`FilesError::Io`], [`FilesError::NotAFile`], [`FilesError::NoWriter`].
    pub fn open(path: &Path) -> Result<Self, FilesError> {
        let io = |error| FilesError::Io { path: path.into(), error };
        // Check before opening, because opening a device can have an effect.
        let metadata = check_input(path)?;
        if !metadata.file_type().is_fifo() {
            let file = File::open(input_path(path)).map_err(io)?;
            let len = file.metadata().map_err(io)?.len();
            return Ok(Input { file, len: Some(len), first: None });
        }
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(OFlags::NONBLOCK.bits() as i32);
        let mut file = options.open(input_path(path)).map_err(io)?;
        let first = first_byte(&mut file).map_err(io)?;
        if first == FirstByte::NoWriter {
            return Err(FilesError::NoWriter { path: path.into() });
        }
        let flags = fcntl_getfl(&file).map_err(|error| io(error.into()))?;
        fcntl_setfl(&file, flags.difference(OFlags::NONBLOCK)).map_err(|error| io(error.into()))?;
        let first = if let FirstByte::Byte(byte) = first { Some(byte) } else { None };
        Ok(Input { file, len: None, first })
    }
}

impl Read for Input {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match (self.first, buf.first_mut()) {
            (Some(byte), Some(place)) => {
                *place = byte;
                self.first = None;
                Ok(1)
            }
            _ => self.file.read(buf),
        }
    }
}

/// Checks that `path` names a file or a pipe, without opening it. `-` is the standard input.
///
/// # Errors
///
/// [`FilesError::Io`] or [`FilesError::NotAFile`].
pub fn check_input(path: &Path) -> Result<Metadata, FilesError> {
    let io = |error| FilesError::Io { path: path.into(), error };
    let metadata = std::fs::metadata(input_path(path)).map_err(io)?;
    match no_input(metadata.file_type()) {
        None => Ok(metadata),
        Some(what) => Err(FilesError::NotAFile { path: path.into(), what }),
    }
}

fn no_input(kind: FileType) -> Option<&'static str> {
    match kind {
        kind if kind.is_file() || kind.is_fifo() => None,
        kind if kind.is_dir() => Some("a folder"),
        kind if kind.is_socket() => Some("a socket"),
        _ => Some("a device"),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum FirstByte {
    Byte(u8),
    /// A writer is there and has written nothing yet, or it has left without writing.
    NotYet,
    NoWriter,
}

/// Reads the first byte of a pipe that was opened without blocking.
fn first_byte(file: &mut File) -> io::Result<FirstByte> {
    let mut byte = [0];
    for max_wait in [MAX_WAIT_FOR_WRITER, Duration::ZERO] {
        match file.read(&mut byte) {
            Ok(0) => {}
            Ok(_) => return Ok(FirstByte::Byte(byte[0])),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Ok(FirstByte::NotYet);
            }
            Err(error) => return Err(error),
        }
        // Linux reports a hang-up only if the pipe had a writer since we opened it.
        let mut ready = [PollFd::new(file, PollFlags::IN)];
        let timeout = Timespec { tv_sec: max_wait.as_secs() as i64, tv_nsec: 0 };
        poll(&mut ready, Some(&timeout))?;
        if ready[0].revents().contains(PollFlags::HUP)
            && !ready[0].revents().contains(PollFlags::IN)
        {
            return Ok(FirstByte::NotYet);
        }
    }
    Ok(FirstByte::NoWriter)
}

impl fmt::Display for FilesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The Debug form of a path keeps a line feed in a file name from breaking the line.
        match self {
            Self::NoFile => write!(f, "no file was named"),
            Self::Io { path, error } => write!(f, "cannot read {path:?}: {error}"),
            Self::NotAFile { path, what } => {
                write!(f, "{path:?} ({what}) is neither a file nor a pipe")
            }
            Self::NoWriter { path } => {
                write!(f, "{path:?} is a pipe that no program has open to write to it")
            }
            Self::Empty { path } => write!(f, "{path:?} is empty"),
            Self::TooShort { path, bytes, block_size } => {
                write!(f, "{path:?} holds {bytes} bytes, less than one block of {block_size}")
            }
            Self::LimitTooSmall { max_bytes, block_size } => {
                write!(
                    f,
                    "a limit of {} is less than one block of {block_size} bytes",
                    format_bytes(*max_bytes)
                )
            }
        }
    }
}

/// The message already contains the cause, so there is no `source` (`docs/decisions/0039`).
impl std::error::Error for FilesError {}
