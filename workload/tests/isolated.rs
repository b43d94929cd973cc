//! Measuring in a process of its own: this test is started again to be one.

use std::io::Write;
use std::num::NonZeroUsize;

use workload::{Growth, Isolated, IsolatedError, Pages, Rng, print_result};

const BLOCK: NonZeroUsize = NonZeroUsize::new(4096).unwrap();
const ROLE: &str = "WORKLOAD_TEST_CHILD";

fn isolated(role: &str) -> Isolated {
    Isolated::new()
        .args(["--exact", "child_gets_pages_and_answers"])
        .arg("--nocapture")
        .env(ROLE, role)
}

fn noise(blocks: usize) -> Pages {
    let mut rng = Rng::new(1);
    let bytes = (0..blocks * 512).flat_map(|_| rng.next_u64().to_le_bytes()).collect();
    Pages::from_bytes(BLOCK, bytes)
}

fn checksum(pages: &Pages) -> u64 {
    pages.bytes().iter().fold(0, |sum, &byte| u64::rotate_left(sum, 5) ^ u64::from(byte))
}

fn read() -> Pages {
    Pages::read_from(std::io::stdin().lock()).unwrap()
}

/// Does nothing in the process that runs the tests, and does not return in a child.
fn be_a_child_if_asked() {
    let Ok(role) = std::env::var(ROLE) else { return };
    match role.as_str() {
        "checksum" => {
            let pages = read();
            print_result(&(pages.len(), checksum(&pages), std::process::id())).unwrap();
        }
        "growth" => {
            let pages = read();
            let (copied, copy) = Growth::around(|| pages.repeat(2)).unwrap();
            let growth = Growth::start().unwrap();
            drop(copy);
            print_result(&(copied, growth.bytes().unwrap())).unwrap();
        }
        "ignores input" => print_result(&"input ignored").unwrap(),
        "talkative" => {
            let mut stdout = std::io::stdout().lock();
            (0..20_000).for_each(|i| {
                writeln!(stdout, "line {i} that is written before the input is read").unwrap()
            });
            drop(stdout);
            print_result(&read().len()).unwrap();
        }
        "silent" => drop(read()),
        "failing" => std::process::exit(3),
        other => panic!("unknown role {other}"),
    }
    std::process::exit(0);
}

/// Pages arrive in the child, and its answer comes back.
#[test]
fn child_gets_pages_and_answers() {
    be_a_child_if_asked();
    let pages = noise(2000);
    let (blocks, sum, pid): (usize, u64, u32) = isolated("checksum").run(&pages).unwrap();
    assert_eq!((blocks, sum), (2000, checksum(&pages)));
    assert_ne!(pid, std::process::id());
}

/// The growth of a process of its own is what it touched.
#[test]
fn isolated_growth_is_exact() {
    let (copied, freed): (i64, i64) = isolated("growth").run(&noise(4096)).unwrap();
    let bytes = 2 * 4096 * 4096;
    let slack = 1 << 20;
    assert!((bytes..bytes + slack).contains(&copied), "{copied}");
    assert!((-bytes - slack..=-bytes + slack).contains(&freed), "{freed}");
}

/// A child that does not read its input may answer.
#[test]
fn child_may_ignore_its_input() {
    assert_eq!(isolated("ignores input").run::<String>(&noise(2000)).unwrap(), "input ignored");
}

/// A child that writes much before it reads does not deadlock.
#[test]
fn early_output_does_not_deadlock() {
    assert_eq!(isolated("talkative").run::<usize>(&noise(2000)).unwrap(), 2000);
}

/// A child without input answers too.
#[test]
fn child_without_input_answers() {
    assert_eq!(isolated("ignores input").run_without_input::<String>().unwrap(), "input ignored");
}

/// A child that fails or gives no answer is an error of one line.
#[test]
fn failed_child_is_one_line() {
    let failed = isolated("failing").run::<u32>(&noise(2000)).unwrap_err();
    assert!(
        matches!(&failed, IsolatedError::Failed(status) if status.code() == Some(3)),
        "{failed}"
    );
    let silent = isolated("silent").run::<u32>(&noise(1)).unwrap_err();
    assert!(matches!(silent, IsolatedError::Answer(_)), "{silent}");
    let other_type = isolated("ignores input").run::<u32>(&noise(1)).unwrap_err();
    assert!(matches!(other_type, IsolatedError::Answer(_)), "{other_type}");
    // What the test harness prints first is not a header of pages.
    let no_pages = isolated("ignores input").run_for_pages().unwrap_err();
    assert!(matches!(no_pages, IsolatedError::Pipe(_)), "{no_pages}");
    let no_success = isolated("failing").run_for_pages().unwrap_err();
    assert!(matches!(no_success, IsolatedError::Failed(_)), "{no_success}");
    for error in [failed, silent, other_type, no_pages, no_success] {
        assert_eq!(error.to_string().lines().count(), 1);
    }
}
