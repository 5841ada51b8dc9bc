//! A picture of a run: how far it is, plots, numbers, machine.

use std::time::Duration;

use ratatui::buffer::Buffer;
use ratatui::layout::Constraint;
use ratatui::layout::Layout;
use ratatui::layout::Rect;
use ratatui::style::Color;
use ratatui::style::Style;
use ratatui::style::Stylize;
use ratatui::text::Line;
use ratatui::widgets::LineGauge;
use ratatui::widgets::Paragraph;
use ratatui::widgets::Widget;

use super::gpu::Gpu;
use super::plots;
use super::watched::Now;
use crate::plot::duration;
use crate::plot::number;
use crate::plot::si;

/// Draws all of it.
pub(super) fn draw(now: &Now, area: Rect, buffer: &mut Buffer) {
    let words = words(now);
    let foot = words.len().min(usize::from(area.height / 2)) as u16;
    let [head, progress, middle, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Fill(1),
        Constraint::Length(foot),
    ])
    .areas(area);
    let title = match now.device.is_empty() {
        true => now.name.clone(),
        false => format!("{}   {}", now.name, now.device),
    };
    Line::from(title).bold().render(head, buffer);
    gauge(now, progress, buffer);
    plots::draw(&now.history, middle, buffer);
    Paragraph::new(words.into_iter().map(Line::from).collect::<Vec<_>>()).render(foot, buffer);
}

/// How far it is.
fn gauge(now: &Now, area: Rect, buffer: &mut Buffer) {
    let done = now.history.steps_done();
    let Some([steps, eval_every]) = now.steps.filter(|steps| steps[0] > 0.0) else {
        return Line::from(format!("step {}", number(done, 9))).render(area, buffer);
    };
    let part = (done / steps).clamp(0.0, 1.0);
    let left = now.history.seconds_left(steps, eval_every);
    let left = match left {
        _ if done >= steps => "done".to_owned(),
        Some(left) => format!("{} left", duration(left)),
        None => "waiting for the first step".to_owned(),
    };
    let label =
        format!("step {} of {} ({:.0}%), {left} ", number(done, 9), number(steps, 9), 100.0 * part);
    LineGauge::default()
        .ratio(part)
        .label(label)
        .filled_style(Style::new().fg(Color::Cyan))
        .unfilled_style(Style::new().fg(Color::DarkGray))
        .render(area, buffer);
}

/// The numbers.
fn words(now: &Now) -> Vec<String> {
    let history = &now.history;
    let mut out = vec![training(now)];
    if let Some(line) = history.evaluated {
        let of = |x: Option<f64>| x.map_or_else(|| NONE.to_owned(), |x| number(x, 5));
        out.push(format!(
            "held out    loss {}, perplexity {}, after step {}",
            of(line.loss),
            of(line.loss.map(f64::exp)),
            number(line.step.unwrap_or(0.0), 9)
        ));
    }
    out.extend(speed(now));
    out.push(match &now.checkpoint {
        Some((name, age, count)) => {
            format!("checkpoint  {name}, {} ago ({count} kept)", duration(age.as_secs_f64()))
        }
        None => "checkpoint  none yet".to_owned(),
    });
    out.extend(host(now));
    out.extend(now.used.gpus.iter().map(gpu));
    if now.spoiled > 0 {
        out.push(format!("warning     {} lines of metrics.jsonl cannot be read", now.spoiled));
    }
    out
}

fn training(now: &Now) -> String {
    let Some(line) = now.history.last else { return "training    no step yet".to_owned() };
    let of = |x: Option<f64>, digits| x.map_or_else(|| NONE.to_owned(), |x| number(x, digits));
    let skipped = match now.history.skipped {
        0 => String::new(),
        n => format!(", {n} steps left out"),
    };
    format!(
        "training    loss {}, learning rate {}, |gradient| {}, {} tokens{skipped}",
        of(line.loss, 5),
        of(line.lr, 3),
        of(line.grad_norm, 4),
        line.tokens.map_or_else(|| NONE.to_owned(), |x| si(x, "")),
    )
}

/// How fast it is, and whether it goes on.
fn speed(now: &Now) -> Option<String> {
    let ([ms, exchange], line) = (now.history.step_ms()?, now.history.last?);
    let mut words = format!("speed       {} ms a step", number(ms, 4));
    if exchange > 0.0 && ms > 0.0 {
        words += &format!(" ({:.0}% exchange)", 100.0 * exchange / ms);
    }
    if let Some(tokens) = line.tokens_per_s {
        words += &format!(", {} tokens/s", si(tokens, ""));
    }
    if let Some(mfu) = line.mfu {
        words += &format!(", MFU {:.1}%", 100.0 * mfu);
    }
    words += &format!(", {} of training", duration(now.history.seconds));
    let is_done = now.steps.is_some_and(|[steps, _]| now.history.steps_done() >= steps);
    // An evaluation or a checkpoint takes longer than a step.
    let patience = Duration::from_secs_f64((30.0 * ms / 1e3).clamp(30.0, 3600.0));
    if let Some(quiet) = now.quiet.filter(|quiet| !is_done && *quiet > patience) {
        words += &format!("; quiet for {}: stopped?", duration(quiet.as_secs_f64()));
    }
    Some(words)
}

fn host(now: &Now) -> Option<String> {
    let mut words = Vec::new();
    if let Some(cpu) = now.used.cpu {
        let cpus = now.used.cpus;
        let plural = if cpus == 1 { "" } else { "s" };
        words.push(format!("{:.0}% of {cpus} CPU{plural}", 100.0 * cpu));
    }
    if let Some([used, all]) = now.used.memory {
        words.push(format!("{:.1} of {:.1} GiB", used / GIB, all / GIB));
    }
    if let Some(bytes) = now.history.last.and_then(|line| line.memory_bytes) {
        words.push(format!("the run {:.2} GiB", bytes / GIB));
    }
    (!words.is_empty()).then(|| format!("this host   {}", words.join(", ")))
}

fn gpu(gpu: &Gpu) -> String {
    let of = |x: f64, words: String| if x.is_finite() { words } else { NONE.to_owned() };
    let [used, all] = gpu.memory_mib;
    format!(
        "GPU {:<7} {}: {}, {}",
        gpu.index,
        gpu.name,
        of(gpu.busy, format!("{:.0}% busy", gpu.busy)),
        of(used + all, format!("{:.1} of {:.1} GiB", used / 1024.0, all / 1024.0)),
    )
}

/// What stands for a number that is not known.
const NONE: &str = "–";

const GIB: f64 = (1u64 << 30) as f64;
