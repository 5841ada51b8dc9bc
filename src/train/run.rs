//! A whole run: steps, evaluations, checkpoints, stop.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use super::evaluate::{Evaluation, evaluate};
use super::guard::Decision;
use super::metrics::{EvalRecord, Log, Record, StepRecord};
use super::observer::{Event, Observer};
use super::signals::Stop;
use super::step::{StepOutcome, Trainer};
use super::{Error, Plan, RunFolder, metrics, resume};
use crate::checkpoint;
use crate::checkpoint::Attachment;
use crate::collective;
use crate::crypto::Hash;
use crate::data::Batch;
use crate::data::Loader;
use crate::ops::Kernels;
use crate::shard::Mesh;

/// What a run needs from outside.
#[derive(Debug)]
pub struct Setup<'a> {
    /// What to compute.
    pub plan: &'a Plan,
    /// On what.
    pub kernels: Arc<dyn Kernels>,
    /// The order of the data.
    pub loader: &'a Loader,
    /// Where to keep it.
    pub folder: RunFolder,
    /// The settings in force, as TOML.
    pub config: String,
    /// Files that travel with every checkpoint.
    pub attachments: Vec<Attachment>,
    /// What the folder may hold.
    pub start: Start,
    /// FLOP/s that `mfu` is measured against, if known.
    pub peak_flops: Option<f64>,
    /// The wish to stop.
    pub stop: Stop,
}

/// What a run does with its folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Makes it; it is an error if it holds a run.
    Anew,
    /// Continues from the latest whole checkpoint in it; from the beginning if there is none.
    Resume,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// All its steps are done.
    Finished,
    /// Somebody asked; there is a checkpoint.
    Stopped,
}

/// What a run leaves behind.
#[derive(Debug)]
pub struct Outcome {
    /// How it ended.
    pub ending: Ending,
    /// The trainer at its end.
    pub trainer: Trainer,
    /// Its last checkpoint.
    pub checkpoint: Option<PathBuf>,
    /// Hash of its state.
    pub state_hash: Hash,
    /// Loss of the last step that was done here.
    pub last_loss: Option<f64>,
    /// The last evaluation that was done here.
    pub evaluation: Option<Evaluation>,
}

/// Trains until the plan's end, or until somebody asks to stop.
pub fn run(setup: Setup<'_>, observer: &mut dyn Observer) -> Result<Outcome, Error> {
    let mut run = Running::start(setup, observer)?;
    while run.trainer.done() < run.setup.plan.train.stop_after && !run.setup.stop.asked() {
        run.step()?;
        run.evaluate_if_due()?;
        if is_due(run.trainer.done(), run.setup.plan.train.checkpoint_every) {
            run.save()?;
        }
    }
    run.save()?;
    run.log.sync().map_err(Error::file("write", run.log.path()))?;
    let finished = run.trainer.done() >= run.setup.plan.train.stop_after;
    Ok(Outcome {
        ending: if finished { Ending::Finished } else { Ending::Stopped },
        state_hash: run.trainer.state_hash()?,
        trainer: run.trainer,
        checkpoint: run.saved.map(|(_, path)| path),
        last_loss: run.last_loss,
        evaluation: run.evaluation,
    })
}

/// A run under way.
struct Running<'a, 'o> {
    setup: Setup<'a>,
    observer: &'o mut dyn Observer,
    trainer: Trainer,
    log: Log,
    /// Step and folder of the last checkpoint.
    saved: Option<(u64, PathBuf)>,
    last_loss: Option<f64>,
    evaluation: Option<Evaluation>,
}

impl<'a, 'o> Running<'a, 'o> {
    /// Makes or finds the folder, the trainer and the log.
    fn start(setup: Setup<'a>, observer: &'o mut dyn Observer) -> Result<Self, Error> {
        let (folder, plan) = (&setup.folder, setup.plan);
        let checkpoints = folder.checkpoints();
        let mesh = Mesh::new(collective::single(), 1, plan.parallel.shards)?;
        let mut saved = None;
        if setup.start == Start::Anew || !folder.is_taken() {
            folder.create()?;
        } else {
            checkpoint::remove_unfinished(&checkpoints)?;
            saved = latest(&checkpoints, observer)?;
        }
        let trainer = match &saved {
            None => Trainer::new(setup.kernels.clone(), plan, &mesh, 0..plan.dims.layers)?,
            Some(saved) => {
                observer.observe(&Event::Resuming {
                    step: saved.manifest().progress.step,
                    path: saved.path(),
                });
                // Before any memory is taken.
                resume::check(saved, plan)?;
                let mut trainer =
                    Trainer::blank(setup.kernels.clone(), plan, &mesh, 0..plan.dims.layers)?;
                trainer.resume(saved)?;
                trainer
            }
        };
        folder.write_config(&setup.config)?;
        let path = folder.metrics();
        let done = trainer.done();
        let log = Log::resume(&path, done).map_err(Error::file("open", &path))?;
        let saved = saved.map(|s| (done, s.path().to_owned()));
        let (last_loss, evaluation) = (None, None);
        let mut run = Self { setup, observer, trainer, log, saved, last_loss, evaluation };
        // A signal may have come between this step and its evaluation.
        let logged = metrics::last_eval_step(&path);
        if done > 0 && logged != Some(done) {
            run.evaluate_if_due()?;
        }
        Ok(run)
    }

