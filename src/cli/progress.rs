//! Training as it is watched: a bar on a terminal, plain lines elsewhere; both on stderr.

use std::io::IsTerminal;
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};

use crate::train::Event;
use crate::train::Observer;

/// Prints what happens.
#[derive(Debug)]
pub struct Progress {
    bar: Option<ProgressBar>,
    steps: u64,
    begun: bool,
    last_line: Option<Instant>,
}

impl Progress {
    /// For a run that ends after `steps`.
    pub fn new(steps: u64) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template(TEMPLATE);
            ProgressBar::new(steps)
                .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        Self { bar, steps, begun: false, last_line: None }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None => eprintln!("{text}"),
        }
    }
}

impl Observer for Progress {
    fn observe(&mut self, event: &Event<'_>) {
        match event {
            Event::Resuming { step, path } => {
                self.line(&format!("step {step:>6}  continuing from {}", path.display()));
            }
            Event::Step(step) => {
                let numbers = format!(
                    "loss {:.4}  lr {:.2e}  |g| {:.3}  {:.0} tokens/s",
                    step.loss, step.lr, step.grad_norm, step.tokens_per_s
                );
                let due = self.last_line.is_none_or(|t| t.elapsed().as_secs() >= SECONDS_PER_LINE);
                match &self.bar {
                    Some(bar) => {
                        if !std::mem::replace(&mut self.begun, true) {
                            // Time to the end is reckoned from here, also after a resume.
                            bar.set_position(step.step);
                            bar.reset_eta();
                        }
                        bar.set_position(step.step);
                        bar.set_message(numbers);
                    }
                    None if due || step.step == self.steps => {
                        self.last_line = Some(Instant::now());
                        eprintln!("step {:>6}/{}  {numbers}", step.step, self.steps);
                    }
                    None => {}
                }
            }
            Event::Skipped { step, what, deviations } => self.line(&format!(
                "step {step:>6}  left out: {what} is {deviations:.1} deviations above its mean"
            )),
            Event::Evaluated(eval) => self.line(&format!(
                "step {:>6}  held-out loss {:.4}, perplexity {:.2}",
                eval.step, eval.loss, eval.perplexity
            )),
            Event::Saved { step, path, hash } => {
                let short = &hash.to_string()[..16];
                self.line(&format!("step {step:>6}  saved {} (state {short})", path.display()));
            }
            Event::Warning(text) => self.line(&format!("warning: {text}")),
        }
    }
}

/// Plain lines come no faster than this.
const SECONDS_PER_LINE: u64 = 2;

const TEMPLATE: &str = "{bar:24} {pos}/{len}  {msg}  eta {eta}";
