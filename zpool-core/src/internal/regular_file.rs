//! Opens the files that a spec names, such as dictionaries and models.

use std::fs::{self, File, Metadata};
use std::io;
use std::path::Path;

/// Opens a regular file for reading, and refuses all others.
///
/// A compressor is opened while other switches wait, so this does not wait without bound. Other
/// files wait for a writer (a named pipe), never end (a device), or cannot be read (a directory, a
/// socket).
///
/// # Errors
///
/// Those of the system, and [`io::ErrorKind::InvalidInput`] if the file is not regular.
pub fn open_regular(path: &Path) -> io::Result<File> {
    // Checked before opening, which has side effects on some devices, and again after, because the
    // path may lead to another file by then.
    check_regular(&fs::metadata(path)?)?;
    let file = open_without_waiting(path)?;
    check_regular(&file.metadata()?)?;
    Ok(file)
}

fn check_regular(file: &Metadata) -> io::Result<()> {
    if file.is_file() {
        return Ok(());
    }
    let what = if file.is_dir() { "a directory" } else { "a pipe, device or socket" };
    let message = format!("it is {what}; it must be a regular file");
    Err(io::Error::new(io::ErrorKind::InvalidInput, message))
}

fn open_without_waiting(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.read(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        // Without this flag, opening a named pipe waits for a writer, and opening some devices for
        // their other side. It does not affect reading a regular file. NOCTTY keeps a terminal from
        // becoming ours.
        let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
        options.custom_flags(flags.bits().cast_signed());
    }
    options.open(path)
}

#[cfg(all(test, unix, not(zpool_loom)))]
mod tests {
    use std::process::Command;
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    /// A file that became a pipe after the first check is opened without waiting for its writer,
    /// and refused by the second check.
    #[test]
    fn open_pipe_without_writer_does_not_wait() {
        let pipe = std::env::temp_dir().join(format!("zpool-core-pipe-{}", std::process::id()));
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let (done, opened) = mpsc::channel();
        let path = pipe.clone();
        std::thread::spawn(move || done.send(open_without_waiting(&path)));
        // Only a watchdog, because the fault would be a wait without end.
        let opened = opened.recv_timeout(Duration::from_secs(60));
        fs::remove_file(&pipe).unwrap();
        let file = opened.expect("opening does not wait").unwrap();
        let error = check_regular(&file.metadata().unwrap()).unwrap_err();
        assert!(error.to_string().contains("a pipe"), "{error}");
    }

    /// A directory and a path without a file are errors.
    #[test]
    fn open_regular_refuses_directory() {
        let folder = std::env::temp_dir();
        let error = open_regular(&folder).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        let error = open_regular(&folder.join("zpool-core-no-such-file")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
