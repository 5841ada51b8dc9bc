//! Runs of `neuroshard train` on a page.

use std::fs;
use std::path::Path;

use rayon::prelude::*;
use toml::Table;

use super::Error;
use super::difference;
use super::difference::Flat;
use super::page::Cell;
use super::page::Page;
use super::steps::Steps;
use crate::metrics::Line;
use crate::plot::Axis;
use crate::plot::Chart;
use crate::plot::Scale;
use crate::plot::Series;
use crate::plot::duration;
use crate::plot::number;
use crate::plot::si;

/// A run folder.
#[derive(Debug)]
pub(super) struct Run {
    name: String,
    steps: Steps,
    /// What it ran on.
    device: String,
    /// Text of `config.toml`, and its settings.
    text: Option<String>,
    settings: Flat,
    complaints: Vec<String>,
}

impl Run {
    /// Reads what is in the folder, which the page calls `name`.
    pub fn read(path: &Path, name: String) -> Result<Self, Error> {
        let steps = Steps::read(&path.join("metrics.jsonl"))?;
        let mut complaints: Vec<String> =
            steps.complaints.iter().map(|why| format!("{name}: {why}")).collect();
        let text = fs::read_to_string(path.join("config.toml"));
        let table = text.as_ref().map_err(ToString::to_string);
        let table = table.and_then(|t| t.parse::<Table>().map_err(|e| e.message().to_owned()));
        let settings = match table {
            Ok(table) => difference::flat(&table),
            Err(why) => {
                complaints.push(format!("{name}: config.toml: {why}"));
                Flat::new()
            }
        };
        let device = device(&path.join("device.json"));
        Ok(Self { name, steps, device, text: text.ok(), settings, complaints })
    }
}

/// What the run says that it computes on; runs of older programs say nothing.
fn device(path: &Path) -> String {
    let read = || -> Option<Table> { serde_json::from_slice(&fs::read(path).ok()?).ok() };
    let device = read().and_then(|table| table.get("device")?.as_str().map(str::to_owned));
    device.unwrap_or_else(|| difference::NONE.to_owned())
}

/// A column of the steps.
type Column = fn(&Line) -> Option<f64>;

/// Writes the part of all runs.
pub(super) fn show(runs: &[Run], page: &mut Page) {
    page.heading(if runs.len() == 1 { "Training" } else { "Training runs" });
    let complaints: Vec<String> = runs.iter().flat_map(|r| r.complaints.clone()).collect();
    page.warnings(&complaints);
    let settings: Vec<&Flat> = runs.iter().map(|run| &run.settings).collect();
    let mut varying = difference::varying(&settings);
    varying.retain(|key| key != "run.dir");
    table(runs, &varying, page);
    let lines = runs.len() * 9;
    let resolution = (40_000 / lines.max(1)).clamp(60, 400);
    let chart = |title: &str, x: &str, y: &str, scale, series: Vec<Series>| Chart {
        title: title.to_owned(),
        x: Axis::of(x, Scale::Linear),
        y: Axis::of(y, scale),
        series,
        levels: Vec::new(),
        resolution,
    };
    let over_tokens = |of: Column| series(runs, |run| run.steps.over_tokens(of));
    let mut figures = vec![
        chart(
            "Training loss over tokens",
            "tokens",
            "loss (nats)",
            Scale::Positive,
            over_tokens(|l| l.loss),
        ),
        chart(
            "Training loss over time",
            "seconds of training",
            "loss (nats)",
            Scale::Positive,
            series(runs, |run| run.steps.over_time(|l| l.loss)),
        ),
        chart(
            "Held-out loss over tokens",
            "tokens",
            "loss (nats)",
            Scale::Positive,
            evaluations(runs),
        ),
        chart("Learning rate", "tokens", "learning rate", Scale::Linear, over_tokens(|l| l.lr)),
        chart(
            "Norm of the gradient",
            "tokens",
            "norm before clipping",
            Scale::Auto,
            over_tokens(|l| l.grad_norm),
        ),
        chart("Speed", "tokens", "tokens a second", Scale::Linear, over_tokens(|l| l.tokens_per_s)),
        chart(
            "Model FLOP utilization",
            "tokens",
            "% of the device's peak",
            Scale::Linear,
            over_tokens(|l| l.mfu.map(|part| 100.0 * part)),
        ),
        chart("Memory", "tokens", "bytes", Scale::Linear, over_tokens(|l| l.memory_bytes)),
    ];
    // What no run has logged is not shown.
    figures.retain(|chart| chart.series.iter().any(|s| !s.points.is_empty()));
    let figures: Vec<String> = figures.par_iter().map(Chart::figure).collect();
    page.figures(&figures);
    page.subheading("Settings");
    for run in runs.iter().take(MAX_TEXTS) {
        if let Some(text) = &run.text {
            page.file(
                &format!("{}: config.toml, BLAKE3 {}", run.name, blake3::hash(text.as_bytes())),
                text,
            );
        }
    }
}

