//! `train` and `analyze --sweep` from outside.

use std::fs;
use std::path::{Path, PathBuf};

use crate::common::{records, stderr, zlab};
use serde_json::Value;
use workload::Rng;

fn noise(folder: &Path, bytes: usize) -> PathBuf {
    let mut rng = Rng::new(8);
    let noise: Vec<u8> = (0..bytes / 8).flat_map(|_| rng.next_u64().to_le_bytes()).collect();
    let path = folder.join("noise.bin");
    fs::write(&path, noise).unwrap();
    path
}

/// A dictionary that pays is written and can be used.
#[test]
fn paying_dictionary_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let file = records(folder.path(), 1 << 20);
    let dictionary = folder.path().join("dictionary");
    let (file, dictionary) = (file.to_str().unwrap(), dictionary.to_str().unwrap());
    // For such short blocks a dictionary more than doubles the speed, so a busy machine does not
    // change the verdict.
    let output = zlab(&["train", file, "-o", dictionary, "--block-size", "512", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["written"], true);
    assert!(report["bytes_over_plain"].as_f64().unwrap() < 1.0, "{report}");
    assert!(fs::metadata(dictionary).unwrap().len() <= 4096);

    let spec = report["spec"].as_str().unwrap();
    let pair = ["--allocator", "zsmalloc", "--compressor", spec, "--block-size", "512", "--json"];
    let output = zlab(&[&["analyze", file][..], &pair].concat());
    let analyzed: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(analyzed["results"][0]["verified"], true);
    assert!(
        analyzed["results"][0]["compressor"].as_str().unwrap().contains("dict=xxh64:"),
        "{analyzed}"
    );
}

/// A dictionary that does not pay is refused and not written.
#[test]
fn useless_dictionary_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = noise(folder.path(), 1 << 20);
    let dictionary = folder.path().join("dictionary");
    let output = zlab(&["train", file.to_str().unwrap(), "-o", dictionary.to_str().unwrap()]);
    let line = stderr(&output);
    assert!(matches!(output.status.code(), Some(1 | 2)), "{line}");
    assert!(line.lines().count() == 1 && output.stdout.is_empty(), "{line}");
    assert!(!dictionary.exists());
}

/// A sweep recommends three settings of the front and draws them.
#[test]
fn sweep_recommends_from_front() {
    let folder = tempfile::tempdir().unwrap();
    let file = records(folder.path(), 1 << 20);
    let plot = folder.path().join("chart.svg");
    let (file, plot) = (file.to_str().unwrap(), plot.to_str().unwrap());
    let output =
        zlab(&["analyze", file, "--sweep", "--block-size", "1024", "--plot", plot, "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let settings = report["settings"].as_array().unwrap();
    let has = |part: &str| {
        settings.iter().any(|setting| setting["compressor"].as_str().unwrap().contains(part))
    };
    assert!(["lz4", "lzo", "level=19", "dict=DICT"].into_iter().all(has), "{report}");
    let bytes = |setting: &Value| setting["bytes_per_kib"].as_f64().unwrap();
    let fewest = settings.iter().map(bytes).fold(f64::INFINITY, f64::min);
    for name in ["fast", "balanced", "small"] {
        let advice = &report["recommended"][name];
        assert_eq!(advice["block_size"], 1024, "{name}");
        assert!(!advice["why"].as_str().unwrap().is_empty(), "{name}");
    }
    assert!(bytes(&report["recommended"]["small"]) <= fewest * 1.02 + 1e-9);
    assert!(settings.iter().any(|setting| setting["front"] == true));
    let chart = fs::read_to_string(plot).unwrap();
    assert!(chart.starts_with("<svg") && chart.trim_end().ends_with("</svg>"));
    // In both panels. The legend has marks too.
    assert!(chart.matches("class=\"mark ").count() >= 2 * settings.len());
}

/// A model of noise saves nothing, because noise cannot be predicted, so nothing is written.
#[test]
fn train_pagelz_model_of_noise_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = noise(folder.path(), 1 << 20);
    let model = folder.path().join("model");
    let (file, path) = (file.to_str().unwrap(), model.to_str().unwrap());
    let output = zlab(&["train", file, "-o", path, "--codec", "pagelz"]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains("does not pay here"), "{}", stderr(&output));
    assert!(!model.exists());
}

/// Bad input is one line and exit code 2.
#[test]
fn bad_input_is_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = records(folder.path(), 1 << 20);
    let short = noise(folder.path(), 8192);
    let (file, short) = (file.to_str().unwrap(), short.to_str().unwrap());
    let cases: &[(&[&str], &str)] = &[
        (&["train", file], "--output"),
        (&["train", "/no/such/file", "-o", "/dev/null"], "/no/such/file"),
        (&["train", file, "-o", "/no/such/folder/dictionary"], "/no/such/folder"),
        (&["train", file, "-o", "a(1),b"], "cannot be used in a pool spec"),
        (&["train", short, "-o", "/dev/null"], "too few samples"),
        (&["train", file, "-o", "/dev/null", "--level", "20"], "-7 to 19"),
        (
            &["train", file, "-o", "/dev/null", "--codec", "pagelz", "--level", "4"],
            "give one from 1 to 3",
        ),
        (&["train", short, "-o", "/dev/null", "--codec", "pagelz"], "2 blocks are too few"),
        (&["train", file, "-o", "/dev/null", "--max-bytes", "255"], "256"),
        (&["analyze", short, "--sweep"], "65536"),
        (&["analyze", file, "--sweep", "--block-size", "3000"], "not of 3000"),
        (&["analyze", file, "--sweep", "--compressor", "lz4"], "cannot be used"),
        (&["analyze", file, "--plot", "chart.svg"], "--sweep"),
    ];
    for (args, part) in cases {
        let output = zlab(args);
        let line = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {line}");
        assert!(output.stdout.is_empty() && line.lines().count() == 1, "{args:?}: {line}");
        assert!(line.contains(part), "{args:?}: {line}");
    }
}

/// If an input cannot be trained on, one line says what is missing, and nothing is written.
#[test]
fn train_names_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let block: Vec<u8> = (0..4096_u32).map(|i| (i % 251) as u8).collect();
    let cases: [(&str, Vec<u8>, &str); 4] = [
        ("few", block.repeat(12), "12 can be used, 13 are needed"),
        ("zeros", vec![0; 100 * 4096], "0 can be used, 13 are needed"),
        ("equal", block.repeat(100), "of 100 only 1 differ"),
        ("short", vec![1; 4095], "less than one block of 4096"),
    ];
    for (name, bytes, says) in cases {
        let (input, output) = (folder.path().join(name), folder.path().join("dictionary"));
        fs::write(&input, bytes).unwrap();
        let done = zlab(&["train", input.to_str().unwrap(), "-o", output.to_str().unwrap()]);
        let line = stderr(&done);
        assert_eq!((done.status.code(), line.lines().count()), (Some(2), 1), "{name}: {line}");
        assert!(line.contains(says) && !line.contains("generic"), "{name}: {line}");
        assert!(done.stdout.is_empty() && !output.exists(), "{name}");
    }
}
