//! `zlab top`, without a terminal and on one.
#![cfg(target_os = "linux")]

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Termios, Winsize, tcgetattr, tcsetwinsize};
use serde_json::Value;

const LEAVES: &str = "\x1b[?25h\x1b[?1049l";

fn top() -> Command {
    Command::new(env!("CARGO_BIN_EXE_zlab"))
}

/// A process that waits, with some memory to sample.
struct Sampled(Child);

impl Sampled {
    /// Starts python, which has more to compress, or a shell: any process will do.
    /// It says when it runs, because one that has just begun has nothing to sample.
    fn start() -> Sampled {
        let program = "x = list(range(300000)); import time; print(1, flush=True); time.sleep(600)";
        let mut python = Command::new("python3");
        python.args(["-c", program]);
        Sampled::ready(python).unwrap_or_else(|| {
            let mut shell = Command::new("sh");
            shell.args(["-c", "echo 1; read line"]);
            Sampled::ready(shell).expect("a process that waits")
        })
    }

    /// Starts a process and waits for its first byte.
    fn ready(mut command: Command) -> Option<Sampled> {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut sampled = Sampled(command.spawn().ok()?);
        sampled.0.stdout.as_mut()?.read_exact(&mut [0]).ok()?;
        Some(sampled)
    }

    fn pid(&self) -> String {
        self.0.id().to_string()
    }
}

impl Drop for Sampled {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn run(args: &[&str]) -> Output {
    top().arg("top").args(args).stdin(Stdio::null()).output().unwrap()
}

/// Without a terminal, each refresh is a frame, or a line of JSON.
#[test]
fn top_without_terminal_prints_frames() {
    let sampled = Sampled::start();
    let args = ["--pid", &sampled.pid(), "--interval", "0.05", "--count", "3", "--max-mib", "1"];
    let output = run(&args);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(text.matches(&format!("(process {}), frame ", sampled.pid())).count(), 3, "{text}");
    assert!(!text.contains('\x1b') && !text.contains("quits"), "{text}");

    let output = run(&[&args[..], &["--json", "--compressor", "lz4"]].concat());
    let lines = String::from_utf8(output.stdout).unwrap();
    let frames: Vec<Value> =
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(frames.len(), 3);
    let row = &frames[2]["results"][0];
    assert_eq!((&frames[2]["frame"], &row["compressor"]), (&3.into(), &"lz4".into()));
    let [all, held, saved] =
        [&frames[2]["anonymous_bytes"], &row["held_bytes"], &row["saved_bytes"]]
            .map(|bytes| bytes.as_i64().unwrap());
    assert_eq!(all - held, saved);
}

#[test]
fn top_of_no_process_is_refused() {
    for args in [&["--pid", "4294967295"][..], &["--pid", "1", "--interval", "0"], &[]] {
        let output = run(args);
        let line = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), line.lines().count()), (Some(2), 1), "{line}");
        assert!(output.stdout.is_empty());
    }
}

