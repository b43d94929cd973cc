//! Files that a name in a spec must not lead to.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;
use std::{env, fs, process, thread};

/// A folder in the one for temporary files, which is removed with its contents when dropped.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Checks that a named pipe that nothing writes to, and a directory, are refused at once. `open`
/// opens the file of a name, and returns the text of the error.
///
/// # Panics
///
/// If `open` waits, or its text does not say what the file is.
pub fn check_special_files_are_refused(open: impl Fn(&str) -> String + Clone + Send + 'static) {
    let folder = Folder(env::temp_dir().join(format!("zpool-testing-files-{}", process::id())));
    fs::create_dir_all(&folder.0).expect("a folder for temporary files");
    let pipe = folder.0.join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo").success());
    let (done, wait) = mpsc::channel();
    for (path, what) in [(pipe.as_path(), "a pipe"), (Path::new(&folder.0), "a directory")] {
        let (done, open, name) = (done.clone(), open.clone(), path.display().to_string());
        thread::spawn(move || done.send(open(&name)));
        // Only a watchdog, because the fault would be a wait without end.
        let error = wait.recv_timeout(Duration::from_secs(60)).expect("opening does not wait");
        assert!(error.contains(what), "{error}");
    }
}
