//! Inputs and outputs from outside: no command destroys a file, hangs on one, or loses what it
//! measured.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::common::{command, finish, records, refused, stderr, zlab};

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Returns the commands that write a file, without the name of the output.
fn writers(input: &str) -> [Vec<&str>; 2] {
    [
        vec!["train", input, "--block-size", "512", "-o"],
        vec!["analyze", input, "--sweep", "--block-size", "65536", "--plot"],
    ]
}

/// No command overwrites its input under any name, with `--force` or without.
#[test]
fn input_is_never_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let input = records(folder.path(), 1 << 20);
    let before = fs::read(&input).unwrap();
    symlink("records.bin", folder.path().join("soft")).unwrap();
    fs::hard_link(&input, folder.path().join("hard")).unwrap();
    for name in ["records.bin", "soft", "hard"] {
        let output = folder.path().join(name);
        for writer in writers(input.to_str().unwrap()) {
            for force in [&[][..], &["--force"]] {
                let error = refused(&[&writer[..], &[output.to_str().unwrap()], force].concat());
                assert!(error.contains("input"), "{error}");
            }
        }
        assert_eq!(fs::read(&input).unwrap(), before, "{name}");
    }
    assert_eq!(names(folder.path()), ["hard", "records.bin", "soft"]);
}

/// stdout and stderr that are redirected into an input are refused before anything is written.
#[test]
fn stream_into_input_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let input = records(folder.path(), 64 << 10);
    let list = folder.path().join("list");
    fs::write(&list, "trim\n").unwrap();
    for args in [
        &["analyze", input.to_str().unwrap(), "--json"][..],
        &["density", input.to_str().unwrap(), "--json"],
        &["storm", input.to_str().unwrap(), "--seconds", "0.01"],
        &["replay", list.to_str().unwrap()],
    ] {
        let before = fs::read(args[1]).unwrap();
        let append = OpenOptions::new().append(true).open(args[1]).unwrap();
        let output = finish(command(args).stdout(append).spawn().unwrap(), args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(stderr(&output).contains("/dev/stdout"), "{}", stderr(&output));
        assert_eq!(fs::read(args[1]).unwrap(), before, "{args:?}");
    }
}

/// An output to which the report is redirected is refused, because it would replace the report.
#[test]
fn output_on_stdout_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let input = records(folder.path(), 1 << 20);
    let path = folder.path().join("report");
    for writer in writers(input.to_str().unwrap()) {
        let args = [&writer[..], &[path.to_str().unwrap(), "--force"]].concat();
        let stdout = File::create(&path).unwrap();
        let output = finish(command(&args).stdout(stdout).spawn().unwrap(), &args);
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        assert!(stderr(&output).contains("where stdout or stderr goes"), "{}", stderr(&output));
    }
}

/// Another existing file is replaced only with `--force`.
#[test]
fn existing_output_needs_force() {
    let folder = tempfile::tempdir().unwrap();
    let input = records(folder.path(), 1 << 20);
    let output = folder.path().join("output");
    fs::write(&output, "kept").unwrap();
    for writer in writers(input.to_str().unwrap()) {
        let args = [&writer[..], &[output.to_str().unwrap()]].concat();
        assert!(refused(&args).contains("--force"));
        assert_eq!(fs::read_to_string(&output).unwrap(), "kept");
        let done = zlab(&[&args[..], &["--force"]].concat());
        assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
        assert_ne!(fs::read_to_string(&output).unwrap_or_default(), "kept");
        fs::write(&output, "kept").unwrap();
    }
    assert_eq!(names(folder.path()), ["output", "records.bin"], "no temporary file is left");
}

/// An output that cannot be written is refused before the input is read.
#[test]
fn unwritable_output_fails_early() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing/output");
    let (missing, folder) = (missing.to_str().unwrap(), folder.path().to_str().unwrap());
    for writer in writers("/no/such/input") {
        for output in [missing, folder, "/proc/output", "/dev"] {
            let line = refused(&[&writer[..], &[output]].concat());
            assert!(line.contains("cannot write") && line.contains(output), "{line}");
        }
    }
}

