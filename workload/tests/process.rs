//! Sampling real processes: children of this test, which is started again to be one.
//!
//! No other process' memory is read here; [`own_uid_processes`] looks at names and sizes only.

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::num::NonZeroUsize;
use std::process::{Child, Command, Stdio};

use workload::{ProcessError, Rng, own_uid_processes, sample_process, sample_processes};

const PAGE: NonZeroUsize = NonZeroUsize::new(4096).unwrap();
const PATTERN_PAGES: usize = (20 << 20) / 4096;
const MIB: u64 = 1 << 20;
/// The variable that makes the test program a child, and says whether it hides.
const ROLE: &str = "WORKLOAD_TEST_CHILD";

/// A child that holds 20 MiB of a pattern and waits. It ends with this process, however this
/// process ends.
struct Holder(Child);

impl Holder {
    fn start(role: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "pattern_of_child_is_found", "--nocapture"])
            .env(ROLE, role)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap() == "ready"), "the child did not get ready");
        Self(child)
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The other side of [`Holder`]: does nothing in the process that runs the tests, and does not
/// return in a child.
fn be_a_child_if_asked() {
    let Ok(role) = std::env::var(ROLE) else { return };
    if role == "hidden" {
        use rustix::process::{DumpableBehavior, set_dumpable_behavior};
        set_dumpable_behavior(DumpableBehavior::NotDumpable).unwrap();
    }
    // Page-aligned, so that a page of the pattern is a page of the process.
    let mut held = vec![0_u8; PATTERN_PAGES * 4096 + 4096];
    let skip = held.as_ptr().align_offset(4096);
    for (i, page) in held[skip..].chunks_exact_mut(4096).take(PATTERN_PAGES).enumerate() {
        page.copy_from_slice(&pattern_page(i));
    }
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(b"\nready\n").unwrap();
    stdout.flush().unwrap();
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    std::hint::black_box(&held);
    std::process::exit(0);
}

/// Returns a page that no other process would hold by chance.
fn pattern_page(i: usize) -> Vec<u8> {
    let mut rng = Rng::new(0xFEED_0000 + i as u64);
    let mut page = vec![0; 4096];
    for word in page.chunks_exact_mut(8) {
        word.copy_from_slice(&rng.next_u64().to_le_bytes());
    }
    page
}

fn patterns() -> HashSet<Vec<u8>> {
    (0..PATTERN_PAGES).map(pattern_page).collect()
}

/// Returns whether this process may read its children. If not, the tests here are skipped.
fn reading_children_is_allowed() -> bool {
    let scope = std::fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").unwrap_or_default();
    let allowed = may_read_all() || matches!(scope.trim(), "" | "0" | "1");
    if !allowed {
        eprintln!("kernel.yama.ptrace_scope is {}: children may not be read", scope.trim());
    }
    allowed
}

/// Returns whether this process has CAP_SYS_PTRACE, which is capability 19.
fn may_read_all() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap().trim();
    u64::from_str_radix(mask, 16).unwrap() >> 19 & 1 == 1
}

/// The pattern in a child's memory is found.
#[test]
fn pattern_of_child_is_found() {
    be_a_child_if_asked();
    if !reading_children_is_allowed() {
        return;
    }
    let child = Holder::start("open");
    let sample = sample_process(child.pid(), PAGE, 64 * MIB).unwrap();
    let found: HashSet<&[u8]> = sample.pages.iter().collect();
    assert!(patterns().iter().all(|page| found.contains(page.as_slice())));
    let [source] = &sample.sources[..] else { panic!("one process gave pages") };
    assert_eq!((source.pid, source.bytes), (child.pid(), sample.pages.bytes().len() as u64));
    assert!(source.name.starts_with("process"), "{}", source.name);
    assert_eq!(sample.refused, 0);
}

/// A limited sample is spread over the process and keeps its order.
#[test]
fn sample_is_spread_over_process() {
    if !reading_children_is_allowed() {
        return;
    }
    let child = Holder::start("open");
    let sample = sample_process(child.pid(), PAGE, 4 * MIB).unwrap();
    let patterns: Vec<Vec<u8>> = (0..PATTERN_PAGES).map(pattern_page).collect();
    let places: Vec<usize> =
        sample.pages.iter().filter_map(|page| patterns.iter().position(|p| p == page)).collect();
    let blocks = sample.pages.len();
    assert!((1009..=1024).contains(&blocks), "{blocks}");
    assert!(sample.pages.available_blocks() >= PATTERN_PAGES as u64);
    assert!(places.is_sorted(), "the order of addresses is kept");
    for quarter in 0..4 {
        let span = quarter * PATTERN_PAGES / 4..(quarter + 1) * PATTERN_PAGES / 4;
        assert!(
            places.iter().filter(|place| span.contains(place)).count() > 50,
            "quarter {quarter}"
        );
    }
}

