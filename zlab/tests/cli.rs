//! The program from outside: its errors, the shape and the sums of its JSON, and short storms.

use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use workload::{Pages, Rng};

const BLOCK: usize = 4096;

fn zlab(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_zlab")).args(args).stdin(Stdio::null()).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Checks for bad input: exit code 2, one line on stderr, nothing on stdout. Returns the line.
#[track_caller]
fn refused(args: &[&str]) -> String {
    let output = zlab(args);
    let line = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{args:?}: {line}");
    assert!(output.stdout.is_empty(), "{args:?} prints to stdout");
    assert_eq!(line.lines().count(), 1, "{args:?}: {line}");
    line
}

/// Parses the JSON object on stdout.
#[track_caller]
fn json(output: &Output) -> Value {
    let stdout = String::from_utf8(output.stdout.clone()).unwrap();
    serde_json::from_str(&stdout)
        .unwrap_or_else(|error| panic!("{error}: {stdout:?}, {}", stderr(output)))
}

#[track_caller]
fn number(object: &Value, field: &str) -> u64 {
    object[field].as_u64().unwrap_or_else(|| panic!("no number {field} in {object}"))
}

/// 3 same-filled blocks, 5 that do not compress, 32 of text, and half a block at the end.
fn pages(folder: &Path) -> PathBuf {
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

/// An unknown back end is refused, and the known ones are listed.
#[test]
fn unknown_back_end_is_refused() {
    let allocators = "unknown allocator `slab` (known: zbud, zsmalloc)";
    let compressors = "unknown compressor `lz77` (known: lz4, lzo, pagelz, zstd)";
    assert!(refused(&["analyze", "--allocator", "slab"]).contains(allocators));
    assert!(refused(&["analyze", "--compressor", "lz77"]).contains(compressors));
    assert!(refused(&["storm", "--spec", "slab+lz4", "--spec", "zbud+lzo"]).contains(allocators));
    assert!(refused(&["storm", "--spec", "zbud+lzo", "--spec", "zbud+lz77"]).contains(compressors));
}

/// A malformed spec is refused, and the place is shown.
#[test]
fn malformed_spec_is_refused() {
    let error = refused(&["analyze", "--compressor", "zstd(level=)"]);
    assert!(error.contains("zstd(level=▸)") && error.contains("character 12"), "{error}");
    assert!(refused(&["analyze", "--allocator", "9"]).contains("▸9"));
    assert!(refused(&["storm", "--spec", "zsmalloc", "--spec", "zbud+lz4"]).contains("zsmalloc▸"));
    // A well-formed spec that the back end does not know.
    assert!(refused(&["analyze", "--compressor", "lz4(speed=9)"]).contains("`speed`"));
}

/// A missing, empty or short file is refused.
#[test]
fn unusable_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, contents: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, contents).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (empty, short) = (file("empty", b""), file("short", b"short"));
    for command in ["analyze", "storm"] {
        assert!(refused(&[command, "no such file"]).contains("\"no such file\""));
        assert!(refused(&[command, &empty]).contains("is empty"));
        assert!(refused(&[command, &short]).contains("less than one block"));
        assert!(
            refused(&[command, folder.path().to_str().unwrap()])
                .contains("neither a file nor a pipe")
        );
        // A name of two lines must not make the message two lines long.
        refused(&[command, "no such\nfile"]);
    }
    // Without a command, too.
    assert!(refused(&["no such file"]).contains("\"no such file\""));
}

/// A process that does not exist or may not be read is refused.
#[test]
fn unreadable_process_is_refused() {
    assert!(
        refused(&["analyze", "--pid", "4294967295"]).contains("there is no process 4294967295")
    );
    refused(&["analyze", "--pid", "-1"]);
    refused(&["analyze", "--pid", "init"]);
    // A user that may read everything is refused nothing.
    if fs::File::open("/proc/1/mem").is_err() {
        assert!(refused(&["analyze", "--pid", "1"]).contains("process 1 "));
    }
}

/// Numbers out of range are refused.
#[test]
fn wrong_number_is_refused() {
    assert!(refused(&["analyze", "--block-size", "0"]).contains("1 to 262144"));
    assert!(refused(&["analyze", "--block-size", "262145"]).contains("1 to 262144"));
    assert!(refused(&["analyze", "--max-mib", "0"]).contains("--max-mib"));
    assert!(refused(&["storm", "--threads", "0"]).contains("--threads"));
    assert!(refused(&["storm", "--seconds", "0"]).contains("--seconds"));
    assert!(refused(&["storm", "--seconds", "soon"]).contains("--seconds"));
    assert!(refused(&["backends", "--block-size", "0"]).contains("1 to 262144"));
}

