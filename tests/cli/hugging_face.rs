//! Out to a Hugging Face folder and back in, by the commands.

use std::fs;
use std::path::Path;

use crate::process::neuroshard;
use crate::process::train;

/// The weights' hashes of a checkpoint, by name.
fn weights(run: &Path) -> Vec<(String, String)> {
    let ran = neuroshard(&["checkpoint", "show", run.to_str().unwrap(), "--json"]).ok();
    let manifest: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    let tensors = manifest["tensors"].as_array().unwrap().iter();
    let text = |v: &serde_json::Value| v.as_str().unwrap().to_owned();
    let weights = tensors.filter(|t| t["group"] == "weights");
    weights.map(|t| (text(&t["name"]), text(&t["hash"]))).collect()
}

/// What the model of a run says.
fn says(run: &Path, prompt: &str) -> (String, String) {
    let run = run.to_str().unwrap();
    let logits = neuroshard(&["logits", "--checkpoint", run, "--tokens", "5,1,9,2,0"]).ok().stdout;
    let text = ["generate", "--checkpoint", run, "--tokens", "9", "--seed", "3"];
    (logits, neuroshard(&[&text[..], &["--prompt", prompt]].concat()).ok().stdout)
}

#[test]
fn a_run_comes_back_to_the_bit() {
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name);
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    for (name, sets) in [
        ("tied", &["model.tied=true", "model.heads=6", "model.kv_heads=3"][..]),
        ("untied", &["model.head_dim=6", "numerics.profile=f32"]),
    ] {
        let (run, hf, back) = (at(name), at(&format!("{name}-hf")), at(&format!("{name}-back")));
        train(&run, &[sets, &["train.steps=5", "model.norm_eps=1e-6"]].concat()).ok();
        let ran = neuroshard(&["export", &text(&run), "--hf", &text(&hf)]).ok();
        assert!(
            ran.stdout.contains("in 1 file") && ran.stdout.contains("step 5"),
            "{}",
            ran.stdout
        );
        let profile = if name == "tied" { "numerics.profile=bf16" } else { sets[1] };
        let import = ["import", "--hf", &text(&hf), "--out", &text(&back), "--set", profile];
        let ran = neuroshard(&import).ok();
        assert!(ran.stdout.contains("the synthetic language's"), "{}", ran.stdout);
        assert_eq!(weights(&run), weights(&back), "{name}");
        assert_eq!(says(&run, ""), says(&back, ""), "{name}");
        neuroshard(&["checkpoint", "verify", &text(&back)]).ok();
        // Out again: the same bytes, in many files too.
        let (again, many) = (at(&format!("{name}-again")), at(&format!("{name}-many")));
        neuroshard(&["export", &text(&back), "--hf", &text(&again)]).ok();
        let bytes = |dir: &Path| fs::read(dir.join("model.safetensors")).unwrap();
        assert!(bytes(&hf) == bytes(&again), "{name}");
        let export = ["export", &text(&back), "--hf", &text(&many), "--max-file-bytes", "4000"];
        neuroshard(&export).ok();
        assert!(fs::read_dir(&many).unwrap().count() > 8);
        let back = at(&format!("{name}-second"));
        neuroshard(&["import", "--hf", &text(&many), "--out", &text(&back)]).ok();
        assert_eq!(weights(&run), weights(&back), "{name}");
    }
}

