//! Programs that use three times their limit print the same as without one.

#![cfg(all(target_os = "linux", target_env = "gnu", target_pointer_width = "64"))]

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use zrun::Launch;

const EXERCISE: &str = env!("CARGO_BIN_EXE_zrun-exercise");
const ZRUN: &str = env!("CARGO_BIN_EXE_zrun");
const LIMIT: usize = 16 << 20;

/// Returns the settings of these tests, or `None` after one line that says why they are skipped.
fn launch() -> Option<Launch> {
    match Launch::new(LIMIT).checked() {
        Ok(launch) => Some(launch),
        Err(error) if error.is_unsupported() => {
            println!("skipped: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

fn output(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().unwrap()
}

/// Runs a scenario with and without a limit. The outputs must be the same, and the limit must have
/// been needed.
#[track_caller]
fn compare(scenario: &str) {
    let Some(launch) = launch() else { return };
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("report");
    let launch = launch.report(&report);
    let plain = output(Command::new(EXERCISE).arg(scenario));
    let limited = output(&mut launch.command(EXERCISE, [scenario]).unwrap());
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert_eq!(text(&limited.stdout), text(&plain.stdout), "{}", text(&limited.stderr));
    assert_eq!(limited.status, plain.status, "{}", text(&limited.stderr));
    if plain.status.success() {
        assert_eq!(text(&limited.stderr), text(&plain.stderr));
        let report = std::fs::read_to_string(report).unwrap();
        let put_away = report.lines().next().unwrap().split_once("\"pages_put_away\":").unwrap().1;
        let put_away: usize = put_away.split(',').next().unwrap().parse().unwrap();
        assert!(put_away > 1000, "{report}");
    }
}

macro_rules! scenarios {
    ($($name:ident),* $(,)?) => {
        $(
            #[test]
            fn $name() {
                compare(stringify!($name));
            }
        )*
    };
}

scenarios!(
    maps,
    remaps,
    advice,
    protection,
    fixed,
    heap,
    forks,
    forks_with_threads,
    starts_programs,
    threads,
    descriptors,
    stacks,
    unmapped,
);

/// rustc runs under zrun, whether or not it brings its own `malloc`.
#[test]
fn program_with_its_own_malloc_runs() {
    let Some(launch) = launch() else { return };
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("program.rs");
    std::fs::write(&source, "fn main() { println!(\"{:?}\", vec![String::new(); 7]); }").unwrap();
    let rustc = std::env::var_os("CARGO").map(|cargo| Path::new(&cargo).with_file_name("rustc"));
    let Some(rustc) = rustc.filter(|rustc| rustc.exists()) else {
        return println!("skipped: there is no rustc beside cargo");
    };
    let program = folder.path().join("program");
    let arguments = [OsStr::new("-o"), program.as_os_str(), source.as_os_str()];
    let ended = output(&mut launch.command(rustc, arguments).unwrap());
    assert!(ended.status.success(), "{ended:?}");
    assert!(output(&mut Command::new(program)).status.success());
}

/// Settings that are not text are an error, and not the defaults.
#[test]
fn settings_that_are_not_text_are_refused() {
    use std::os::unix::ffi::OsStrExt;

    let Some(launch) = launch() else { return };
    for (name, part) in [("ZRUN_AT_LEAST", "is not a number"), ("ZRUN_SPEC", "is not text")] {
        let mut command = launch.command(EXERCISE, ["exit_code"]).unwrap();
        let ended = output(command.env(name, OsStr::from_bytes(b"\xff")));
        let error = String::from_utf8(ended.stderr).unwrap();
        assert!(error.contains(&format!("without a limit: {name} {part}")), "{error}");
        assert_eq!(ended.status.code(), Some(42));
    }
}

/// The exit code is that of the program, and nothing is printed for one that needed no region.
#[test]
fn exit_code_is_the_programs() {
    if launch().is_none() {
        return;
    }
    let zrun = |arguments: &[&str]| output(Command::new(ZRUN).args(arguments));
    let ended = zrun(&["--limit", "16MiB", "--", EXERCISE, "exit_code"]);
    assert_eq!((ended.status.code(), ended.stderr.len()), (Some(42), 0), "{ended:?}");
    let none = zrun(&["--limit", "16MiB", "--", "/no/such/program"]);
    assert_eq!(none.status.code(), Some(127), "{none:?}");
    let folder = zrun(&["--limit", "16MiB", "--", "/"]);
    assert_eq!(folder.status.code(), Some(126), "{folder:?}");
}

/// If zrun refuses, that is one line and exit code 125.
#[test]
fn zrun_refuses_with_one_line() {
    let refused = |arguments: &[&str], part: &str| {
        let output = output(Command::new(ZRUN).args(arguments));
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(125), "{error}");
        assert!(error.contains(part), "{error}");
        error.lines().count()
    };
    refused(&["--limit", "much", "--", "true"], "512MiB");
    refused(&["--limit", "1MiB"], "PROGRAM");
    if launch().is_none() {
        return;
    }
    let library = ["--limit", "16MiB", "--library", "/none.so", "--", "true"];
    assert_eq!(refused(&library, "cargo build -p zrun-preload"), 1);
    assert_eq!(refused(&["--limit", "10", "--", "true"], "too low"), 1);
    assert_eq!(refused(&["--limit", "16MiB", "--spec", "none+lz4", "--", "true"], "none"), 1);
}

/// A process that may not serve faults of the kernel is refused, because its system calls would
/// fail.
#[test]
fn zrun_without_privileges_is_refused() {
    use std::os::unix::process::CommandExt;

    if launch().is_none() {
        return;
    }
    let allowed = std::fs::read_to_string("/proc/sys/vm/unprivileged_userfaultfd").unwrap();
    // The test program may lie where another user has no access.
    let folder = tempfile::Builder::new().tempdir_in("/tmp").unwrap();
    let copy = folder.path().join("zrun");
    std::fs::copy(ZRUN, &copy).unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(folder.path(), open).unwrap();
    let mut command = Command::new(&copy);
    command.args(["--limit", "16MiB", "--", "true"]).uid(65534);
    let Ok(ended) = command.output() else {
        return println!("skipped: this process cannot become another user");
    };
    if allowed.trim() == "1"
        || std::fs::File::open("/dev/userfaultfd").is_ok() && ended.status.success()
    {
        return println!("skipped: every user may serve faults of the kernel");
    }
    let error = String::from_utf8(ended.stderr).unwrap();
    assert_eq!((ended.status.code(), error.lines().count()), (Some(125), 1), "{error}");
    assert!(error.contains("vm.unprivileged_userfaultfd=1"), "{error}");
}