/// Fewer than two different specs are refused.
#[test]
fn single_spec_is_refused() {
    assert!(refused(&["storm", "--spec", "zbud+lz4"]).contains("two or more different"));
    assert!(
        refused(&["storm", "--spec", "zbud+lz4", "--spec", " zbud + lz4 "])
            .contains("two or more different")
    );
}

#[test]
fn usage_errors_are_one_line_too() {
    assert!(refused(&["--nonsense"]).contains("--nonsense"));
    refused(&["analyze", "--pid", "1", "file"]);
    refused(&["storm", "--phase", "full"]);
    refused(&["storm", "--executor", "unheard-of"]);
    refused(&["storm", "--limit-mib", "0"]);
    refused(&["storm", "--limit-mib", "8", "--policy", "forget"]);
    refused(&["storm", "--policy", "evict"]);
    refused(&["storm", "one file", "another file"]);
    refused(&["backends", "file"]);
}

/// Every command has help on stdout.
#[test]
fn commands_have_help_on_stdout() {
    for args in
        [&["--help"][..], &["analyze", "--help"], &["storm", "--help"], &["backends", "--help"]]
    {
        let output = zlab(args);
        assert!(output.status.success() && output.stderr.is_empty(), "{args:?}");
        assert!(String::from_utf8(output.stdout).unwrap().contains("--json"), "{args:?}");
    }
}

