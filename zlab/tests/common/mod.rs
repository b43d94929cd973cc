//! Helpers of the tests: running the program, reading its output, and writing files for it.
#![allow(dead_code, unreachable_pub, reason = "each test program uses a part of this module")]

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use workload::Rng;

pub const BLOCK: usize = 4096;

/// Returns the program with arguments, without input, and with its output caught.
pub fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zlab"));
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs the program without input. If it hangs, it is killed and the test fails.
#[track_caller]
pub fn zlab(args: &[&str]) -> Output {
    finish(command(args).spawn().unwrap(), args)
}

/// Waits for the end of a program, and returns what it printed to pipes. If it hangs, it is killed
/// and the test fails.
#[track_caller]
pub fn finish(mut child: Child, args: &[&str]) -> Output {
    let begun = Instant::now();
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    // Read while it runs: a full pipe would stop it.
    let (stdout, stderr) = (thread::spawn(|| read_all(stdout)), thread::spawn(|| read_all(stderr)));
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if begun.elapsed() > Duration::from_secs(240) {
            child.kill().unwrap();
            panic!("{args:?} hangs");
        }
        thread::sleep(Duration::from_millis(10));
    };
    Output { status, stdout: stdout.join().unwrap(), stderr: stderr.join().unwrap() }
}

fn read_all(from: Option<impl Read>) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(mut from) = from {
        from.read_to_end(&mut bytes).unwrap();
    }
    bytes
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Returns what a run that succeeded printed.
#[track_caller]
pub fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Checks for bad input: exit code 2, one line on stderr, nothing on stdout. Returns the line.
#[track_caller]
pub fn refused(args: &[&str]) -> String {
    let output = zlab(args);
    let line = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{args:?}: {line}");
    assert!(output.stdout.is_empty(), "{args:?} prints to stdout");
    assert_eq!(line.lines().count(), 1, "{args:?}: {line}");
    line
}

/// Parses the JSON object on stdout.
#[track_caller]
pub fn json(output: &Output) -> Value {
    let stdout = String::from_utf8(output.stdout.clone()).unwrap();
    serde_json::from_str(&stdout)
        .unwrap_or_else(|error| panic!("{error}: {stdout:?}, {}", stderr(output)))
}

#[track_caller]
pub fn number(object: &Value, field: &str) -> u64 {
    object[field].as_u64().unwrap_or_else(|| panic!("no number {field} in {object}"))
}

/// Writes a file of 3 same-filled blocks, 5 that do not compress, 32 of text, and half a block at
/// the end.
pub fn pages(folder: &Path) -> PathBuf {
    let mut bytes = Vec::new();
    (0..3).for_each(|i| bytes.extend([i; BLOCK]));
    let mut rng = Rng::new(1);
    (0..5 * BLOCK / 8).for_each(|_| bytes.extend(rng.next_u64().to_le_bytes()));
    let end = bytes.len() + 32 * BLOCK + BLOCK / 2;
    while bytes.len() < end {
        bytes.extend(format!("entry {} of {}; ", rng.below(1000), rng.below(10)).bytes());
    }
    bytes.truncate(end);
    let path = folder.join("pages.bin");
    fs::write(&path, bytes).unwrap();
    path
}

/// Makes records that share their words but not the order, which is what dictionaries are for.
pub fn records(folder: &Path, bytes: usize) -> PathBuf {
    let mut rng = Rng::new(7);
    let words: Vec<String> = (0..300).map(|_| format!("{:x}", rng.next_u64())).collect();
    let mut text = String::new();
    while text.len() < bytes {
        text += &format!("{{\"name\":\"{}\",\"at\":{}}},", words[rng.below(300)], rng.below(1000));
    }
    text.truncate(bytes);
    let path = folder.join("records.bin");
    fs::write(&path, text).unwrap();
    path
}
