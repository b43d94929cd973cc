//! `zlab storm`: short storms, and their accounts.

use std::process::Output;

use crate::common::{json, number, pages, stderr, zlab};
use serde_json::Value;

/// Runs a storm of one second per phase.
fn storm(args: &[&str]) -> (Output, Vec<Value>) {
    let output = zlab(&[&["storm", "--seconds", "1", "--json"], args].concat());
    let phases = json(&output)["phases"].as_array().unwrap().clone();
    (output, phases)
}

#[track_caller]
fn all_is_well(phase: &Value) {
    for field in ["mismatches", "lost", "errors", "destroyed_on_caller", "no_block_violations"] {
        assert_eq!(number(phase, field), 0, "{field}: {phase}");
    }
    balanced(phase);
}

#[track_caller]
fn balanced(phase: &Value) {
    let [created, destroyed, alive] =
        ["pools_created", "pools_destroyed", "pools_alive"].map(|field| number(phase, field));
    assert_eq!((created, alive), (destroyed + 1, 1), "{phase}");
    assert_eq!(number(phase, "switches"), created + number(phase, "pools_revived"), "{phase}");
    let ns = &phase["switch_ns"];
    assert!(
        number(ns, "p50") <= number(ns, "p99") && number(ns, "p99") <= number(ns, "max"),
        "{phase}"
    );
    assert!(
        phase["seconds"].as_f64().unwrap() > 0.0 && phase["switches_per_s"].as_f64().unwrap() > 0.0
    );
    number(phase, "pending_destroy_max");
}

/// A storm on the queue loses no block and blocks no caller.
#[test]
fn storm_on_queue_keeps_contracts() {
    let (output, phases) = storm(&["--threads", "2"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let [empty, loaded] = &phases[..] else { panic!("two phases: {phases:?}") };
    all_is_well(empty);
    all_is_well(loaded);
    assert_eq!((&empty["phase"], &loaded["phase"]), (&"empty".into(), &"loaded".into()));
    assert!(number(empty, "pools_destroyed") >= number(empty, "switches") - 1);
    assert_eq!((number(empty, "stores"), number(empty, "loads")), (0, 0));
    assert!(number(loaded, "stores") > 0 && number(loaded, "loads") > 0);
}

/// A storm by hand, with a file of pages and without revivals.
#[test]
fn storm_on_manual_executor() {
    let folder = tempfile::tempdir().unwrap();
    let file = pages(folder.path());
    let specs =
        ["--spec", "zbud+lz4", "--spec", "zsmalloc+lzo", "--spec", "zsmalloc+zstd(level=-1)"];
    let how = ["--executor", "manual", "--fresh", "--phase", "loaded", "--threads", "3"];
    let (output, phases) = storm(&[&[file.to_str().unwrap()][..], &specs, &how].concat());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let [loaded] = &phases[..] else { panic!("one phase: {phases:?}") };
    all_is_well(loaded);
    assert_eq!(number(loaded, "pools_revived"), 0);
}

/// A storm at a limit stays within its bound and returns no stale block.
#[test]
fn storm_at_limit_stays_in_bound() {
    for (policy, at_limit) in [("refuse", "refused"), ("evict", "evicted")] {
        // A busy machine needs longer to reach the limit.
        let run = |seconds: u32| {
            let seconds = seconds.to_string();
            let how = ["--limit-mib", "2", "--policy", policy, "--seconds", &seconds, "--json"];
            let output = zlab(&[&["storm", "--phase", "loaded"][..], &how].concat());
            assert!(output.status.success(), "{}", stderr(&output));
            json(&output)["phases"][0].clone()
        };
        let reached =
            [1, 8, 64].into_iter().map(run).find(|phase| phase[at_limit].as_u64().unwrap() > 0);
        let phase = reached.expect("the limit is reached");
        let number = |name: &str| phase[name].as_u64().unwrap();
        assert!(number("over_limit_max_bytes") <= number("over_limit_bound_bytes"));
        assert_eq!(
            (number("stale"), number("mismatches"), number("lost"), number("errors")),
            (0, 0, 0, 0)
        );
    }
}

/// A storm with drains loses no block, and the last drain leaves one pool.
#[test]
fn storm_with_drains_leaves_one_pool() {
    let specs = ["--spec", "zsmalloc+lz4", "--spec", "zsmalloc(chain=4)+lz4", "--spec", "zbud+lzo"];
    let how = ["--drain", "--phase", "loaded", "--delay-ms", "5"];
    let (output, phases) = storm(&[&specs[..], &how].concat());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let [loaded] = &phases[..] else { panic!("one phase: {phases:?}") };
    all_is_well(loaded);
    let drain = &loaded["drain"];
    assert!(number(drain, "copied") > 0 && number(drain, "recompressed") > 0, "{drain}");
    assert_eq!(number(drain, "moved"), number(drain, "copied") + number(drain, "recompressed"));
    assert_eq!((number(drain, "left"), number(drain, "pools_alive")), (0, 1), "{drain}");
}

/// A storm without a queue finds the original bug.
#[test]
fn storm_without_queue_finds_bug() {
    let (output, phases) = storm(&["--executor", "inline"]);
    assert_eq!(output.status.code(), Some(1));
    let [empty, loaded] = &phases[..] else { panic!("two phases: {phases:?}") };
    for phase in [empty, loaded] {
        balanced(phase);
        assert_eq!((number(phase, "mismatches"), number(phase, "lost")), (0, 0), "{phase}");
    }
    assert!(number(empty, "no_block_violations") > 0);
    assert_eq!(number(empty, "destroyed_on_caller"), number(empty, "pools_destroyed"));
    // The message has the operation and the line where it says that it may block.
    let line = stderr(&output);
    assert_eq!(line.lines().count(), 1, "{line}");
    assert!(line.contains("may block") && line.contains(".rs:"), "{line}");
}
