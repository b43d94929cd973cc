//! Outputs: inputs are never overwritten, and a file appears as a whole or not at all.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use workload::{OutputError, OutputFile};

fn file(folder: &Path, name: &str, contents: &str) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, contents).unwrap();
    path
}

fn no_inputs() -> [&'static Path; 0] {
    []
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// An input is refused as an output under every name it has, with `force` and without.
#[test]
fn output_naming_input_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let input = file(folder, "input", "precious");
    symlink("input", folder.join("soft")).unwrap();
    symlink("soft", folder.join("softer")).unwrap();
    fs::hard_link(&input, folder.join("hard")).unwrap();
    symlink(folder, folder.join("same")).unwrap();
    for name in ["input", "soft", "softer", "hard", "./input", "same/input", "same/same/soft"] {
        for force in [false, true] {
            let error = OutputFile::claim(&folder.join(name), &[&input], force).unwrap_err();
            assert!(matches!(error, OutputError::IsInput { .. }), "{name}: {error}");
        }
        // Even if the input is named by a link.
        let error = OutputFile::claim(&input, &[folder.join(name)], true).unwrap_err();
        assert!(matches!(error, OutputError::IsInput { .. }), "{name}: {error}");
    }
    assert_eq!(fs::read_to_string(&input).unwrap(), "precious");
}

/// A file that exists is replaced only with `force`; its permissions, and a link to it, stay.
#[test]
fn existing_output_needs_force() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let old = file(folder, "old", "old");
    fs::set_permissions(&old, fs::Permissions::from_mode(0o640)).unwrap();
    symlink("old", folder.join("link")).unwrap();
    fs::hard_link(&old, folder.join("other name")).unwrap();
    for name in ["old", "link"] {
        let error = OutputFile::claim(&folder.join(name), &no_inputs(), false).unwrap_err();
        assert!(
            matches!(error, OutputError::Exists { .. }) && error.to_string().contains("--force"),
            "{error}"
        );
    }
    OutputFile::claim(&folder.join("link"), &no_inputs(), true).unwrap().write(b"new").unwrap();
    assert_eq!(fs::read_to_string(&old).unwrap(), "new");
    assert_eq!(fs::metadata(&old).unwrap().permissions().mode() & 0o777, 0o640);
    assert!(fs::symlink_metadata(folder.join("link")).unwrap().is_symlink());
    assert_eq!(
        fs::read_to_string(folder.join("other name")).unwrap(),
        "old",
        "written under another name"
    );
    assert_eq!(names(folder), ["link", "old", "other name"], "no temporary file is left");
}

/// Claiming an output leaves nothing in its folder, and writing leaves the output only.
#[test]
fn output_is_written_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x".repeat(255));
    let output = OutputFile::claim(&path, &no_inputs(), false).unwrap();
    assert!(names(folder.path()).is_empty());
    output.write(b"all of it").unwrap();
    assert_eq!(names(folder.path()), ["x".repeat(255)]);
    assert_eq!(fs::read(&path).unwrap(), b"all of it");
}

/// A file that appeared while the program measured is not replaced.
#[test]
fn file_made_after_claim_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("output");
    let output = OutputFile::claim(&path, &no_inputs(), false).unwrap();
    fs::write(&path, "of another program").unwrap();
    assert!(matches!(output.write(b"mine"), Err(OutputError::Exists { .. })));
    assert_eq!(fs::read_to_string(&path).unwrap(), "of another program");
    assert_eq!(names(folder.path()), ["output"]);
}

/// An output that cannot be written is refused when it is claimed, in one line.
#[test]
fn unwritable_output_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let plain = file(folder, "plain", "");
    symlink("nothing", folder.join("dangling")).unwrap();
    let pipe = folder.join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let socket = folder.join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let cases = [
        (folder.to_path_buf(), "a folder"),
        (folder.join("missing/output"), "No such file"),
        (folder.join("new/"), "name of a folder"),
        (plain.join("output"), "Not a directory"),
        (folder.join("dangling"), "a link to nothing"),
        (pipe, "No such device"),
        (socket, "a socket"),
        (PathBuf::from("/proc/output"), "cannot write"),
        (folder.join("x".repeat(256)), "name too long"),
    ];
    for (path, says) in cases {
        let error = OutputFile::claim(&path, &no_inputs(), true).unwrap_err().to_string();
        assert!(error.contains(says) && !error.contains('\n'), "{path:?}: {error}");
    }
    assert_eq!(names(folder), ["dangling", "pipe", "plain", "socket"]);
}

/// A device is written to and not replaced by a file. If it is full, the write fails.
#[test]
fn device_is_written_not_replaced() {
    use std::os::unix::fs::FileTypeExt;
    OutputFile::claim(Path::new("/dev/null"), &no_inputs(), false).unwrap().write(b"gone").unwrap();
    assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
    let full = OutputFile::claim(Path::new("/dev/full"), &no_inputs(), false).unwrap();
    assert!(full.write(b"x").unwrap_err().to_string().contains("No space"));
}
