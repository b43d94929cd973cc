//! `zlab analyze`: what it verifies, counts and predicts.

use std::num::NonZeroUsize;

use crate::common::{BLOCK, json, number, pages, records, refused, stderr, stdout, zlab};
use serde_json::Value;
use workload::Pages;

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

/// `--train` says whether what is trained on cold blocks pays, and measures it only if so.
#[test]
fn analyze_cold_trains_on_cold_blocks() {
    let folder = tempfile::tempdir().unwrap();
    let file = records(folder.path(), 1 << 20);
    let trained = ["--cold", "zsmalloc+zstd", "--hot", "10", "--train", "--block-size", "512"];
    let output = zlab(&[&["analyze", file.to_str().unwrap(), "--json"][..], &trained].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    let report = json(&output);
    let (training, results) = (&report["training"], report["results"].as_array().unwrap());
    assert_eq!(training["pays"], true, "{training}");
    assert!(training["bytes_over_plain"].as_f64().unwrap() < 0.97, "{training}");
    assert!(training["spec"].as_str().unwrap().contains("dict=xxh64:"), "{training}");
    assert_eq!([&results[0]["trained"], &results[1]["trained"]], [false, true]);
    let held: Vec<u64> = results.iter().map(|row| number(row, "held_bytes")).collect();
    assert!(results.len() == 2 && held[1] < held[0], "{report}");
    assert!(results.iter().all(|row| row["verified"] == true), "{report}");
}

/// If nothing can be trained, `--train` says why, and the rest of the report is as without it.
#[test]
fn analyze_cold_train_says_why_not() {
    let folder = tempfile::tempdir().unwrap();
    let file = pages(folder.path());
    let cold = ["--cold", "zsmalloc+pagelz(level=3)", "--hot", "10,20", "--train"];
    let text = stdout(&zlab(&[&["analyze", file.to_str().unwrap()][..], &cold].concat()));
    assert!(text.contains("too few to train on"), "{text}");
    assert_eq!(text.lines().filter(|line| line.ends_with("  yes")).count(), 3, "{text}");
    assert!(!text.contains(" %, trained"), "{text}");
    let lz4 = ["analyze", "--cold", "zbud+lz4", "--compressor", "zstd", "--train"];
    assert!(refused(&lz4).contains("cannot be trained"));
    refused(&["analyze", "--train"]);
}

/// `--cold` is refused if it would predict nothing.
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
