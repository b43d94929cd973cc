//! The program from outside: its errors and help, and the shape and the sums of its JSON.

use std::fs;

use crate::common::{BLOCK, json, number, pages, refused, zlab};

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