#[test]
fn training_goes_on_from_an_imported_folder() {
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name).to_str().unwrap().to_owned();
    let (texts, data, run, hf, back) = (at("t"), at("d"), at("r"), at("hf"), at("b"));
    fs::create_dir(&texts).unwrap();
    let pages =
        (0..400).map(|i| format!("page {i}: the sum of {i} and {} is {}\n", i + 7, 2 * i + 7));
    fs::write(format!("{texts}/pages.txt"), pages.collect::<String>()).unwrap();
    neuroshard(&["data", "prepare", &texts, "--out", &data, "--vocab-size", "300"]).ok();
    let of_data = format!("data.dir={data}");
    let sets = [&of_data, "model.vocab=310", "train.steps=30", "optim.lr=0.003"];
    train(Path::new(&run), &sets).ok();
    neuroshard(&["export", &run, "--hf", &hf]).ok();
    // The tokenizer is the data's own, and its end of text is known by name and number.
    let read = |name: &str| fs::read_to_string(format!("{hf}/{name}")).unwrap();
    assert_eq!(
        read("tokenizer.json"),
        fs::read_to_string(format!("{data}/tokenizer.json")).unwrap()
    );
    assert!(read("tokenizer_config.json").contains(r#""eos_token": "<|endoftext|>""#));
    assert!(read("generation_config.json").contains(r#""eos_token_id": 0"#));

    let settings = [&of_data[..], "train.seq_len=16", "train.batch_sequences=4", "train.steps=8"];
    let sets: Vec<_> = settings.iter().flat_map(|s| ["--set", s]).collect();
    neuroshard(&[&["import", "--hf", &hf, "--out", &back][..], &sets].concat()).ok();
    assert_eq!(says(Path::new(&run), "page 7"), says(Path::new(&back), "page 7"));
    let eval = |run: &str| {
        let args = ["eval", "--checkpoint", run, "--json", "--sequences", "4"];
        let said: serde_json::Value = serde_json::from_str(&neuroshard(&args).ok().stdout).unwrap();
        said["loss"].as_f64().unwrap()
    };
    let before = eval(&run);
    assert_eq!(before, eval(&back));
    let resumed = format!("run.dir={back}");
    let ran = neuroshard(&["train", "--resume", "--set", &resumed]).ok();
    assert!(ran.stdout.contains("state hash"), "{}", ran.stdout);
    let steps = crate::process::losses(Path::new(&back));
    assert_eq!(steps.iter().map(|s| s.0).collect::<Vec<_>>(), (1..=8).collect::<Vec<_>>());
    // It began where the model was, not anew: a fresh one has ln 310 = 5.7.
    assert!(steps[0].1 < before + 0.5 && before < 5.4, "{steps:?}, {before}");

    // Data of another tokenizer is refused, and so are extents that are not the folder's.
    let (other, out) = (at("other"), at("o"));
    neuroshard(&["data", "prepare", &texts, "--out", &other, "--vocab-size", "290"]).ok();
    let import = |set: &str| neuroshard(&["import", "--hf", &hf, "--out", &out, "--set", set]);
    import(&format!("data.dir={other}")).refused(1, &["another tokenizer", "--tokenizer", &hf]);
    import("model.width=3").refused(1, &["model.width=3", &hf]);
    assert!(!Path::new(&out).exists());
}

#[test]
fn a_bad_folder_leaves_nothing_behind() {
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name).to_str().unwrap().to_owned();
    let (run, hf, out) = (at("run"), at("hf"), at("out"));
    train(Path::new(&run), &["train.steps=1"]).ok();
    neuroshard(&["export", &run, "--hf", &hf]).ok();
    let import = || neuroshard(&["import", "--hf", &hf, "--out", &out]);
    let x = at("x");
    // Damage that shows only when the values are read: the last of them is no number.
    let path = format!("{hf}/model.safetensors");
    let good = fs::read(&path).unwrap();
    let mut bytes = good.clone();
    let end = bytes.len();
    bytes[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(&path, &bytes).unwrap();
    import().refused(1, &["model.norm.weight: element 23 is NaN", &path]);
    fs::write(&path, &good[..end - 1]).unwrap();
    import().refused(1, &[&path, "get the file again"]);
    fs::write(&path, &good).unwrap();
    let tokenizer = format!("{hf}/tokenizer.json");
    fs::write(&tokenizer, "{}").unwrap();
    import().refused(1, &[&tokenizer, "--no-tokenizer"]);
    let mut left: Vec<_> =
        fs::read_dir(temp.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["hf", "run"]);
    neuroshard(&["import", "--hf", &hf, "--out", &out, "--no-tokenizer"]).ok();
    // What is there is not touched; what is no run is named.
    import().refused(1, &[&out, "exists"]);
    neuroshard(&["export", &run, "--hf", &hf]).refused(1, &[&hf, "exists"]);
    neuroshard(&["import", "--hf", &run, "--out", &x]).refused(1, &[&run, "no config.json"]);
    neuroshard(&["export", &hf, "--hf", &x]).refused(1, &[&hf]);
}
