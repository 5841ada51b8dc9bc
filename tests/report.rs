//! `neuroshard report`: pages from folders that tests write, and what a real browser makes of them.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use neuroshard::report;

const EVIL: &str = "</script><script>alert(1)</script>&\"'<b>";

/// A result of `simulate`: `clusters` of which `liars` follow `attack`, under `rule`.
fn simulation(
    dir: &Path,
    name: &str,
    rule: &str,
    attack: (&str, usize),
    seed: u64,
    losses: &[f64],
) {
    let folder = dir.join(name);
    fs::create_dir_all(&folder).unwrap();
    let mut scenario = format!(
        "[scenario]\nname = \"s\"\nseed = {seed}\n[aggregate]\nrule = \"{rule}\"\n[[clusters]]\ncount = {}\n",
        8 - attack.1
    );
    if attack.1 > 0 {
        let _ = write!(
            scenario,
            "[[clusters]]\ncount = {}\nattack = {{ kind = \"{}\" }}\n",
            attack.1, attack.0
        );
    }
    fs::write(folder.join("scenario.toml"), scenario).unwrap();
    let mut rounds = String::new();
    for (i, loss) in losses.iter().enumerate() {
        let loss = if loss.is_finite() { loss.to_string() } else { "null".to_owned() };
        let _ = writeln!(
            rounds,
            "{{\"exchange\":{i},\"tokens\":{},\"time_s\":{},\"bytes_up\":1000,\"train_loss\":{loss},\
             \"eval_loss\":{loss},\"utilization\":0.9,\"rejected\":1,\"skipped\":null,\"peers\":[]}}",
            1000 * (i + 1),
            10.0 * (i + 1) as f64 + seed as f64
        );
    }
    fs::write(folder.join("rounds.jsonl"), rounds).unwrap();
    let ending = if losses.last().is_some_and(|l| l.is_finite()) { "finished" } else { "diverged" };
    fs::write(folder.join("summary.json"), format!("{{\"ending\":\"{ending}\"}}")).unwrap();
}

/// A falling curve that ends at `end`.
fn falling(end: f64) -> Vec<f64> {
    (1..=20).map(|i| end + 5.0 / f64::from(i) - 0.25).collect()
}

fn sweep(dir: &Path) {
    for seed in 1..=3u64 {
        let shift = 0.01 * seed as f64;
        for (rule, cost) in [("mean", 2.0), ("krum", 0.3), ("geometric_median", 0.04)] {
            let run = |name: &str, attack, losses: &[f64]| {
                let name = format!("{rule}-{name}-{seed}");
                simulation(dir, &name, rule, attack, seed, losses);
            };
            run("none", ("", 0), &falling(3.0 + shift));
            run("flip", ("sign_flip", 2), &falling(3.0 + cost + shift));
            let mut diverged = falling(3.0);
            diverged[15..].fill(f64::NAN);
            run("alie", ("alie", 2), if rule == "mean" { &diverged } else { &diverged[..15] });
        }
    }
}

/// A run of `train` with a line for each of `steps`.
fn training(dir: &Path, name: &str, steps: usize) {
    let folder = dir.join(name);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("config.toml"), format!("[run]\nseed = {}\n", name.len())).unwrap();
    let mut lines = String::with_capacity(200 * steps);
    for i in 1..=steps {
        let loss = 4.0 + 6.0 / (1.0 + i as f64 / 50.0) + 0.05 * ((i * 37) % 11) as f64;
        let loss = if i % 977 == 500 { "null".to_owned() } else { format!("{loss:.4}") };
        let _ = writeln!(
            lines,
            "{{\"kind\":\"step\",\"step\":{i},\"loss\":{loss},\"lr\":{:e},\"grad_norm\":{},\"skipped\":false,\
             \"tokens\":{},\"step_ms\":12.5,\"exchange_ms\":0.0,\"tokens_per_s\":{},\"gflops\":1.0,\"mfu\":null}}",
            1e-3 * (i.min(100) as f64 / 100.0),
            1.0 + (i % 7) as f64,
            8192 * i,
            655_360.0 + (i % 13) as f64
        );
        if i % (steps / 10).max(1) == 0 {
            let _ =
                writeln!(lines, "{{\"kind\":\"eval\",\"step\":{i},\"loss\":4.5,\"eval_ms\":5.0}}");
        }
    }
    fs::write(folder.join("metrics.jsonl"), lines).unwrap();
}

fn page(paths: &[PathBuf]) -> String {
    report::html(paths, "title").expect("a page")
}

