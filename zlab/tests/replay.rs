//! `zlab replay`: lists as the suites print them, on pools and on a store.

use std::fs;
use std::process::{Command, Output, Stdio};

fn zlab(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_zlab"))
        .arg("replay")
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn replay(list: &str, more: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("list");
    fs::write(&file, list).unwrap();
    zlab(&[&[file.to_str().unwrap()], more].concat())
}

const LIST: &str = "\
# every action there is
insert 137 fill 5
insert 4096 fill 6
insert 2000 fill 7
hold 1
read 2
free 1
compact all
compact 3
reclaim 1
release 0
switch zbud+lz4
trim
";

/// A list is replayed on each allocator and with any frame size.
#[test]
fn replay_on_each_allocator() {
    let chained = ["--allocator", "zsmalloc(chain=8)", "--frame", "16384", "--max-len", "65536"];
    for (more, says) in [
        (&[][..], "12 actions on zbud: all correct\n12 actions on zsmalloc: all correct\n"),
        (&["--allocator", "zbud"], "12 actions on zbud: all correct\n"),
        (&chained, "12 actions on zsmalloc(chain=8): all correct\n"),
    ] {
        let output = replay(LIST, more);
        let told = String::from_utf8(output.stdout).unwrap();
        assert_eq!(
            output.status.code(),
            Some(0),
            "{more:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert_eq!(told, says);
    }
}

/// A list is replayed on a store, which switches.
#[test]
fn replay_on_switching_store() {
    let output = replay(LIST, &["--store", "zsmalloc+lz4"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let told = String::from_utf8(output.stdout).unwrap();
    assert_eq!(told, "12 actions on a store of zsmalloc+lz4: all correct\n");
}

/// A length of 0 is an empty block, which a store keeps like any other.
#[test]
fn replay_empty_blocks_on_store() {
    let list = "insert 0 fill 1\ninsert 0 fill 5\nread 0\nread 1\nfree 0\ntrim\ninsert 0 fill 4\n";
    let output = replay(list, &["--store", "zsmalloc+lz4"]);
    let told = String::from_utf8(output.stdout).unwrap();
    assert_eq!(told, "7 actions on a store of zsmalloc+lz4: all correct\n");
}

/// A file that is not a list is refused in one line.
#[test]
fn malformed_list_is_refused() {
    for (list, more, says) in [
        ("trim\ngrow 3\n", &[][..], "line 2: `grow 3` is not an action"),
        ("insert 1 fill \u{1b}[1m\n", &[], "line 1"),
        ("trim\n", &["--allocator", "unheard-of"], "unheard-of"),
        ("trim\n", &["--allocator", "zbud(pages=1)"], "pages"),
        ("trim\n", &["--allocator", "zbud", "--store", "zbud+lz4"], "cannot be used with"),
        ("trim\n", &["--store", "zbud+unheard-of"], "unheard-of"),
        ("trim\n", &["--frame", "5000"], "a power of two"),
        ("trim\n", &["--max-len", "0"], "1 to 262144"),
    ] {
        let output = replay(list, more);
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(told.contains(says) && told.lines().count() == 1, "{told}");
        assert!(!told.trim_end().contains(char::is_control), "{told:?}");
    }
}

/// A missing file is refused in one line.
#[test]
fn missing_list_is_refused() {
    for args in [&["no-such-list"][..], &["/"], &[]] {
        let output = zlab(args);
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), told.lines().count()), (Some(2), 1), "{told}");
    }
}
