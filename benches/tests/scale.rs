//! The command line of `scale`, as the programs that read its report use it.

use std::process::{Command, Output};

use serde_json::Value;

fn scale(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_scale")).args(arguments).output().expect("the program starts")
}

/// One part runs in a child, and its rows are one JSON object with file, name, value and range.
#[test]
fn scale_only_prints_the_rows_of_one_part() {
    let output = scale(&["--quick", "--json", "--only", "threads_of_100_stores"]);
    assert!(output.status.success(), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let rows = report["results"].as_array().unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0]["file"], "quick -");
    assert_eq!(rows[0]["name"], "threads_of_100_stores");
    let value = rows[0]["value"].as_f64().unwrap();
    assert!(value >= 1.0 && rows[0]["range"] == serde_json::json!([value, value]), "{report}");
}

/// A name that is neither a part nor a figure is an error that lists the parts.
#[test]
fn scale_unknown_name_lists_parts() {
    let output = scale(&["--only", "nothing"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("order-1m"), "{output:?}");
}