/// The report is printed even if the output device turns out to be full.
#[test]
fn failed_output_keeps_report() {
    let folder = tempfile::tempdir().unwrap();
    let input = records(folder.path(), 1 << 20);
    for writer in writers(input.to_str().unwrap()) {
        let output = zlab(&[&writer[..], &["/dev/full", "--json"]].concat());
        let line = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{line}");
        assert!(line.contains("No space left") && line.lines().count() == 1, "{line}");
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(report["written"] == false || report["settings"].is_array(), "{report}");
    }
}

/// `density` reads only the data of a sparse file of 10 TiB. Reading all of it would take hours and
/// all memory.
#[test]
fn density_skips_holes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sparse");
    let file = File::create(&path).unwrap();
    file.set_len(10 << 40).unwrap();
    let args =
        ["density", path.to_str().unwrap(), "--max-blocks", "10", "--allocator", "zbud", "--json"];
    assert!(refused(&args).contains("one word over and over"));
    let text = fs::read(records(folder.path(), 40 << 12)).unwrap();
    file.write_all_at(&text, 9 << 40).unwrap();
    let output = zlab(&args);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let payload = report["results"][0]["payload_bytes"].as_u64().unwrap();
    assert!(payload > 0 && payload <= 10 * 4096, "{report}");
}

/// A bad file among good ones is refused before the good ones are measured.
#[test]
fn bad_file_fails_early() {
    let folder = tempfile::tempdir().unwrap();
    let good = records(folder.path(), 64 << 10);
    let (good, bad) = (good.to_str().unwrap(), folder.path().to_str().unwrap());
    assert!(refused(&["density", good, bad, "--allocator", "zbud"]).contains("a folder"));
    assert!(refused(&["analyze", good, "/no/such/file"]).contains("/no/such/file"));
}

/// A command that reads files reports each input that is not a file in one line, and never hangs.
fn odd_inputs(command: &str, rest: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    assert!(Command::new("mkfifo").arg(path("pipe")).status().unwrap().success());
    let _listener = std::os::unix::net::UnixListener::bind(path("socket")).unwrap();
    fs::write(path("empty"), "").unwrap();
    symlink("loop", path("loop")).unwrap();
    let refused = |input: &Path| refused(&[&[command, input.to_str().unwrap()], rest].concat());
    for (input, says) in [
        (path("pipe"), "no program has open to write"),
        (path("socket"), "a socket"),
        (path("loop"), "symbolic links"),
        (path("none"), "No such file"),
        (folder.path().to_path_buf(), "a folder"),
        (PathBuf::from("/dev/zero"), "a device"),
        (PathBuf::from("-"), "a device"),
    ] {
        let line = refused(&input);
        assert!(line.contains(says), "{command} {input:?}: {line}");
    }
    if command != "replay" {
        assert!(refused(&path("empty")).contains("is empty"));
    }
}

#[test]
fn analyze_refuses_odd_inputs() {
    odd_inputs("analyze", &[]);
}

#[test]
fn storm_refuses_odd_inputs() {
    odd_inputs("storm", &["--seconds", "0.01"]);
}

#[test]
fn train_refuses_odd_inputs() {
    let folder = tempfile::tempdir().unwrap();
    let dictionary = folder.path().join("dictionary");
    odd_inputs("train", &["-o", dictionary.to_str().unwrap()]);
    assert!(!dictionary.exists());
}

#[test]
fn density_refuses_odd_inputs() {
    odd_inputs("density", &[]);
}

#[test]
fn replay_refuses_odd_inputs() {
    odd_inputs("replay", &[]);
}

/// `-` is stdin, for blocks and for lists of actions.
#[test]
fn dash_reads_stdin() {
    let folder = tempfile::tempdir().unwrap();
    let input = records(folder.path(), 64 << 10);
    let args = ["density", "-", "--allocator", "zbud", "--max-blocks", "5", "--json"];
    let output = finish(command(&args).stdin(File::open(&input).unwrap()).spawn().unwrap(), &args);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let mut cat = Command::new("cat").arg(&input).stdout(Stdio::piped()).spawn().unwrap();
    let args = ["analyze", "-", "--allocator", "zbud", "--compressor", "lz4", "--json"];
    let output = finish(command(&args).stdin(cat.stdout.take().unwrap()).spawn().unwrap(), &args);
    cat.wait().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["input"]["blocks"], 16, "{report}");
}