/// Smaller blocks cut pages, and larger ones join them.
#[test]
fn block_sizes_cut_or_join_pages() {
    if !reading_children_is_allowed() {
        return;
    }
    let child = Holder::start("open");
    let patterns = patterns();
    let large = NonZeroUsize::new(16 << 10).unwrap();
    let sample = sample_process(child.pid(), large, 64 * MIB).unwrap();
    let joined =
        sample.pages.iter().filter(|block| block.chunks(4096).all(|page| patterns.contains(page)));
    // All but the first and the last, which may reach over the edge of an aligned block.
    assert!(joined.count() >= PATTERN_PAGES / 4 - 1);
    let small = NonZeroUsize::new(1024).unwrap();
    let sample = sample_process(child.pid(), small, 64 * MIB).unwrap();
    let first = pattern_page(0);
    for quarter in first.chunks(1024) {
        assert!(sample.pages.iter().any(|block| block == quarter));
    }
}

/// Several processes have equal shares.
#[test]
fn processes_get_equal_shares() {
    if !reading_children_is_allowed() {
        return;
    }
    let (one, two) = (Holder::start("open"), Holder::start("open"));
    let sample = sample_processes(&[one.pid(), u32::MAX, two.pid()], PAGE, 8 * MIB);
    let given: Vec<(u32, u64)> =
        sample.sources.iter().map(|source| (source.pid, source.bytes)).collect();
    let pids: Vec<u32> = given.iter().map(|source| source.0).collect();
    assert_eq!(pids, [one.pid(), two.pid()]);
    assert!(
        given.iter().all(|&(_, bytes)| bytes <= 4 * MIB && bytes > 4 * MIB - 16 * 4096),
        "{given:?}"
    );
    assert_eq!(given.iter().map(|source| source.1).sum::<u64>(), sample.pages.bytes().len() as u64);
    assert_eq!(sample.refused, 0, "a process that does not exist has not refused");
}

/// A process that hides its memory is refused, unless the caller may read all processes.
#[test]
fn hidden_process_is_refused() {
    let child = Holder::start("hidden");
    let result = sample_process(child.pid(), PAGE, MIB);
    if may_read_all() {
        assert!(!result.unwrap().pages.is_empty());
        return;
    }
    let error = result.unwrap_err();
    assert!(matches!(error, ProcessError::Refused { .. }), "{error}");
    assert_eq!(error.to_string().lines().count(), 1);
    let sample = sample_processes(&[child.pid()], PAGE, MIB);
    assert_eq!((sample.pages.len(), sample.sources.len(), sample.refused), (0, 0, 1));
}

/// A process that does not exist or has ended is an error.
#[test]
fn missing_process_is_an_error() {
    let error = sample_process(u32::MAX, PAGE, MIB).unwrap_err();
    assert!(matches!(error, ProcessError::NotFound { pid: u32::MAX }), "{error}");

    let mut ended = Command::new("true").spawn().unwrap();
    // Until it is waited for, it is there and has no memory.
    let status = format!("/proc/{}/status", ended.id());
    while !std::fs::read_to_string(&status).unwrap().contains("State:\tZ") {
        std::thread::yield_now();
    }
    let error = sample_process(ended.id(), PAGE, MIB).unwrap_err();
    ended.wait().unwrap();
    // Without the right to trace all processes, the kernel refuses to say which of the two it is.
    let told = matches!(error, ProcessError::Nothing { .. });
    assert!(told || !may_read_all() && matches!(error, ProcessError::Refused { .. }), "{error}");
}

/// The user's processes are listed largest first, without the caller.
#[test]
fn own_processes_largest_first() {
    let child = Holder::start("open");
    // Its own standard streams, so that nothing waits for it should this test be killed.
    let mut sleep = Command::new("sleep");
    sleep.arg("600").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let small = sleep.spawn().map(Holder).unwrap();
    let pids = own_uid_processes().unwrap();
    let place = |pid| pids.iter().position(|&listed| listed == pid);
    assert_eq!(place(std::process::id()), None);
    assert!(place(child.pid()).unwrap() < place(small.pid()).unwrap());
}