/// One line for each run.
fn series(runs: &[Run], of: impl Fn(&Run) -> Vec<[f64; 2]>) -> Vec<Series> {
    let line = |run: &Run| Series { name: run.name.clone(), points: of(run), band: Vec::new() };
    runs.iter().map(line).collect()
}

fn evaluations(runs: &[Run]) -> Vec<Series> {
    series(runs, |run| {
        let point = |(line, tokens, _): &(Line, f64, f64)| [*tokens, line.loss.unwrap_or(f64::NAN)];
        run.steps.evals.iter().map(point).collect()
    })
}

fn table(runs: &[Run], varying: &[String], page: &mut Page) {
    let shown = &varying[..varying.len().min(MAX_COLUMNS)];
    let mut head = vec!["run"];
    head.extend(shown.iter().map(String::as_str));
    head.extend([
        "steps",
        "tokens",
        "loss",
        "held-out loss",
        "perplexity",
        "time",
        "tokens/s",
        "MFU",
        "memory",
        "skipped",
        "device",
    ]);
    let rows: Vec<_> = runs
        .iter()
        .map(|run| {
            let mut row = vec![Cell::words(&run.name)];
            row.extend(shown.iter().map(|key| Cell::words(difference::value(&run.settings, key))));
            row.extend(numbers(&run.steps));
            row.push(Cell::words(&run.device));
            row
        })
        .collect();
    page.table(&head, &rows);
    if varying.len() > shown.len() {
        page.text(&format!("The runs differ in {} settings; the first are shown.", varying.len()));
    }
}

fn or_none(words: Option<String>) -> Cell {
    Cell::number(words.unwrap_or_else(|| difference::NONE.to_owned()))
}

fn numbers(steps: &Steps) -> Vec<Cell> {
    let of = |x: Option<f64>| {
        let words = x.filter(|x| x.is_finite()).map(|x| number(x, 5));
        Cell::number(words.unwrap_or_else(|| difference::NONE.to_owned()))
    };
    let last = steps.steps.last();
    let seconds = last.map(|step| step.1);
    let tokens = last.and_then(|step| step.0.tokens);
    let held_out = steps.evals.last().and_then(|eval| eval.0.loss);
    let skipped = steps.steps.iter().filter(|step| step.0.skipped == Some(true)).count();
    let known = |of: Column| {
        steps.steps.iter().filter_map(move |step| of(&step.0)).filter(|x| x.is_finite())
    };
    let mfu = known(|l| l.mfu).fold((0.0, 0.0), |(sum, count), x| (sum + x, count + 1.0));
    let mfu = (mfu.1 > 0.0).then(|| format!("{}%", number(100.0 * mfu.0 / mfu.1, 3)));
    let memory = known(|l| l.memory_bytes).reduce(f64::max).map(|bytes| si(bytes, "B"));
    let rate = tokens.zip(seconds).filter(|(_, s)| *s > 0.0).map(|(t, s)| si(t / s, ""));
    vec![
        Cell::number(last.and_then(|step| step.0.step).unwrap_or(0.0).to_string()),
        Cell::number(tokens.map_or(difference::NONE.to_owned(), |t| si(t, ""))),
        of(last.and_then(|step| step.0.loss)),
        of(held_out),
        of(held_out.map(f64::exp)),
        Cell::number(seconds.map_or(difference::NONE.to_owned(), duration)),
        or_none(rate),
        or_none(mfu),
        or_none(memory),
        Cell::number(skipped.to_string()),
    ]
}

/// Settings files shown at most.
const MAX_TEXTS: usize = 20;

/// Columns of settings at most.
const MAX_COLUMNS: usize = 8;
