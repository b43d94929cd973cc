//! The command line from outside: misspelt commands, help, completions, narrow tables, and `-`.

use std::fs;
use std::process::Command;

use crate::common::{records, stdout, zlab};
use serde_json::Value;

/// A misspelt command is not reported as a missing file.
#[test]
fn misspelt_command_is_named() {
    for (args, meant) in [
        (&["anaylze"][..], "`zlab analyze`"),
        (&["strom", "--seconds", "1"], "`zlab storm`"),
        (&["tpo", "--pid", "1"], "`zlab top`"),
        (&["storm", "--fersh"], "`--fresh`"),
    ] {
        let output = zlab(args);
        let line = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), line.lines().count()), (Some(2), 1), "{line}");
        assert!(line.contains(&format!("did you mean {meant}?")), "{line}");
    }
    let folder = tempfile::tempdir().unwrap();
    // A file of such a name is a file.
    fs::write(folder.path().join("strom"), "short").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_zlab"))
        .arg("strom")
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("less than one block"));
}

#[test]
fn shells_have_completions() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = stdout(&zlab(&["completions", shell]));
        assert!(script.contains("analyze") && script.contains("max-blocks"), "{shell}");
    }
    assert_eq!(zlab(&["completions", "cmd"]).status.code(), Some(2));
}

/// Tables for people have at most 80 columns.
#[test]
fn tables_fit_80_columns() {
    let folder = tempfile::tempdir().unwrap();
    let file = records(folder.path(), 1 << 19);
    let file = file.to_str().unwrap();
    for args in [
        &["analyze", file, "--max-mib", "1"][..],
        &["analyze", file, "--sweep", "--block-size", "4096"],
        &["density", file, "--max-blocks", "100"],
        &["storm", "--seconds", "0.2", "--limit-mib", "8"],
        &["classes"],
        &["backends"],
        &["help"],
        &["help", "storm"],
    ] {
        let text = stdout(&zlab(args));
        // The first lines of a report name the user's file, however long its name is.
        for line in text.lines().filter(|line| !line.contains(file)) {
            assert!(line.chars().count() <= 80, "{args:?}: {line}");
        }
        assert!(text.lines().count() > 5, "{text}");
    }
}

/// `-` as an output is the standard output, and the report goes to the standard error.
#[test]
fn dash_writes_stdout() {
    let folder = tempfile::tempdir().unwrap();
    let file = records(folder.path(), 1 << 19);
    let file = file.to_str().unwrap();
    let output = zlab(&["train", file, "-o", "-", "--block-size", "512", "--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!(report["dictionary_bytes"], output.stdout.len());
    assert_eq!(report["spec"], "zstd(dict=DICT)");
    let sweep = ["--sweep", "--block-size", "1024", "--plot", "-", "--json"];
    let output = zlab(&[&["analyze", file][..], &sweep].concat());
    let chart = String::from_utf8(output.stdout).unwrap();
    assert!(chart.starts_with("<svg") && chart.ends_with("</svg>\n"));
    let report: Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!(report["recommended"]["small"]["block_size"], 1024);
}

/// `replay --json` has a row per allocator, and the one that is wrong ends the list.
#[test]
fn replay_prints_json() {
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("list");
    fs::write(&list, "insert 100 fill 1\nread 0\n").unwrap();
    let report = stdout(&zlab(&["replay", list.to_str().unwrap(), "--json"]));
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["actions"], 2);
    assert_eq!(report["results"].as_array().unwrap().len(), 2);
    assert_eq!(report["results"][0], serde_json::json!({"subject": "zbud"}));
}
