//! A file that a program writes at its end. The path is checked at the beginning, and the file
//! appears as a whole or not at all.
//!
//! ```text
//!   claim ──► is it an input, does it exist, can its folder be written ──► measure ──► print
//!   write ──► temporary file ──► fsync ──► rename ──► fsync of the folder
//! ```

use std::fmt;
use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{CWD, OFlags, RenameFlags, fcntl_getfl, fcntl_setfl, renameat_with};

use super::input::input_path;

const STREAMS: [&str; 2] = ["/dev/stdout", "/dev/stderr"];

/// The place for the result of a measurement.
#[derive(Debug)]
pub struct OutputFile {
    /// The path, as the user named it.
    path: PathBuf,
    to: OutputKind,
}

#[derive(Debug)]
enum OutputKind {
    /// A file. The temporary file is written into `folder`. If there is a file to replace, `over`
    /// has its permissions.
    File { target: PathBuf, folder: PathBuf, over: Option<Permissions> },
    /// An open device or pipe.
    Stream(File),
    /// The standard output.
    Stdout,
}

/// The reason why an output cannot be written. Each message is one line.
#[derive(Debug)]
#[non_exhaustive]
pub enum OutputError {
    /// It is one of the inputs, under this or another name.
    IsInput {
        /// The output.
        path: PathBuf,
        /// The input.
        input: PathBuf,
    },
    /// A file exists, and the user did not allow replacing it.
    Exists {
        /// The output.
        path: PathBuf,
    },
    /// It cannot be written.
    NotAFile {
        /// The output.
        path: PathBuf,
        /// The kind of thing that it is.
        what: &'static str,
    },
    /// The OS refuses.
    Io {
        /// The output.
        path: PathBuf,
        /// The error of the OS.
        error: io::Error,
    },
}

impl OutputFile {
    /// Checks that `path` can be written, without changing what is there.
    ///
    /// An input is never overwritten, even if `path` is a link of any kind to it. Other existing
    /// files are refused without `force`. The target of a symbolic link is replaced, not the link.
    /// Devices and pipes are written as they are. `-` is the standard output.
    ///
    /// # Errors
    ///
    /// See [`OutputError`].
    pub fn claim(
        path: &Path,
        inputs: &[impl AsRef<Path>],
        force: bool,
    ) -> Result<Self, OutputError> {
        let no_file = |what| OutputError::NotAFile { path: path.into(), what };
        let io = |error| OutputError::Io { path: path.into(), error };
        if path.as_os_str() == "-" {
            return Ok(Self { path: path.into(), to: OutputKind::Stdout });
        }
        let is_link = fs::symlink_metadata(path).is_ok_and(|there| there.is_symlink());
        let there = match fs::metadata(path) {
            Ok(there) => there,
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io(error)),
            Err(_) if is_link => return Err(no_file("a link to nothing")),
            Err(_) => return Self::new_file(path),
        };
        if let Some(input) = same_as(&there, inputs) {
            return Err(OutputError::IsInput { path: path.into(), input });
        }
        if there.is_file() && same_as(&there, &STREAMS).is_some() {
            return Err(no_file("where stdout or stderr goes"));
        }
        let to = match there.file_type() {
            kind if kind.is_dir() => return Err(no_file("a folder")),
            kind if kind.is_socket() => return Err(no_file("a socket")),
            kind if kind.is_block_device() => return Err(no_file("a block device")),
            kind if kind.is_file() && !force => {
                return Err(OutputError::Exists { path: path.into() });
            }
            kind if kind.is_file() => {
                place(fs::canonicalize(path).map_err(io)?, Some(there.permissions()))
            }
            _ => OutputKind::Stream(open_stream(path).map_err(io)?),
        };
        Self { path: path.into(), to }.checked()
    }

    fn new_file(path: &Path) -> Result<Self, OutputError> {
        let what = "the name of a folder";
        if path.file_name().is_none() || path.as_os_str().as_bytes().ends_with(b"/") {
            return Err(OutputError::NotAFile { path: path.into(), what });
        }
        Self { path: path.into(), to: place(path.into(), None) }.checked()
    }

    /// Creates a file in the output's folder and removes it, so that a failure is known before
    /// anything is measured.
    fn checked(self) -> Result<Self, OutputError> {
        if let OutputKind::File { folder, .. } = &self.to {
            let io = |error| OutputError::Io { path: self.path.clone(), error };
            let (temporary, file) = create_beside(folder).map_err(io)?;
            drop(file);
            fs::remove_file(temporary).map_err(io)?;
        }
        Ok(self)
    }

    /// Returns whether the standard output is written, so that nothing else may go there.
    pub fn is_stdout(&self) -> bool {
        matches!(self.to, OutputKind::Stdout)
    }

    /// Writes all of `bytes` or nothing. A reader sees the old file or the whole new one.
    ///
    /// # Errors
    ///
    /// [`OutputError::Io`], or [`OutputError::Exists`] if a file has appeared since the output was
    /// claimed.
    pub fn write(self, bytes: &[u8]) -> Result<(), OutputError> {
        let io = |error| OutputError::Io { path: self.path.clone(), error };
        match self.to {
            OutputKind::Stream(mut file) => file.write_all(bytes).map_err(io),
            OutputKind::Stdout => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(io)
            }
            OutputKind::File { target, folder, over } => {
                let (temporary, file) = create_beside(&folder).map_err(io)?;
                let written = fill(file, bytes, over.as_ref())
                    .and_then(|()| settle(&temporary, &target, over.is_some()))
                    .and_then(|()| File::open(&folder)?.sync_all());
                written.map_err(|error| {
                    // If the file was renamed, there is nothing to remove.
                    let _ = fs::remove_file(&temporary);
                    match error.kind() {
                        io::ErrorKind::AlreadyExists => {
                            OutputError::Exists { path: self.path.clone() }
                        }
                        _ => io(error),
                    }
                })
            }
        }
    }
}

