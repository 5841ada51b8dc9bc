//! Simulations on a page: a summary, maps of attacks and rules, curves, utilization, scenarios.

use std::collections::BTreeMap;

use super::cells::Cell;
use super::cells::Spread;
use super::cells::cells;
use super::cells::is_attack;
use super::cells::is_rule;
use super::difference;
use super::difference::Flat;
use super::heat;
use super::heat::Map;
use super::page;
use super::page::Page;
use super::rounds::Exchange;
use super::simulation::ATTACK;
use super::simulation::HONEST;
use super::simulation::LIARS;
use super::simulation::PEERS;
use super::simulation::Run;
use crate::plot::Axis;
use crate::plot::Chart;
use crate::plot::Scale;
use crate::plot::Series;
use crate::plot::duration;
use crate::plot::number;
use crate::plot::si;

/// Writes the part of all simulations.
pub(super) fn show(runs: &[Run], page: &mut Page) {
    page.heading(if runs.len() == 1 { "Simulation" } else { "Simulations" });
    let complaints: Vec<String> = runs.iter().flat_map(|run| run.complaints.clone()).collect();
    page.warnings(&complaints);
    let (cells, keys) = cells(runs);
    maps(&cells, &keys, page);
    summary(&cells, &keys, page);
    curves(&cells, &keys, page);
    utilization(&cells, &keys, page);
    scenarios(runs, page);
}

fn summary(cells: &[Cell<'_>], keys: &[String], page: &mut Page) {
    page.subheading("Summary");
    let shown = &keys[..keys.len().min(MAX_COLUMNS)];
    let mut head: Vec<&str> = shown.iter().map(|key| difference::short(key)).collect();
    head.extend(["seeds", "final loss", "± seeds", "against honest", "tokens", "virtual time"]);
    head.extend(["sent", "bits per weight", "utilization", "refused", "no step"]);
    let row = |cell: &Cell<'_>| {
        let value = |key| page::Cell::words(difference::value(cell.settings, key));
        let mut row: Vec<_> = shown.iter().map(|key| value(key)).collect();
        row.extend(numbers(cell, cell.baseline(cells, keys)));
        row
    };
    let open = if cells.len() <= MAX_OPEN { " open" } else { "" };
    page.raw(&format!("<details{open}><summary>{} settings</summary>\n", cells.len()));
    page.table(&head, &cells.iter().map(row).collect::<Vec<_>>());
    page.raw("</details>\n");
    if keys.len() > shown.len() {
        page.text(&format!("The runs differ in {} settings; the first are shown.", keys.len()));
    }
}

fn numbers(cell: &Cell<'_>, baseline: Option<&Cell<'_>>) -> Vec<page::Cell> {
    let mean = |of: &dyn Fn(&Run) -> Option<f64>| {
        Spread::of(cell.runs.iter().filter_map(|run| of(run))).map(|spread| spread.mean)
    };
    let last = |of: fn(&Exchange) -> f64| mean(&|run| run.rounds.exchanges.last().map(of));
    let loss = cell.final_loss();
    let half = loss.map(|loss| (loss.greatest - loss.least) / 2.0);
    let excess = loss.zip(baseline.and_then(Cell::final_loss)).map(|(l, b)| l.mean / b.mean - 1.0);
    let shown = |x: Option<f64>, of: &dyn Fn(f64) -> String| match x {
        Some(x) if x.is_infinite() => page::Cell::number("diverged"),
        Some(x) if x.is_finite() => page::Cell::number(of(x)),
        _ => page::Cell::number(difference::NONE),
    };
    vec![
        page::Cell::number(cell.runs.len().to_string()),
        shown(loss.map(|loss| loss.mean), &|x| number(x, 5)),
        shown(half.filter(|_| cell.runs.len() > 1), &|x| number(x, 2)),
        shown(excess, &|x| format!("{:+.2}%", 100.0 * x)),
        shown(last(|e| e.tokens), &|x| si(x, "")),
        shown(last(|e| e.seconds), &duration),
        shown(last(|e| e.bytes), &|x| si(x, "B")),
        shown(mean(&|run| run.summary.get("bits_per_weight")?.as_f64()), &|x| number(x, 3)),
        shown(mean(&|run| run.rounds.utilization()), &|x| format!("{:.1}%", 100.0 * x)),
        shown(mean(&|run| Some(run.rounds.rejected)), &|x| number(x, 4)),
        shown(mean(&|run| Some(run.rounds.skipped as f64)), &|x| number(x, 4)),
    ]
}

