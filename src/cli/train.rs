//! `neuroshard train`.

use std::path::PathBuf;
use std::sync::Arc;

use super::output::Stdout;
use super::progress::Progress;
use super::{Ending, Failure, device, summary};
use crate::checkpoint::Attachment;
use crate::config::RunConfig;
use crate::data::Dataset;
use crate::data::Loader;
use crate::train;
use crate::train::Plan;
use crate::train::RunFolder;
use crate::train::Setup;
use crate::train::Start;
use crate::train::Stop;

/// Arguments of `train`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The run file; without one, defaults: a small model on a synthetic language.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Lays a value over the run file, such as train.steps=1000 or model.preset=tiny.
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    sets: Vec<String>,
    /// Continues from the latest checkpoint in the run folder; begins if there is none. Without
    /// --config the run folder's own config.toml is taken.
    #[arg(long)]
    resume: bool,
}

/// Name of the tokenizer among a checkpoint's files.
pub const TOKENIZER: &str = "tokenizer.json";

/// Runs the command.
pub fn run(args: &Args, out: &mut Stdout) -> Result<Ending, Failure> {
    let stop = Stop::on_signals()?;
    let config = RunConfig::load(args.run_file().as_deref(), &args.sets)?;
    let folder = RunFolder::at(&config.run.dir);
    let start = if args.resume { Start::Resume } else { Start::Anew };
    if start == Start::Anew && folder.is_taken() {
        return Err(train::Error::Taken { path: config.run.dir }.into());
    }
    let kernels = device::open(&config.device)?;
    let dims = config.model.dims().map_err(|complaints| complaints.join("; "))?;
    let dataset = Arc::new(Dataset::open(&config.data, dims.vocab)?);
    check_vocab(dims.vocab, &dataset)?;
    let plan = Plan::new(&config.parts(), dataset.hash()).map_err(|all| all.join("; "))?;
    let (seq_len, batch_sequences) = (plan.train.seq_len, plan.train.batch_sequences);
    let loader = Loader::new(dataset.clone(), plan.seed, seq_len, batch_sequences)?;
    let peak = kernels.peak_flops(plan.profile.precision());
    summary::before(&plan, &loader, kernels.as_ref(), &config, out)?;
    let setup = Setup {
        plan: &plan,
        kernels: kernels.clone(),
        loader: &loader,
        folder: folder.clone(),
        config: config.to_toml()?,
        attachments: attachments(&dataset),
        start,
        peak_flops: Some(peak),
        stop: stop.clone(),
    };
    let mut progress = Progress::new(plan.train.stop_after);
    let outcome = train::run(setup, &mut progress);
    progress.finish();
    let outcome = outcome?;
    if outcome.ending == train::Ending::Stopped {
        let (signal, step) = (stop.signal().unwrap_or("a request"), outcome.trainer.done());
        out.line(format_args!("stopped by {signal} after step {step}; go on with --resume"))?;
        return Ok(Ending::Stopped);
    }
    summary::after(&outcome, &dataset, &folder, out)?;
    Ok(Ending::Done)
}

impl Args {
    /// The run file: as given, or the one that a run to be resumed left in its folder.
    fn run_file(&self) -> Option<PathBuf> {
        if self.config.is_some() || !self.resume {
            return self.config.clone();
        }
        let dir = self.sets.iter().rev().find_map(|set| set.strip_prefix("run.dir="));
        let dir = dir.map_or_else(|| train::Run::default().dir, |d| d.trim_matches('"').into());
        let path = RunFolder::at(&dir).config();
        path.exists().then_some(path)
    }
}

/// Whether the model has a row for every token of the data.
fn check_vocab(vocab: usize, dataset: &Dataset) -> Result<(), Failure> {
    let needed = dataset.vocab_size();
    if vocab >= needed {
        return Ok(());
    }
    let place = dataset.corpus().map_or_else(String::new, |c| format!(" of {}", c.dir().display()));
    Err(format!(
        "model.vocab: {vocab}, but the tokenizer{place} has {needed} tokens; \
         use --set model.vocab={needed} or more"
    )
    .into())
}

/// The tokenizer travels with the weights, so that a checkpoint can generate text by itself.
fn attachments(dataset: &Dataset) -> Vec<Attachment> {
    let tokenizer = dataset.corpus().map(|corpus| corpus.tokenizer());
    let attachment = |t: &crate::data::Tokenizer| Attachment {
        name: TOKENIZER.into(),
        bytes: t.json().to_vec(),
    };
    tokenizer.map(attachment).into_iter().collect()
}