/// Checks that stdout and stderr are not redirected into one of `inputs`.
///
/// # Errors
///
/// [`OutputError::IsInput`].
pub fn check_standard_streams(inputs: &[impl AsRef<Path>]) -> Result<(), OutputError> {
    for stream in STREAMS {
        let Some(there) = fs::metadata(stream).ok().filter(Metadata::is_file) else { continue };
        if let Some(input) = same_as(&there, inputs) {
            return Err(OutputError::IsInput { path: stream.into(), input });
        }
    }
    Ok(())
}

fn place(target: PathBuf, over: Option<Permissions>) -> OutputKind {
    let parent = target.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = parent.unwrap_or(Path::new(".")).to_owned();
    OutputKind::File { target, folder, over }
}

/// Finds an input that is the same file under any name.
fn same_as(there: &Metadata, inputs: &[impl AsRef<Path>]) -> Option<PathBuf> {
    let same = |input: &&Path| {
        let input = fs::metadata(input_path(input));
        input.is_ok_and(|input| (input.dev(), input.ino()) == (there.dev(), there.ino()))
    };
    inputs.iter().map(AsRef::as_ref).find(same).map(Path::to_owned)
}

/// Opens a device or a pipe. A pipe that no program reads is an error, and we do not wait for one.
fn open_stream(path: &Path) -> io::Result<File> {
    let file =
        OpenOptions::new().write(true).custom_flags(OFlags::NONBLOCK.bits() as i32).open(path)?;
    let flags = fcntl_getfl(&file)?;
    fcntl_setfl(&file, flags.difference(OFlags::NONBLOCK))?;
    Ok(file)
}

/// Creates a file with a short name that is not taken.
fn create_beside(folder: &Path) -> io::Result<(PathBuf, File)> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    loop {
        // Relaxed: the numbers only have to differ.
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = folder.join(format!(".output-{}-{number}.tmp", std::process::id()));
        match OpenOptions::new().write(true).create_new(true).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            opened => return opened.map(|file| (path, file)),
        }
    }
}

fn fill(mut file: File, bytes: &[u8], permissions: Option<&Permissions>) -> io::Result<()> {
    if let Some(permissions) = permissions {
        file.set_permissions(permissions.clone())?;
    }
    file.write_all(bytes)?;
    file.sync_all()
}

/// Renames the temporary file. An existing file is replaced only if `replace` allows it.
fn settle(temporary: &Path, target: &Path, replace: bool) -> io::Result<()> {
    if replace {
        return fs::rename(temporary, target);
    }
    match renameat_with(CWD, temporary, CWD, target, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::EXIST) => Err(io::ErrorKind::AlreadyExists.into()),
        // The file system lacks that call. If it has hard links, adding a second name fails in the
        // same way.
        Err(_) => fs::hard_link(temporary, target).and_then(|()| fs::remove_file(temporary)),
    }
}

impl fmt::Display for OutputError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::IsInput { path, input } if path == input => {
                write!(f, "cannot write {path:?}: it is an input; name another file")
            }
            Self::IsInput { path, input } => {
                write!(f, "cannot write {path:?}: it is the input {input:?}; name another file")
            }
            Self::Exists { path } => {
                write!(f, "cannot write {path:?}: it exists; give --force to replace it")
            }
            Self::NotAFile { path, what } => write!(f, "cannot write {path:?}: it is {what}"),
            Self::Io { path, error } => write!(f, "cannot write {path:?}: {error}"),
        }
    }
}

/// The message already contains the cause, so there is no `source` (`docs/decisions/0039`).
impl std::error::Error for OutputError {}
