//! `neuroshard plan`: answers at once for any size, and refuses what cannot be.

use crate::process::neuroshard;

#[test]
fn every_preset_is_planned_before_anything_is_allocated() {
    for preset in ["nano", "tiny", "125m", "350m", "1b", "3b", "7b", "13b", "70b"] {
        let ran = neuroshard(&[
            "plan",
            "--preset",
            preset,
            "--ranks",
            "1024",
            "--memory",
            "141GB",
            "--stages",
            "auto",
            "--zero",
            "auto",
            "--micro-batch",
            "1",
            "--json",
            "--set",
            "parallel.shards=1024",
            "--set",
            "train.batch_sequences=1024",
            "--set",
            "train.seq_len=4096",
            "--set",
            "model.recompute=true",
        ])
        .ok();
        let plan: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
        let number = |key: &str| plan[key].as_u64().unwrap();
        assert_eq!(number("stages") * number("data_ranks"), 1024);
        let totals = plan["total_bytes"].as_array().unwrap();
        assert_eq!(totals.len() as u64, number("stages"));
        assert!(totals.iter().all(|total| total.as_u64().unwrap() <= 141_000_000_000));
        assert!(plan["forecast"]["step_s"].as_f64().unwrap() > 0.0);
    }
}

#[test]
fn a_plan_names_every_class_and_cost() {
    let args = ["plan", "--ranks", "4", "--stages", "2", "--zero", "1", "--memory", "1GiB,512MiB"];
    let ran = neuroshard(&args).ok();
    for word in [
        "stage",
        "ranks",
        "layers",
        "weights (f32)",
        "gradients (f32)",
        "tree of sums",
        "moments",
        "activations",
        "communication",
        "evaluation",
        "program",
        "total",
        "available",
        "512.0 MiB",
        "reduce-scatter",
        "all-gather",
        "bubble",
        "step",
        "tokens/s",
    ] {
        assert!(ran.stdout.contains(word), "no {word} in:\n{}", ran.stdout);
    }
}

#[test]
fn what_does_not_fit_is_refused_with_the_table() {
    let ran = neuroshard(&["plan", "--preset", "70b", "--ranks", "8", "--memory", "24GiB"]);
    let words = ["does not fit", "too much by", "moments (2 x f32)", "every rank needs"];
    ran.refused(1, &words);
    let ran = neuroshard(&["plan", "--preset", "7b", "--ranks", "8", "--memory", "40GiB"]);
    ran.refused(1, &["it would fit with", "parallel."]);
}

#[test]
fn requests_that_cannot_be_are_refused_exactly() {
    for (args, words) in [
        (&["--ranks", "2", "--memory", "lots"][..], &["--memory lots", "24GiB"][..]),
        (&["--ranks", "2", "--memory", "24"], &["--memory 24", "24GiB"]),
        (&["--ranks", "2", "--memory=-1GiB"], &["--memory", "24GiB"]),
        (&["--ranks", "4", "--memory", "1GiB,2GiB,3GiB"], &["3 sizes", "each of the 4 ranks"]),
        (&["--ranks", "3", "--memory", "1GiB"], &["3 ranks do not divide the 8 shards"]),
        (
            &["--ranks", "16", "--memory", "1GiB"],
            &["16 ranks do not divide the 8 shards", "parallel.shards"],
        ),
        (&["--ranks", "7", "--memory", "1GiB", "--stages", "7"], &["7 stages", "1..=6"]),
        (&["--ranks", "4", "--memory", "1GiB", "--stages", "3"], &["4 ranks", "3 stages"]),
        (&["--ranks", "4", "--memory", "1GiB", "--stages", "few"], &["--stages few", "auto"]),
        (&["--ranks", "4", "--memory", "1GiB", "--zero", "4"], &["--zero 4", "0, 1, 2, 3"]),
        (&["--ranks", "0", "--memory", "1GiB"], &["--ranks 0"]),
        (&["--ranks", "4", "--memory", "1GiB", "--bandwidth", "0"], &["--bandwidth 0"]),
        (&["--ranks", "4", "--memory", "1GiB", "--host-ranks", "0"], &["--host-ranks 0"]),
        (&["--ranks", "4", "--set", "parallel.memory_gib=[1,2,3]"], &["parallel.memory_gib"]),
        (&["--ranks", "4", "--set", "parallel.memory_gib=[-1.0]"], &["parallel.memory_gib", "-1"]),
        (&["--ranks", "4", "--preset", "9b"], &["model.preset", "7b"]),
    ] {
        neuroshard(&[&["plan"], args].concat()).refused(1, words);
    }
    for args in [&["plan"][..], &["plan", "--ranks", "many"], &["plan", "--ranks", "-1"]] {
        assert_eq!(neuroshard(args).code, Some(2), "{args:?}");
    }
}