/// The view ends with the process.
#[test]
fn top_ends_with_the_process() {
    let sampled = Sampled::start();
    let mut view = top()
        .args(["top", "--pid", &sampled.pid(), "--interval", "0.05", "--max-mib", "1", "--json"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // One frame is there.
    let begun = view.stdout.as_mut().unwrap().read_exact(&mut [0]);
    drop(sampled);
    let output = view.wait_with_output().unwrap();
    assert!(begun.is_ok() && output.status.success(), "{output:?}");
    assert!(String::from_utf8(output.stderr).unwrap().contains("has ended"));
}

/// `top` on a terminal of its own.
struct OnTerminal {
    view: Child,
    terminal: File,
    /// The other end, which has the settings.
    line: OwnedFd,
    before: Termios,
    shown: String,
}

impl OnTerminal {
    fn start(pid: &str) -> OnTerminal {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        rustix::fs::fcntl_setfl(&master, rustix::fs::OFlags::NONBLOCK).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let open = || {
            let options = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY;
            rustix::fs::open(&name, options, rustix::fs::Mode::empty()).unwrap()
        };
        let line = open();
        let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&line, size).unwrap();
        let before = tcgetattr(&line).unwrap();
        let view = top()
            .args(["top", "--pid", pid, "--interval", "0.1", "--max-mib", "1"])
            .env("TERM", "xterm")
            .stdin(open())
            .stdout(open())
            .stderr(open())
            .spawn()
            .unwrap();
        let mut started =
            OnTerminal { view, terminal: master.into(), line, before, shown: String::new() };
        started.wait_for("q quits.");
        started
    }

    /// Reads what the view draws until `text` is part of it. Panics if the view ends before.
    fn wait_for(&mut self, text: &str) {
        let mut bytes = [0; 4096];
        let mut ended = None;
        while !self.shown.contains(text) {
            match self.terminal.read(&mut bytes) {
                Ok(read) => self.shown += &String::from_utf8_lossy(&bytes[..read]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    // What it drew last is read after it has ended.
                    assert!(ended.is_none(), "ended with {ended:?}: {}", self.shown);
                    ended = self.view.try_wait().unwrap();
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(error) => panic!("{error}: {}", self.shown),
            }
        }
    }

    fn is_single_key(&self) -> bool {
        !tcgetattr(&self.line).unwrap().local_modes.contains(LocalModes::ICANON)
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.view), signal).unwrap();
    }

    /// Checks that the view has ended and left the terminal as it was.
    fn ended(mut self) -> std::process::ExitStatus {
        self.wait_for(LEAVES);
        let status = self.view.wait().unwrap();
        let after = tcgetattr(&self.line).unwrap();
        assert_eq!(after.local_modes, self.before.local_modes);
        assert_eq!(after.input_modes, self.before.input_modes);
        assert_eq!(after.output_modes, self.before.output_modes);
        assert!(self.shown.contains("\x1b[?1049h"));
        status
    }
}

#[test]
fn top_on_terminal_quits_with_q() {
    let sampled = Sampled::start();
    let mut view = OnTerminal::start(&sampled.pid());
    assert!(view.is_single_key());
    view.wait_for("frame 2");
    view.terminal.write_all(b"xq").unwrap();
    assert!(view.ended().success());
}

/// Returns whether this process ignores a signal, and so the view, which inherits that: as under
/// `nohup`.
fn is_ignored(signal: Signal) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
    let mask = u64::from_str_radix(mask.trim(), 16).unwrap();
    mask >> (signal.as_raw() - 1) & 1 == 1
}

/// A signal that ends the view leaves the terminal as it was.
#[test]
fn top_on_terminal_restores_on_signals() {
    use std::os::unix::process::ExitStatusExt;
    let sampled = Sampled::start();
    let signals = [Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT];
    for signal in signals.into_iter().filter(|signal| !is_ignored(*signal)) {
        let view = OnTerminal::start(&sampled.pid());
        view.signal(signal);
        assert_eq!(view.ended().signal(), Some(signal.as_raw()));
    }
}

/// A stop restores the terminal, and the view comes back when it continues.
#[test]
fn top_on_terminal_survives_a_stop() {
    let sampled = Sampled::start();
    let mut view = OnTerminal::start(&sampled.pid());
    view.signal(Signal::TSTP);
    view.wait_for(LEAVES);
    let until = Instant::now() + Duration::from_secs(20);
    while view.is_single_key() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(!view.is_single_key());
    view.shown.clear();
    view.signal(Signal::CONT);
    view.wait_for("\x1b[?1049h");
    view.wait_for("q quits.");
    view.terminal.write_all(b"q").unwrap();
    assert!(view.ended().success());
}

/// The terminal is restored before the error of a frame is printed.
#[test]
fn top_on_terminal_ends_with_the_process() {
    let sampled = Sampled::start();
    let mut view = OnTerminal::start(&sampled.pid());
    drop(sampled);
    view.wait_for("has ended");
    let (left, told) = (view.shown.find(LEAVES), view.shown.find("has ended"));
    assert!(left.unwrap() < told.unwrap(), "{}", view.shown);
    assert!(view.ended().success());
}