/// Attacks by rules, a map for every other setting that varies.
fn maps(cells: &[Cell<'_>], keys: &[String], page: &mut Page) {
    let attacked = cells.iter().any(|c| difference::value(c.settings, ATTACK) != HONEST);
    if cells.len() < 2 || !attacked || cells.iter().all(|c| c.settings.is_empty()) {
        return;
    }
    // Without an honest run a map would be of question marks only.
    if cells.iter().all(|cell| cell.baseline(cells, keys).is_none()) {
        return;
    }
    let of = |keep: &dyn Fn(&str) -> bool| -> Vec<String> {
        keys.iter().filter(|key| keep(key)).cloned().collect()
    };
    let (rules, others) = (of(&is_rule), of(&|key| !is_rule(key) && !is_attack(key)));
    let mut maps: BTreeMap<String, Map> = BTreeMap::new();
    for cell in cells {
        let title = difference::label(cell.settings, &others);
        let map = maps.entry(title.clone()).or_default();
        map.title = if title.is_empty() { "Attacks by rules".to_owned() } else { title };
        let (row, column) = (map.row(attack(cell, keys)), map.column(rule(cell, &rules)));
        let baseline = cell.baseline(cells, keys).and_then(Cell::final_loss);
        let excess = match (cell.final_loss(), baseline) {
            _ if cell.never_stepped() => heat::NO_STEP,
            (Some(loss), _) if loss.mean.is_infinite() => f64::INFINITY,
            (Some(loss), Some(base)) => loss.mean / base.mean - 1.0,
            _ => f64::NAN,
        };
        map.cells.push((row, column, excess));
    }
    page.subheading("Final loss by attack and rule");
    page.text(
        "Mean over the seeds, against the run of honest clusters only that is equal in all other \
         settings: under the mean if there is one, else under the same rule. ?: there is none. no step: \
         the rule refused in every round.",
    );
    page.raw(&heat::key());
    maps.values().take(MAX_MAPS).for_each(|map| page.raw(&map.figure()));
    if maps.len() > MAX_MAPS {
        page.text(&format!("{} maps more are not shown.", maps.len() - MAX_MAPS));
    }
}

/// `alie tuned, 2 of 8`.
fn attack(cell: &Cell<'_>, keys: &[String]) -> String {
    let value = |key| difference::value(cell.settings, key);
    let mut words = value(ATTACK).to_owned();
    if keys.iter().any(|key| [LIARS, PEERS].contains(&key.as_str())) {
        words.push_str(&format!(", {} of {}", value(LIARS), value(PEERS)));
    }
    if keys.iter().any(|key| key == "aggregate.faulty") {
        words.push_str(&format!(", f = {}", value("aggregate.faulty")));
    }
    words
}

/// `geometric_median nearest`, from what varies of the rule.
fn rule(cell: &Cell<'_>, keys: &[String]) -> String {
    let words = |key: &String| match difference::short(key) {
        "rule" | "mix" | "clip" => difference::value(cell.settings, key).to_owned(),
        name => format!("{name}={}", difference::value(cell.settings, key)),
    };
    let order = |key: &&String| {
        ["rule", "mix", "clip"].iter().position(|k| *k == difference::short(key)).unwrap_or(3)
    };
    let mut keys: Vec<&String> = keys.iter().collect();
    keys.sort_by_key(order);
    let all: Vec<String> = keys.into_iter().map(words).collect();
    if all.is_empty() {
        difference::value(cell.settings, "aggregate.rule").to_owned()
    } else {
        all.join(" ")
    }
}

/// Loss over tokens, time and bytes; many cells are divided by their attack.
fn curves(cells: &[Cell<'_>], keys: &[String], page: &mut Page) {
    page.subheading("Loss");
    let evaluated = cells.iter().flat_map(|c| &c.runs).flat_map(|run| &run.rounds.exchanges);
    let y = match evaluated.clone().any(|e| e.eval_loss.is_some()) {
        true => (|e: &Exchange| e.eval_loss) as fn(&Exchange) -> Option<f64>,
        false => |e: &Exchange| e.train_loss,
    };
    let by: Option<&String> = match cells.len() <= MAX_LINES {
        true => None,
        false => keys.iter().find(|key| *key == ATTACK).or(keys.first()),
    };
    let mut parts: Vec<(String, Vec<&Cell<'_>>)> = Vec::new();
    for cell in cells {
        let name = by.map_or(String::new(), |key| {
            difference::label(cell.settings, std::slice::from_ref(key))
        });
        match parts.iter_mut().find(|part| part.0 == name) {
            Some(part) => part.1.push(cell),
            None => parts.push((name, vec![cell])),
        }
    }
    let resolution = (30_000 / (3 * cells.len()).max(1)).clamp(40, 400);
    for (i, (name, cells)) in parts.iter().enumerate() {
        if parts.len() > 1 {
            let open = if i == 0 { " open" } else { "" };
            page.raw(&format!(
                "<details{open}><summary>{}</summary>\n",
                crate::plot::escaped(name)
            ));
        }
        // Within a part fewer settings differ.
        let settings: Vec<&Flat> = cells.iter().map(|cell| cell.settings).collect();
        let mut keys = keys.to_vec();
        keys.retain(|key| difference::varying(&settings).contains(key));
        let figures = ["tokens", "time", "bytes"].map(|x| curve(x, cells, &keys, y, resolution));
        page.figures(&figures);
        if cells.len() > MAX_DRAWN {
            page.text(&format!("{} lines more are not drawn.", cells.len() - MAX_DRAWN));
        }
        if parts.len() > 1 {
            page.raw("</details>\n");
        }
    }
}

fn curve(
    over: &str,
    cells: &[&Cell<'_>],
    keys: &[String],
    y: fn(&Exchange) -> Option<f64>,
    resolution: usize,
) -> String {
    let (title, label, x): (_, _, fn(&Exchange) -> f64) = match over {
        "tokens" => ("Loss over tokens", "tokens, all clusters together", |e| e.tokens),
        "time" => ("Loss over virtual time", "virtual seconds", |e| e.seconds),
        _ => ("Loss over bytes", "bytes sent, all clusters together", |e| e.bytes),
    };
    let points = |run: &Run| -> Vec<[f64; 2]> {
        let all = run.rounds.exchanges.iter();
        let mut points: Vec<_> = all.filter_map(|e| Some([x(e), y(e)?])).collect();
        // A run that ended in nothing shows where.
        if run.final_loss() == Some(f64::INFINITY) {
            points.extend(run.rounds.exchanges.last().map(|e| [x(e), f64::NAN]));
        }
        points
    };
    let named = |cell: &&Cell<'_>| {
        let name = difference::label(cell.settings, keys);
        let name = if name.is_empty() { cell.runs[0].name.clone() } else { name };
        cell.series(name, points)
    };
    let floor = cells.iter().find_map(|c| c.runs[0].summary.get("entropy_floor")?.as_f64());
    Chart {
        title: title.to_owned(),
        x: Axis::of(label, Scale::Linear),
        y: Axis::of("loss (nats)", Scale::Positive),
        series: cells.iter().take(MAX_DRAWN).map(named).collect(),
        levels: floor
            .map(|floor| ("entropy of the language".to_owned(), floor))
            .into_iter()
            .collect(),
        resolution,
    }
    .figure()
}

/// Utilization against bandwidth, where bandwidths vary.
fn utilization(cells: &[Cell<'_>], keys: &[String], page: &mut Page) {
    let bandwidth = keys.iter().find(|key| key.ends_with("up_mbit"));
    let bandwidth = bandwidth.or_else(|| keys.iter().find(|key| key.ends_with("_mbit")));
    let Some(bandwidth) = bandwidth else { return };
    let others: Vec<String> = keys.iter().filter(|key| !key.ends_with("_mbit")).cloned().collect();
    let mut lines: Vec<Series> = Vec::new();
    for cell in cells {
        let Ok(x) = difference::value(cell.settings, bandwidth).parse::<f64>() else { continue };
        let used = Spread::of(cell.runs.iter().filter_map(|run| run.rounds.utilization()));
        let Some(used) = used else { continue };
        let label = difference::label(cell.settings, &others);
        let name = if label.is_empty() { "utilization".to_owned() } else { label };
        let place = lines.iter().position(|line| line.name == name).unwrap_or(lines.len());
        if place == lines.len() {
            lines.push(Series { name, ..Series::default() });
        }
        lines[place].points.push([x, 100.0 * used.mean]);
        lines[place].band.push([x, 100.0 * used.least, 100.0 * used.greatest]);
    }
    for line in &mut lines {
        line.points.sort_by(|a, b| a[0].total_cmp(&b[0]));
        line.band.sort_by(|a, b| a[0].total_cmp(&b[0]));
    }
    lines.truncate(MAX_DRAWN);
    page.subheading("Utilization");
    let chart = Chart {
        title: "Time that clusters computed, against bandwidth".to_owned(),
        x: Axis::of(&format!("{} (Mbit/s)", bandwidth.trim_end_matches("_mbit")), Scale::Log),
        y: Axis::of("utilization (%)", Scale::Linear),
        series: lines,
        ..Chart::default()
    };
    page.figures(&[chart.figure()]);
}

fn scenarios(runs: &[Run], page: &mut Page) {
    page.subheading("Scenarios");
    let row = |run: &Run| {
        let hash = run.hash().unwrap_or_else(|| difference::NONE.to_owned());
        let loss = match run.final_loss() {
            Some(loss) if loss.is_finite() => number(loss, 6),
            Some(_) => "diverged".to_owned(),
            None => difference::NONE.to_owned(),
        };
        vec![
            page::Cell::words(&run.name),
            page::Cell::words(run.seed()),
            page::Cell::number(loss),
            page::Cell::words(hash),
        ]
    };
    page.raw("<details><summary>All runs, with the hash of each scenario</summary>\n");
    let rows: Vec<_> = runs.iter().map(row).collect();
    page.table(&["run", "seed", "final loss", "scenario"], &rows);
    page.raw("</details>\n");
    for run in runs.iter().filter(|run| run.text.is_some()).take(MAX_TEXTS) {
        let hash = run.hash().unwrap_or_default();
        page.file(
            &format!("{}: scenario.toml, {hash}", run.name),
            run.text.as_deref().unwrap_or(""),
        );
    }
}

/// Rows of a summary that is not folded away, at most.
const MAX_OPEN: usize = 24;
/// Columns of settings at most.
const MAX_COLUMNS: usize = 10;
/// Maps at most.
const MAX_MAPS: usize = 24;
/// Lines of all cells in one chart at most; more are divided.
const MAX_LINES: usize = 12;
/// Lines of a chart at most.
const MAX_DRAWN: usize = 32;
/// Scenario files shown at most.
const MAX_TEXTS: usize = 12;