/// Analyze measures and verifies every pair.
#[test]
fn analyze_verifies_every_pair() {
    let folder = tempfile::tempdir().unwrap();
    let file = pages(folder.path());
    let output = zlab(&["analyze", file.to_str().unwrap(), "--json"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let report = json(&output);
    let input = &report["input"];
    assert_eq!((number(input, "blocks"), number(input, "block_size")), (40, BLOCK as u64));
    assert_eq!(number(input, "bytes"), 40 * BLOCK as u64);
    let results = report["results"].as_array().unwrap();
    let pair = |r: &Value| {
        format!("{}+{}", r["allocator"].as_str().unwrap(), r["compressor"].as_str().unwrap())
    };
    let mut pairs: Vec<String> = results.iter().map(pair).collect();
    pairs.sort();
    let all = [
        "zbud+lz4",
        "zbud+lzo",
        "zbud+pagelz",
        "zbud+zstd",
        "zsmalloc+lz4",
        "zsmalloc+lzo",
        "zsmalloc+pagelz",
        "zsmalloc+zstd",
    ];
    assert_eq!(pairs, all);
    for result in results {
        assert_eq!(result["verified"], Value::Bool(true));
        let counts = ["stored", "same_filled", "rejected", "incompressible"]
            .map(|field| number(result, field));
        assert_eq!(counts, [37, 3, 0, 5], "{result}");
        let payload = number(result, "payload_bytes");
        assert!((5 * BLOCK as u64..37 * BLOCK as u64).contains(&payload), "{result}");
        assert!(number(result, "pool_bytes") >= payload, "{result}");
        assert!(
            number(result, "index_bytes") > 0 && number(result, "resident_bytes") > 0,
            "{result}"
        );
        result["context_bytes"].as_u64().unwrap();
        for ns in [&result["store_ns"], &result["load_ns"]] {
            assert!(ns["mean"].as_f64().unwrap() > 0.0, "{result}");
            assert!(number(ns, "p50") > 0 && number(ns, "p50") <= number(ns, "p99"), "{result}");
        }
    }
    // The same blocks have the same objects in every allocator.
    let payloads = |compressor: &str| {
        let of = results.iter().filter(|r| r["compressor"] == compressor);
        of.map(|r| number(r, "payload_bytes")).collect::<Vec<_>>()
    };
    for compressor in ["lz4", "lzo", "pagelz", "zstd"] {
        let [zbud, zsmalloc] = payloads(compressor)[..] else {
            panic!("two pairs with {compressor}")
        };
        assert_eq!(zbud, zsmalloc);
    }
}

/// `analyze` can be narrowed to one pair, and prints a table.
#[test]
fn analyze_of_one_pair_is_a_table() {
    let folder = tempfile::tempdir().unwrap();
    let file = pages(folder.path());
    let narrowed = ["--allocator", "zbud", "--compressor", "zstd(level=3)", "--compressor", "lz4"];
    let mut args =
        vec!["analyze", file.to_str().unwrap(), "--block-size", "1024", "--max-mib", "1"];
    args.extend(narrowed);
    let output = zlab(&args);
    assert!(output.status.success(), "{}", stderr(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    let verified: Vec<&str> = text.lines().filter(|line| line.ends_with("  yes")).collect();
    let [zstd, lz4] = verified[..] else { panic!("two rows: {text}") };
    assert!(zstd.starts_with("zbud") && zstd.contains("zstd(level=3)"), "{text}");
    assert!(lz4.starts_with("zbud") && lz4.contains("lz4"), "{text}");
    // No input is cut off but the half block: 40.5 blocks of 4096 bytes.
    assert!(text.starts_with("162 KiB in 162 blocks of 1024 bytes, from a file"), "{text}");
}

/// `analyze --cold` has a row per share of hot blocks, and draws a bar for each.
#[test]
fn analyze_cold_predicts_each_share() {
    let folder = tempfile::tempdir().unwrap();
    let (file, plot) = (pages(folder.path()), folder.path().join("cold.svg"));
    let [file, plot] = [&file, &plot].map(|path| path.to_str().unwrap());
    let cold = ["--cold", "zsmalloc+zstd(level=3)", "--hot", "0,25,100", "--plot", plot];
    let output = zlab(&[&["analyze", file, "--json"][..], &cold].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    let report = json(&output);
    assert_eq!(report["hot"].as_str().unwrap(), "zsmalloc+lz4");
    assert_eq!(report["cold"].as_str().unwrap(), "zsmalloc+zstd(level=3)");
    let results = report["results"].as_array().unwrap();
    let hot: Vec<u64> = results.iter().map(|row| number(row, "hot_percent")).collect();
    assert_eq!(hot, [0, 25, 100]);
    let cold: Vec<u64> = results.iter().map(|row| number(row, "made_cold")).collect();
    assert!(cold[0] > cold[1] && cold[1] > 0 && cold[2] == 0, "{report}");
    for row in results {
        assert_eq!(row["verified"], Value::Bool(true), "{row}");
        let [before, after] =
            ["object_bytes_before", "object_bytes_after"].map(|field| number(row, field));
        assert!(after * 8 <= before * 7, "{row}");
    }
    let svg = std::fs::read_to_string(plot).unwrap();
    assert_eq!(svg.matches("<rect").count(), 4, "{svg}");
}

/// `--cold` is refused where it predicts nothing.
#[test]
fn analyze_cold_is_refused_if_pointless() {
    let same = ["analyze", "--cold", "zbud+lz4"];
    assert!(refused(&same).contains("give another --cold"));
    let two = ["analyze", "--cold", "zbud+zstd", "--compressor", "lz4", "--compressor", "lzo"];
    assert!(refused(&two).contains("--compressor once"));
    refused(&["analyze", "--cold", "zbud+zstd", "--sweep"]);
    refused(&["analyze", "--cold", "zbud+zstd", "--hot", "101"]);
    refused(&["analyze", "--hot", "10"]);
    refused(&["analyze", "--plot", "chart.svg"]);
}

/// `analyze` of the user's processes names them.
#[test]
fn analyze_names_the_processes() {
    let args = ["--json", "--max-mib", "1", "--allocator", "zsmalloc", "--compressor", "lz4"];
    let output = zlab(&args);
    assert!(output.status.success(), "{}", stderr(&output));
    let report = json(&output);
    let blocks = number(&report["input"], "blocks");
    assert!((1..=256).contains(&blocks));
    assert!(stderr(&output).contains(&format!("in {blocks} blocks of 4096 bytes, ")));
    let result = &report["results"][0];
    assert_eq!(result["verified"], Value::Bool(true));
    let sum: u64 =
        ["stored", "same_filled", "rejected"].iter().map(|field| number(result, field)).sum();
    assert_eq!(sum, blocks);
    match report["input"]["source"].as_str().unwrap() {
        "processes" => assert!(!report["input"]["processes"].as_array().unwrap().is_empty()),
        "child" => assert!(stderr(&output).contains("because")),
        other => panic!("unknown source {other}"),
    }
}

/// The child that holds files writes pages of its own memory.
#[test]
fn held_files_are_in_the_sample() {
    let limit = 4 << 20;
    let output = zlab(&["hold-files", "4096", &limit.to_string()]);
    assert!(output.status.success(), "{}", stderr(&output));
    let pages = Pages::read_from(&output.stdout[..]).unwrap();
    assert_eq!(NonZeroUsize::new(pages.block_size()), NonZeroUsize::new(BLOCK));
    assert!(pages.bytes().len() > limit / 2 && pages.bytes().len() <= limit, "{pages:?}");
    // It reads the files of the build, this program first. Its strings name these crates on every
    // tenth page, so some are in any sample.
    assert!(pages.bytes().windows(5).any(|window| window == b"zpool"));
}

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

/// Back ends are listed with their capabilities and licences.
#[test]
fn backends_lists_capabilities() {
    let report = json(&zlab(&["backends", "--json"]));
    let rows = |kind: &str| report[kind].as_array().unwrap().clone();
    let names = |kind| {
        rows(kind).iter().map(|r| r["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names("allocators"), ["zbud", "zsmalloc"]);
    assert_eq!(names("compressors"), ["lz4", "lzo", "pagelz", "zstd"]);
    for allocator in rows("allocators") {
        assert!(number(&allocator, "max_object_len") >= BLOCK as u64, "{allocator}");
    }
    let lzo = rows("compressors").into_iter().find(|c| c["name"] == "lzo").unwrap();
    assert_eq!(lzo["licence"], "GPL-2.0-only");
    let table = String::from_utf8(zlab(&["backends"]).stdout).unwrap();
    for name in ["zbud", "zsmalloc", "lz4", "lzo", "pagelz", "zstd", "GPL-2.0-only"] {
        assert!(table.contains(name), "{name}: {table}");
    }
}

/// `density` has a row per allocator and counts the bytes that the OS counts.
#[test]
fn density_counts_resident_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let file = pages(folder.path());
    let output = zlab(&["density", file.to_str().unwrap(), "--repeat", "40", "--json"]);
    let report = json(&output);
    let rows = report["results"].as_array().unwrap();
    assert_eq!(rows.len(), 3);
    let payload = number(&rows[0], "payload_bytes");
    for row in rows {
        assert_eq!(row["file"], file.to_str().unwrap());
        assert_eq!(number(row, "payload_bytes"), payload);
        for stage in ["fill", "churn", "half_freed", "compacted"] {
            let ratio = row[stage].as_f64().unwrap();
            // Growth is counted from the free memory of the process, and the heap may find a few
            // pages there.
            assert!((0.95..4.0).contains(&ratio), "{stage}: {row}");
        }
        assert!(row["compact_ms"].as_f64().unwrap() >= 0.0);
    }
    let few = json(&zlab(&[
        "density",
        file.to_str().unwrap(),
        "--max-blocks",
        "9",
        "--allocator",
        "zbud",
        "--json",
    ]));
    assert!(number(&few["results"][0], "payload_bytes") <= 9 * 4096);
    assert!(
        refused(&["density", file.to_str().unwrap(), "--allocator", "unheard-of"])
            .contains("unheard-of")
    );
    refused(&["density", folder.path().join("none").to_str().unwrap()]);
}

/// Classes cover every length once.
#[test]
fn classes_cover_each_length_once() {
    let report = json(&zlab(&["classes", "--json"]));
    let rows = report["results"].as_array().unwrap();
    let mut next = 1;
    for row in rows {
        assert_eq!(number(row, "shortest"), next);
        next = number(row, "slot_bytes") + 1;
        let used = number(row, "slot_bytes") * number(row, "objects") + number(row, "tail_bytes");
        assert_eq!(used, number(row, "frames") * number(&report, "frame_bytes"));
    }
    assert_eq!(next, 4097);
    assert!(report["mean_waste"].as_f64().unwrap() < report["worst_waste"].as_f64().unwrap());
    let short = json(&zlab(&["classes", "--allocator", "zsmalloc(chain=4,step=64)", "--json"]));
    assert!(short["results"].as_array().unwrap().len() < rows.len());
    assert!(refused(&["classes", "--allocator", "zbud"]).contains("no size classes"));
}
