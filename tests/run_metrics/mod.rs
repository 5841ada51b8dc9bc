//! The metrics of a run, for tests that compare runs.

use std::fs;
use std::path::Path;

/// Lines of the metrics file without what tells of the machine.
pub fn metrics(dir: &Path) -> Vec<String> {
    let timed =
        ["step_ms", "exchange_ms", "tokens_per_s", "gflops", "mfu", "memory_bytes", "eval_ms"];
    let text = fs::read_to_string(dir.join("metrics.jsonl")).unwrap();
    text.lines()
        .map(|line| {
            let mut value: serde_json::Value = serde_json::from_str(line).unwrap();
            timed.iter().for_each(|key| drop(value.as_object_mut().unwrap().remove(*key)));
            value.to_string()
        })
        .collect()
}