#[test]
fn a_sweep_has_its_parts_with_the_right_numbers() {
    let dir = tempfile::tempdir().unwrap();
    sweep(dir.path());
    let html = page(&[dir.path().to_owned()]);
    for words in [
        "<h2>Simulations</h2>",
        "<h3>Summary</h3>",
        "<h3>Final loss by attack and rule</h3>",
        "<h3>Loss</h3>",
        "<h3>Scenarios</h3>",
        "Loss over tokens",
        "Loss over virtual time",
        "Loss over bytes",
        "<th>sign_flip, 2 of 8</th>",
        "<th>geometric_median</th>",
    ] {
        assert!(html.contains(words), "no {words}");
    }
    // Against the honest mean of 3.02: krum ends 0.3 higher, the median 0.04; the mean diverged.
    for (class, words) in
        [("h3", "+9.9%"), ("h1", "+1.3%"), ("h5", "+66.2%"), ("hx", "diverged"), ("h0", "+0.0%")]
    {
        let cell = format!("<td class=\"h {class}\">{words}</td>");
        assert!(html.contains(&cell), "no {cell}");
    }
    assert!(html.contains("<td class=\"n\">3</td>"), "three seeds");
    assert!(html.contains("class=\"b c1\""), "bands over seeds");
    assert!(html.matches("<svg viewBox").count() == 3);
    assert!(!html.contains("NaN") && !html.contains(">inf"));
    assert!(!html.contains("class=\"warn\""), "nothing is missing");
}

#[test]
fn training_runs_are_compared() {
    let dir = tempfile::tempdir().unwrap();
    training(dir.path(), "a", 3000);
    training(dir.path(), "bb", 500);
    let html = page(&[dir.path().join("a"), dir.path().join("bb")]);
    for words in [
        "Training runs",
        "Training loss over tokens",
        "Training loss over time",
        "Held-out loss over tokens",
        "Learning rate",
        "Norm of the gradient",
        "tokens a second",
        "run.seed",
        "config.toml, BLAKE3 ",
        "without a value",
    ] {
        assert!(html.contains(words), "no {words}");
    }
    // Nobody logged these.
    assert!(!html.contains("Model FLOP utilization") && !html.contains("Memory</figcaption>"));
    assert!(!html.contains("NaN"));
}

#[test]
fn nothing_from_a_file_becomes_markup() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("run <b>&\"' x");
    fs::create_dir_all(&folder).unwrap();
    let quoted = serde_json::to_string(EVIL).unwrap();
    fs::write(folder.join("rounds.jsonl"), "{\"eval_loss\":3,\"skipped\":\"</p>\"}\n<script>\n")
        .unwrap();
    fs::write(
        folder.join("scenario.toml"),
        format!("x = {quoted}\n[aggregate]\nrule = {quoted}\n"),
    )
    .unwrap();
    fs::write(folder.join("summary.json"), format!("{{\"scenario\":{quoted}}}")).unwrap();
    let other = dir.path().join("other");
    fs::create_dir_all(&other).unwrap();
    fs::write(other.join("rounds.jsonl"), "{\"eval_loss\":3}\n").unwrap();
    fs::write(
        other.join("scenario.toml"),
        format!("[[clusters]]\nattack = {{ kind = {quoted}, rounds = 3 }}\n"),
    )
    .unwrap();
    let trained = dir.path().join("trained");
    fs::create_dir_all(&trained).unwrap();
    fs::write(trained.join("metrics.jsonl"), format!("{{\"kind\":{quoted},\"loss\":1}}\n"))
        .unwrap();
    fs::write(trained.join("config.toml"), EVIL).unwrap();
    let html = report::html(&[dir.path().to_owned()], EVIL).unwrap();
    assert!(
        !html.contains("<script") && !html.contains("<b>&") && !html.contains("alert(1)</script>")
    );
    assert!(html.contains("&lt;script&gt;alert(1)"));
}

#[test]
fn folders_with_little_or_nothing_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str, file: &str, text: &str| {
        fs::create_dir_all(dir.path().join(name)).unwrap();
        fs::write(dir.path().join(name).join(file), text).unwrap();
        dir.path().join(name)
    };
    for (file, text) in
        [("metrics.jsonl", ""), ("metrics.jsonl", "{\"kind\":\"st"), ("rounds.jsonl", "")]
    {
        let html = page(&[at("empty", file, text)]);
        assert!(html.contains("class=\"warn\"") && html.ends_with("</html>\n"), "{file}");
        fs::remove_dir_all(dir.path().join("empty")).unwrap();
    }
    let html = page(&[at("one", "rounds.jsonl", "{\"tokens\":5,\"eval_loss\":3.5}\n")]);
    assert!(html.contains("<circle") && html.contains("one: summary.json"));
    let html = page(&[at("point", "metrics.jsonl", "{\"kind\":\"step\",\"step\":1,\"loss\":2}\n")]);
    assert!(html.contains("<circle") && !html.contains("NaN"));
    fs::create_dir(dir.path().join("none")).unwrap();
    let refused = report::html(&[dir.path().join("none")], "t").unwrap_err().to_string();
    assert!(refused.contains("has no run"), "{refused}");
}