    /// One optimizer step, logged.
    fn step(&mut self) -> Result<(), Error> {
        let started = Instant::now();
        let batch = self.setup.loader.batch(self.trainer.done())?;
        let outcome = self.trainer.step(&batch, 0)?;
        let record = self.record(&outcome, started.elapsed().as_secs_f64());
        self.last_loss = Some(outcome.loss);
        if let Decision::Skip { what, deviations } = outcome.decision {
            self.observer.observe(&Event::Skipped { step: outcome.step, what, deviations });
        }
        self.observer.observe(&Event::Step(&record));
        self.append(&Record::Step(record))
    }

    /// The line of a step that took `seconds`, reading its batch included.
    fn record(&self, outcome: &StepOutcome, seconds: f64) -> StepRecord {
        let plan = self.setup.plan;
        let tokens_per_s = plan.tokens_per_step as f64 / seconds;
        let flops_per_token = plan.dims.flops_per_token_strict(plan.train.seq_len);
        let flops = flops_per_token as f64 * tokens_per_s;
        StepRecord {
            step: outcome.step,
            loss: outcome.loss,
            lr: outcome.lr,
            grad_norm: outcome.grad_norm,
            skipped: outcome.decision != Decision::Apply,
            tokens: outcome.step * plan.tokens_per_step,
            step_ms: seconds * 1e3,
            tokens_per_s,
            gflops: flops / 1e9,
            mfu: self.setup.peak_flops.map(|peak| flops / peak),
        }
    }

    /// Evaluates after the last step, and after every so many.
    fn evaluate_if_due(&mut self) -> Result<(), Error> {
        let (step, train) = (self.trainer.done(), &self.setup.plan.train);
        if step != train.stop_after && !is_due(step, train.eval_every) {
            return Ok(());
        }
        let started = Instant::now();
        let (sequences, trainer, stop) =
            (train.eval_sequences, &mut self.trainer, &self.setup.stop);
        let mut losses = |batch: &Batch| trainer.losses(batch);
        let Some(found) = evaluate(self.setup.loader, sequences, stop, &mut losses)? else {
            return Ok(());
        };
        self.evaluation = Some(found);
        let record = EvalRecord {
            step,
            loss: found.loss,
            perplexity: found.perplexity(),
            eval_tokens: found.tokens,
            eval_ms: started.elapsed().as_secs_f64() * 1e3,
        };
        self.observer.observe(&Event::Evaluated(&record));
        self.append(&Record::Eval(record))
    }

    /// Writes a checkpoint of this step, unless there is one, and removes old ones.
    fn save(&mut self) -> Result<(), Error> {
        let step = self.trainer.done();
        if self.saved.as_ref().is_some_and(|(saved, _)| *saved == step) {
            return Ok(());
        }
        self.log.sync().map_err(Error::file("write", self.log.path()))?;
        let checkpoints = self.setup.folder.checkpoints();
        let contents = self.trainer.contents(&self.setup.config, &self.setup.attachments);
        let (path, hash) =
            checkpoint::write(&checkpoints, &contents, collective::single().as_ref())?;
        self.observer.observe(&Event::Saved { step, path: &path, hash });
        self.saved = Some((step, path));
        checkpoint::remove_old(&checkpoints, self.setup.plan.train.keep_checkpoints)?;
        Ok(())
    }

    fn append(&mut self, record: &Record) -> Result<(), Error> {
        self.log.append(record).map_err(Error::file("write", self.log.path()))
    }
}

/// The latest whole checkpoint; tells of those that are not. None whole though there are some is
/// an error: a beginning from nothing would surprise.
fn latest(
    checkpoints: &std::path::Path,
    observer: &mut dyn Observer,
) -> Result<Option<checkpoint::Saved>, Error> {
    let mut latest = checkpoint::latest(checkpoints, collective::single().as_ref())?;
    for error in &latest.broken {
        observer.observe(&Event::Warning(&error.to_string()));
    }
    if latest.found.is_none() && !latest.broken.is_empty() {
        let (path, source) = (checkpoints.to_owned(), latest.broken.swap_remove(0));
        return Err(Error::NoneWhole { path, source });
    }
    Ok(latest.found)
}

/// Whether something that happens every `every` steps (0: never) happens after `step`.
fn is_due(step: u64, every: u64) -> bool {
    every > 0 && step.is_multiple_of(every)
}
