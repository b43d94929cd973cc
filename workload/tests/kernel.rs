//! The kernel's settings, restored however the process that changed them ends: children of this
//! test are sent signals.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use workload::{KernelZram, KernelZswap};

/// The variable that makes the test program a child, with the change to make and its folder.
const ROLE: &str = "WORKLOAD_TEST_KERNEL_CHILD";
/// Longer than any test waits: the child ends by a signal.
const FOR_LONG: Duration = Duration::from_secs(600);

/// Makes a folder like `/sys/module/zswap/parameters`.
fn parameters() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("compressor"), "zstd\n").unwrap();
    fs::write(folder.path().join("enabled"), "N\n").unwrap();
    folder
}

fn values(folder: &Path) -> [String; 2] {
    ["compressor", "enabled"]
        .map(|name| fs::read_to_string(folder.join(name)).unwrap().trim().to_owned())
}

/// Starts a child in `role`, and returns it with the line that says that the change is made.
fn start(role: &str, prefix: &[&str]) -> (Child, String) {
    let own = std::env::current_exe().unwrap();
    let mut words = prefix.iter().map(PathBuf::from).chain([own]);
    let mut child = Command::new(words.next().unwrap())
        .args(words)
        .args(["--exact", "signal_restores_zswap", "--nocapture"])
        .env(ROLE, role)
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let ready = lines
        .map(Result::unwrap)
        .find(|line| line.starts_with("ready"))
        .expect("the child got ready");
    (child, ready)
}

/// The other side of [`start`]: does nothing in the process that runs the tests.
fn be_a_child_if_asked() {
    let Ok(role) = std::env::var(ROLE) else { return };
    if let Some(folder) = role.strip_prefix("zswap ") {
        let zswap = KernelZswap::take_from(Path::new(folder)).unwrap();
        println!("ready");
        zswap.switch_for(FOR_LONG).unwrap();
    } else if role == "zram" {
        match KernelZram::add("lzo-rle", 4096, 4096) {
            Ok(zram) => {
                println!("ready {}", zram.number());
                std::thread::sleep(FOR_LONG);
            }
            Err(skipped) => println!("ready: {skipped}"),
        }
    } else if let Some(folder) = role.strip_prefix("panic ") {
        let _zswap = KernelZswap::take_from(Path::new(folder)).unwrap();
        println!("ready");
        panic!("on purpose");
    }
    std::process::exit(0);
}

/// Returns whether this process, and so its children, ignores `signal`, and says so. A shell that
/// starts a job in the background has it ignore `INT` and `QUIT`, which then stay ignored.
fn is_ignored(signal: Signal) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
    let mask = u64::from_str_radix(mask.trim(), 16).unwrap();
    let ignored = (mask >> (signal.as_raw() - 1)) & 1 == 1;
    if ignored {
        eprintln!("{signal:?} is left out: this process was started to ignore it");
    }
    ignored
}

fn send(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

/// Waits until the child has ended; a child that hangs is killed, and fails the test.
fn wait(child: &mut Child) -> ExitStatus {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if begun.elapsed() > Duration::from_secs(60) {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("the child does not end");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A signal that ends a process which switches zswap's compressor restores both parameters first,
/// and the process still dies by that signal.
#[test]
fn signal_restores_zswap() {
    be_a_child_if_asked();
    use Signal as S;
    for signal in
        [S::INT, S::TERM, S::HUP, S::QUIT, S::USR1, S::USR2, S::ALARM, S::VTALARM, S::PROF, S::XCPU]
    {
        if is_ignored(signal) {
            continue;
        }
        let folder = parameters();
        let (mut child, _) = start(&format!("zswap {}", folder.path().display()), &[]);
        assert_eq!(values(folder.path())[1], "1", "changed before the signal");
        send(&child, signal);
        assert_eq!(wait(&mut child).signal(), Some(signal.as_raw()), "{signal:?}");
        assert_eq!(values(folder.path()), ["zstd", "N"], "{signal:?}");
    }
}

/// A process that is stopped leaves zswap as it was, and changes it again when it continues.
#[test]
fn stopped_process_restores_zswap() {
    if is_ignored(Signal::TSTP) {
        return;
    }
    let folder = parameters();
    let (mut child, _) = start(&format!("zswap {}", folder.path().display()), &[]);
    send(&child, Signal::TSTP);
    let (_, status) =
        waitpid(Some(Pid::from_child(&child)), WaitOptions::UNTRACED).unwrap().unwrap();
    assert!(status.stopped(), "{status:?}");
    assert_eq!(values(folder.path()), ["zstd", "N"]);
    send(&child, Signal::CONT);
    let begun = Instant::now();
    while values(folder.path())[1] != "1" {
        assert!(begun.elapsed() < Duration::from_secs(60), "the change is not made again");
    }
    send(&child, Signal::TERM);
    wait(&mut child);
    assert_eq!(values(folder.path()), ["zstd", "N"]);
}

/// A signal that the process was started to ignore is still ignored.
#[test]
fn ignored_signal_stays_ignored() {
    let folder = parameters();
    let role = format!("zswap {}", folder.path().display());
    let (mut child, _) = start(&role, &["/bin/sh", "-c", "trap '' HUP; exec \"$0\" \"$@\""]);
    send(&child, Signal::HUP);
    send(&child, Signal::TERM);
    assert_eq!(wait(&mut child).signal(), Some(Signal::TERM.as_raw()));
    assert_eq!(values(folder.path()), ["zstd", "N"]);
}

/// A panic while zswap is changed restores it.
#[test]
fn panic_restores_zswap() {
    let folder = parameters();
    let (mut child, _) = start(&format!("panic {}", folder.path().display()), &[]);
    assert!(!wait(&mut child).success());
    assert_eq!(values(folder.path()), ["zstd", "N"]);
}

/// A signal that ends a process removes its zram device. Without zram or root, the test only
/// reports that.
#[test]
fn signal_removes_zram_device() {
    let (mut child, ready) = start("zram", &[]);
    if let Some(number) = ready.strip_prefix("ready ") {
        send(&child, Signal::TERM);
        wait(&mut child);
        assert!(!Path::new(&format!("/sys/block/zram{number}")).exists());
    } else {
        eprintln!("{ready}");
        wait(&mut child);
    }
}