#[test]
fn long_runs_make_short_pages() {
    let dir = tempfile::tempdir().unwrap();
    training(dir.path(), "long", 100_000);
    let html = page(&[dir.path().join("long")]);
    assert!(html.len() < 400_000, "{}", html.len());
    assert!(html.contains("<td class=\"n\">100000</td>"));
}

#[test]
fn the_command_writes_the_page_or_says_why_not() {
    let dir = tempfile::tempdir().unwrap();
    training(dir.path(), "run", 20);
    let out = dir.path().join("page.html");
    let run = |folder: &str| {
        Command::new(env!("CARGO_BIN_EXE_neuroshard"))
            .args(["report", "--title", "my page", "--out"])
            .arg(&out)
            .arg(dir.path().join(folder))
            .output()
            .expect("the program starts")
    };
    for _ in 0..2 {
        assert!(run("run").status.success());
        assert!(fs::read_to_string(&out).unwrap().contains("<title>my page</title>"));
    }
    let folder = Command::new(env!("CARGO_BIN_EXE_neuroshard"))
        .args(["report", "--out"])
        .args([dir.path(), &dir.path().join("run")])
        .output()
        .expect("the program starts");
    assert_eq!(folder.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&folder.stderr).contains("is a folder; name a file"));
    let failed = run("missing");
    assert_eq!(failed.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&failed.stderr).contains("missing"));
}

/// A browser of this machine, if it has one.
fn browser() -> Option<&'static str> {
    let names = ["chromium", "chromium-browser", "google-chrome", "chrome"];
    names.into_iter().find(|name| Command::new(name).arg("--version").output().is_ok())
}

/// Loads the page in headless Chromium: every picture has an extent, nothing sticks out to the side, and
/// the screenshot is no empty sheet.
#[test]
fn a_real_browser_shows_the_page() {
    let Some(browser) = browser() else {
        eprintln!("SKIPPED a_real_browser_shows_the_page: no chromium on this machine");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    sweep(&dir.path().join("sweep"));
    training(dir.path(), "trained", 2000);
    let html = page(&[dir.path().join("sweep"), dir.path().join("trained")]);
    // The test's own copy may run a script, which measures; the page itself forbids all.
    let measured = html
        .replace("default-src 'none'; style-src 'unsafe-inline'", "script-src 'unsafe-inline'")
        .replace(
            "</body>",
            "<script>window.onload=()=>{const flat=[...document.querySelectorAll('.chart > svg')].filter(\
             s=>!s.closest('details:not([open])')&&(s.getBoundingClientRect().width<200||\
             s.getBoundingClientRect().height<100)).length;document.title='flat '+flat+' wide '+\
             (document.documentElement.scrollWidth-window.innerWidth)+' svg '+\
             document.querySelectorAll('.chart > svg').length}</script></body>",
        );
    for (width, scheme) in [(1300, "light"), (500, "dark")] {
        let file = dir.path().join(format!("{scheme}.html"));
        let picture = dir.path().join(format!("{scheme}.png"));
        fs::write(&file, &measured).unwrap();
        let start = |more: &[&str]| {
            Command::new(browser)
                .args(["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"])
                .arg(format!("--user-data-dir={}", dir.path().join("profile").display()))
                .arg(format!("--window-size={width},1400"))
                .args(more)
                .arg(format!("file://{}", file.display()))
                .output()
                .expect("the browser starts")
        };
        let dom = String::from_utf8(start(&["--dump-dom"]).stdout).expect("text");
        let title =
            dom.split("<title>").nth(1).and_then(|t| t.split("</title>").next()).unwrap_or("");
        assert_eq!(title, "flat 0 wide 0 svg 9", "at {width} points");
        let shot = start(&[&format!("--screenshot={}", picture.display())]);
        let size = fs::metadata(&picture).map(|m| m.len()).unwrap_or(0);
        assert!(size > 20_000, "{size}: {}", String::from_utf8_lossy(&shot.stderr));
    }
}
