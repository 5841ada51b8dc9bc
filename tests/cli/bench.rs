//! `neuroshard bench`: what it writes, and what it refuses.

use std::fs;

use crate::process::neuroshard;

#[test]
fn kernels_are_measured_into_a_table_lines_of_json_and_a_picture() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).display().to_string();
    let (json, svg) = (file("rows.jsonl"), file("roof.svg"));
    let mut args = vec!["bench", "kernels", "--quick", "--op", "swiglu,matmul"];
    args.extend(["--shape", "7x40,5x6x7", "--dtype", "f32,bf16", "--json", &json, "--svg", &svg]);
    let ran = neuroshard(&args).ok();
    assert!(ran.stdout.contains("2.5 times that backward"), "{}", ran.stdout);
    let text = fs::read_to_string(json).unwrap();
    let rows: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    // Two passes of swiglu in f32 alone; three layouts in both.
    assert_eq!(rows.len(), 2 + 3 * 2, "{text}");
    for row in &rows {
        for key in ["ms_p20", "ms_p50", "ms_p80", "bytes", "gb_per_s", "ceiling", "pct"] {
            assert!(row[key].as_f64().unwrap() > 0.0, "{key} in {row}");
        }
        assert_eq!(row["kind"], "kernel");
        assert_eq!(row["version"], env!("CARGO_PKG_VERSION"));
        assert!(row["device"].as_str().unwrap().starts_with("cpu"), "{row}");
    }
    assert_eq!(fs::read_to_string(svg).unwrap().matches("<title>").count(), rows.len());
}

#[test]
fn mistakes_are_refused_with_what_would_do() {
    let refused = |args: &[&str], words: &[&str]| {
        neuroshard(&[&["bench", "kernels", "--quick"], args].concat()).refused(1, words);
    };
    refused(&["--op", "matmull"], &["`matmull`", "matmul (NxIxO)"]);
    refused(&["--shape", "8by8"], &["--shape", "`8by8`", "8192x768"]);
    refused(&["--shape", "0x8"], &["`0x8`"]);
    refused(&["--dtype", "f8"], &["`f8`", "f32, bf16 or tc"]);
    refused(&["--model", "125"], &["model.preset", "125m"]);
    refused(&["--json", "/nowhere/at/all"], &["/nowhere/at/all"]);
    refused(&["--set", "device.tuning=some.toml"], &["device.tuning", "a CPU has no"]);
}

#[test]
fn a_cpu_has_nothing_to_sweep_and_levels_agree() {
    let args = ["bench", "kernels", "--quick", "--sweep", "--op", "norm", "--shape", "100"];
    let ran = neuroshard(&args).ok();
    assert!(ran.stdout.contains("nothing to tune"), "{}", ran.stdout);
    let ran = neuroshard(&["bench", "equal", "--op", "rope,cross_entropy", "--runs", "3"]).ok();
    assert!(ran.stdout.contains(" 0 of them wrong"), "{}", ran.stdout);
    let ran = neuroshard(&["bench", "tensor-core", "--outputs", "9000"]).ok();
    assert!(ran.stdout.contains(" 0 of them different"), "{}", ran.stdout);
}
