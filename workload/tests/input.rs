//! Inputs: whatever is not a file or a pipe is refused at once, and no more is read than is needed.

use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use workload::{FilesError, Pages, read_files, read_first_blocks};

const BLOCK: NonZeroUsize = NonZeroUsize::new(4096).unwrap();

fn pipe(folder: &Path) -> PathBuf {
    let path = folder.join("pipe");
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    path
}

/// Runs `work` on a thread, and fails if it hangs.
fn watched<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, wait) = mpsc::channel();
    thread::spawn(move || done.send(work()));
    wait.recv_timeout(Duration::from_secs(60)).expect("it ends")
}

type Reader = fn(&Path) -> Result<Pages, FilesError>;
const READERS: [Reader; 2] =
    [|path| read_files(&[path], BLOCK, None), |path| read_first_blocks(path, BLOCK, 3)];

/// A pipe that no program writes to is an error that says so; it does not wait for ever.
#[test]
fn pipe_without_writer_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = pipe(folder.path());
    // At the same time, because each waits for a while.
    let errors = READERS.map(|reader| {
        let path = path.clone();
        thread::spawn(move || watched(move || reader(&path)).unwrap_err())
    });
    for error in errors.map(|reader| reader.join().unwrap()) {
        assert!(matches!(error, FilesError::NoWriter { .. }), "{error}");
        assert!(
            error.to_string().ends_with("is a pipe that no program has open to write to it"),
            "{error}"
        );
    }
}

/// A pipe whose writer writes nothing is empty.
#[test]
fn closed_pipe_is_empty() {
    let folder = tempfile::tempdir().unwrap();
    let path = pipe(folder.path());
    for reader in READERS {
        let mut writer =
            Command::new("/bin/sh").args(["-c", ": > \"$0\""]).arg(&path).spawn().unwrap();
        let path = path.clone();
        let error = watched(move || reader(&path)).unwrap_err();
        assert!(matches!(error, FilesError::Empty { .. }), "{error}");
        writer.wait().unwrap();
    }
}

/// Only the first blocks of an endless pipe are read, as many as are wanted.
#[test]
fn endless_pipe_is_cut() {
    let folder = tempfile::tempdir().unwrap();
    let path = pipe(folder.path());
    let script = "while :; do seq 1 100000; done > \"$0\" 2>/dev/null";
    let mut writer = Command::new("/bin/sh").args(["-c", script]).arg(&path).spawn().unwrap();
    let pages = watched(move || read_first_blocks(&path, BLOCK, 3)).unwrap();
    let expected: String = (1..=100_000).map(|n| format!("{n}\n")).collect();
    assert_eq!(pages.bytes(), &expected.as_bytes()[..3 * 4096]);
    writer.kill().unwrap();
    writer.wait().unwrap();
}

/// A folder, a device and a socket are named as such.
#[test]
fn odd_inputs_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    for (path, what) in
        [(folder.path(), "a folder"), (Path::new("/dev/zero"), "a device"), (&socket, "a socket")]
    {
        for reader in READERS {
            let error = reader(path).unwrap_err().to_string();
            assert!(
                error.contains(what) && error.ends_with("neither a file nor a pipe"),
                "{error}"
            );
        }
    }
    let file = folder.path().join("file");
    fs::write(&file, "short").unwrap();
    for reader in READERS {
        assert!(reader(&file).unwrap_err().to_string().contains("less than one block"));
    }
}
