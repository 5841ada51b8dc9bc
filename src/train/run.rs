//! A whole run: steps, evaluations, checkpoints, stop.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use super::agree::{agree, same};
use super::evaluate::{Evaluated, Evaluation, evaluate};
use super::folder::DeviceRecord;
use super::guard::Decision;
use super::memory::MemoryGauge;
use super::metrics::{EvalRecord, Log, Record, StepRecord};
use super::observer::{Event, Observer};
use super::pace::Pace;
use super::save::Saver;
use super::signals::Stop;
use super::step::{StepOutcome, Trainer};
use super::{Error, Plan, RunFolder, metrics, resume};
use crate::checkpoint;
use crate::checkpoint::Attachment;
use crate::checkpoint::Saved;
use crate::collective::Communicator;
use crate::crypto::Hash;
use crate::data::Batch;
use crate::data::Loader;
use crate::metrics::Config as MetricsConfig;
use crate::metrics::EventFile;
use crate::ops::Kernels;
use crate::shard::Mesh;

/// What a run needs from outside.
#[derive(Debug)]
pub struct Setup<'a> {
    /// What to compute.
    pub plan: &'a Plan,
    /// On what.
    pub kernels: Arc<dyn Kernels>,
    /// This rank's place among all.
    pub mesh: Mesh,
    /// The layers of this rank's stage.
    pub layers: Range<usize>,
    /// The order of the data.
    pub loader: &'a Loader,
    /// Where to keep it; a folder that all ranks see.
    pub folder: RunFolder,
    /// The settings in force, as TOML.
    pub config: String,
    /// What is recorded beside `metrics.jsonl`.
    pub metrics: MetricsConfig,
    /// Files that travel with every checkpoint.
    pub attachments: Vec<Attachment>,
    /// What the folder may hold.
    pub start: Start,
    /// FLOP/s of one rank that `mfu` is measured against, if known.
    pub peak_flops: Option<f64>,
    /// The wish to stop, of this rank.
    pub stop: Stop,
    /// When the run must have ended.
    pub deadline: Option<Instant>,
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
    Stopped {
        /// Who: the OR of all ranks' votes; [`super::reasons`] puts it in words.
        votes: u64,
    },
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

/// Trains until the plan's end, or until somebody asks to stop. Collective: every rank runs it,
/// and all end alike.
pub fn run(setup: Setup<'_>, observer: &mut dyn Observer) -> Result<Outcome, Error> {
    let mut run = Running::start(setup, observer)?;
    while run.trainer.done() < run.setup.plan.train.stop_after && run.votes == 0 {
        let turn = run.turn();
        turn.map_err(|error| in_step(run.trainer.done(), error))?;
    }
    run.finish()
}

/// A run under way.
struct Running<'a, 'o> {
    setup: Setup<'a>,
    world: Arc<dyn Communicator>,
    observer: &'o mut dyn Observer,
    trainer: Trainer,
    /// The rank that speaks has it.
    log: Option<Log>,
    /// The same for TensorBoard, if it was asked for.
    events: Option<EventFile>,
    memory: MemoryGauge,
    saver: Saver,
    pace: Pace,
    /// What all ranks together have asked for.
    votes: u64,
    last_loss: Option<f64>,
    evaluation: Option<Evaluation>,
}

impl<'a, 'o> Running<'a, 'o> {
    /// Makes or finds the folder, the trainer and the log.
    fn start(setup: Setup<'a>, observer: &'o mut dyn Observer) -> Result<Self, Error> {
        let (world, pace) = (setup.mesh.world().clone(), Pace::new(setup.deadline));
        world.set_patience(pace.patience_with_disks());
        let found = open_folder(&setup, observer)?;
        let (kernels, plan, mesh) = (setup.kernels.clone(), setup.plan, &setup.mesh);
        let memory = MemoryGauge::new(kernels.as_ref());
        let trainer = match &found {
            None => Trainer::new(kernels, plan, mesh, setup.layers.clone()),
            Some(saved) => {
                // Before any memory is taken.
                resume::check(saved, plan).and_then(|()| {
                    let mut trainer = Trainer::blank(kernels, plan, mesh, setup.layers.clone())?;
                    trainer.resume(saved)?;
                    Ok(trainer)
                })
            }
        };
        let trainer = agree(world.as_ref(), trainer)?;
        let done = trainer.done();
        let log = agree(world.as_ref(), open_log(&setup, done))?;
        let events = agree(world.as_ref(), open_events(&setup, done))?;
        let logged = metrics::last_eval_step(&setup.folder.metrics());
        let found = found.map(|saved| (done, saved.path().to_owned()));
        let saver = Saver::new(&setup, &trainer, &pace, found)?;
        let (votes, last_loss, evaluation) = (0, None, None);
        let mut run = Self {
            setup,
            world,
            observer,
            trainer,
            log,
            events,
            memory,
            saver,
            pace,
            votes,
            last_loss,
            evaluation,
        };
        // A signal may have come between this step and its evaluation.
        let mut missing = [u8::from(done > 0 && logged != Some(done))];
        run.world.broadcast(0, &mut missing)?;
        if missing[0] == 1 {
            run.evaluate_if_due()?;
        }
        Ok(run)
    }

    /// One step, and what is due after it.
    fn turn(&mut self) -> Result<(), Error> {
        self.step()?;
        self.compare_if_due()?;
        self.evaluate_if_due()?;
        if is_due(self.trainer.done(), self.setup.plan.train.checkpoint_every) {
            self.save()?;
        }
        self.saver.poll(&self.setup, &mut self.pace, self.observer)
    }

    /// One optimizer step, logged.
    fn step(&mut self) -> Result<(), Error> {
        let patience = self.pace.patience();
        self.world.set_patience(patience);
        self.trainer.set_patience(patience);
        if self.pace.is_time_up() {
            self.setup.stop.ask_for_time();
        }
        let started = Instant::now();
        let (step, mine) = (self.trainer.done(), self.trainer.sequences());
        let batch = self.setup.loader.sequences(step, mine.start, mine.len())?;
        let outcome = self.trainer.step(&batch, self.setup.stop.vote());
        let outcome = outcome.map_err(|error| in_step(step + 1, error))?;
        self.pace.step(started.elapsed());
        self.votes |= outcome.votes;
        let record = self.record(&outcome, started.elapsed());
        self.last_loss = Some(outcome.loss);
        if let Decision::Skip { what, deviations } = outcome.decision {
            self.observer.observe(&Event::Skipped { step: outcome.step, what, deviations });
        }
        self.observer.observe(&Event::Step(&record));
        self.append(&Record::Step(record))
    }

    /// The line of a step that took so long, reading its batch included.
    fn record(&mut self, outcome: &StepOutcome, took: Duration) -> StepRecord {
        let (plan, seconds) = (self.setup.plan, took.as_secs_f64());
        let tokens_per_s = plan.tokens_per_step as f64 / seconds;
        let flops_per_token = plan.dims.flops_per_token_strict(plan.train.seq_len);
        let flops = flops_per_token as f64 * tokens_per_s;
        let peak_of_all = |peak: f64| peak * self.world.size() as f64;
        StepRecord {
            step: outcome.step,
            loss: outcome.loss,
            lr: outcome.lr,
            grad_norm: outcome.grad_norm,
            skipped: outcome.decision != Decision::Apply,
            tokens: outcome.step * plan.tokens_per_step,
            step_ms: seconds * 1e3,
            exchange_ms: outcome.exchange.as_secs_f64() * 1e3,
            tokens_per_s,
            gflops: flops / 1e9,
            mfu: self.setup.peak_flops.map(|peak| flops / peak_of_all(peak)),
            memory_bytes: self.memory.bytes(self.setup.kernels.as_ref()),
        }
    }

    /// Compares the weights that all data ranks must hold alike.
    fn compare_if_due(&mut self) -> Result<(), Error> {
        let (step, data) = (self.trainer.done(), self.setup.mesh.data());
        if data.size() == 1 || !is_due(step, self.setup.plan.parallel.compare_every) {
            return Ok(());
        }
        let Some(hash) = self.trainer.replica_hash()? else { return Ok(()) };
        same(data.as_ref(), "other weights after the last step", hash.as_bytes())
    }

    /// Evaluates after the last step, and after every so many.
    fn evaluate_if_due(&mut self) -> Result<(), Error> {
        let (step, train) = (self.trainer.done(), &self.setup.plan.train);
        if step != train.stop_after && !is_due(step, train.eval_every) || self.votes != 0 {
            return Ok(());
        }
        self.world.set_patience(self.pace.patience());
        let started = Instant::now();
        let (setup, trainer) = (&self.setup, &mut self.trainer);
        let mut losses = |batch: &Batch| trainer.losses(batch);
        let found =
            evaluate(setup.loader, train.eval_sequences, &setup.mesh, &setup.stop, &mut losses)?;
        let found = match found {
            Evaluated::Done(found) => found,
            Evaluated::Nothing => return Ok(()),
            Evaluated::Stopped(votes) => {
                self.votes |= votes;
                return Ok(());
            }
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

    /// Begins to write a checkpoint of this step, unless there is one.
    fn save(&mut self) -> Result<(), Error> {
        if self.log.is_some() {
            self.setup.folder.write_device(&device_record(&self.setup))?;
        }
        self.world.set_patience(self.pace.patience_with_disks());
        if let Some(log) = &mut self.log {
            log.sync().map_err(Error::file("write", log.path()))?;
        }
        self.saver.save(&self.trainer, &self.setup, &mut self.pace, self.observer)
    }

    /// The last checkpoint, and what the run leaves behind.
    fn finish(mut self) -> Result<Outcome, Error> {
        self.save()?;
        let checkpoint = self.saver.finish(&mut self.pace, self.observer)?;
        let finished = self.trainer.done() >= self.setup.plan.train.stop_after;
        Ok(Outcome {
            ending: if finished { Ending::Finished } else { Ending::Stopped { votes: self.votes } },
            state_hash: self.trainer.state_hash()?,
            trainer: self.trainer,
            checkpoint,
            last_loss: self.last_loss,
            evaluation: self.evaluation,
        })
    }

    fn append(&mut self, record: &Record) -> Result<(), Error> {
        if let Some(log) = &mut self.log {
            log.append(record).map_err(Error::file("write", log.path()))?;
        }
        if let Some(events) = &mut self.events {
            let written = events.append(record.step(), &record.scalars());
            written.map_err(Error::file("write", events.path()))?;
        }
        Ok(())
    }
}

/// Makes the run's folder, or finds the latest whole checkpoint in it; the same on all ranks.
/// Tells of checkpoints that are not whole. None whole though there are some is an error: a
/// beginning from nothing would surprise.
fn open_folder(setup: &Setup<'_>, observer: &mut dyn Observer) -> Result<Option<Saved>, Error> {
    let (world, folder) = (setup.mesh.world().as_ref(), &setup.folder);
    let checkpoints = folder.checkpoints();
    let anew = setup.start == Start::Anew || !folder.is_taken();
    let mut anew = [u8::from(anew)];
    world.broadcast(0, &mut anew)?;
    let prepared = match (setup.mesh.is_speaker(), anew[0] == 1) {
        (false, _) => Ok(()),
        (true, true) => folder.create(),
        (true, false) => checkpoint::remove_unfinished(&checkpoints).map_err(Error::from),
    };
    agree(world, prepared)?;
    if anew[0] == 1 {
        return Ok(None);
    }
    let mut latest = checkpoint::latest(&checkpoints, world)?;
    for error in &latest.broken {
        observer.observe(&Event::Warning(&error.to_string()));
    }
    if latest.found.is_none() && !latest.broken.is_empty() {
        let (path, source) = (checkpoints, latest.broken.swap_remove(0));
        return Err(Error::NoneWhole { path, source });
    }
    if let Some(saved) = &latest.found {
        let step = saved.manifest().progress.step;
        observer.observe(&Event::Resuming { step, path: saved.path() });
    }
    Ok(latest.found)
}

/// The settings written, and the log up to step `done`: on the rank that speaks.
fn open_log(setup: &Setup<'_>, done: u64) -> Result<Option<Log>, Error> {
    if !setup.mesh.is_speaker() {
        return Ok(None);
    }
    setup.folder.write_config(&setup.config)?;
    setup.folder.write_device(&device_record(setup))?;
    let path = setup.folder.metrics();
    Log::resume(&path, done).map(Some).map_err(Error::file("open", &path))
}

/// A TensorBoard file for the steps after `done`: on the rank that speaks, if it is asked for.
fn open_events(setup: &Setup<'_>, done: u64) -> Result<Option<EventFile>, Error> {
    if !setup.mesh.is_speaker() || !setup.metrics.tensorboard {
        return Ok(None);
    }
    let folder = setup.folder.path();
    let new = EventFile::create(folder, done + 1);
    new.map(Some).map_err(Error::file("create an event file in", folder))
}

/// What this rank computes on, and what its kernels have decided until now.
fn device_record(setup: &Setup<'_>) -> DeviceRecord {
    DeviceRecord {
        device: setup.kernels.describe(),
        profile: setup.plan.precision.name().into(),
        version: env!("CARGO_PKG_VERSION").into(),
        decisions: setup.kernels.decisions(),
    }
}

/// An error of communication, with the step in or after which it came.
fn in_step(step: u64, error: Error) -> Error {
    match error {
        Error::Collective(source) => Error::Exchange { step, source },
        other => other,
    }
}

/// Whether something that happens every `every` steps (0: never) happens after `step`.
fn is_due(step: u64, every: u64) -> bool {
    every > 0 && step.is_multiple_of(every)
}
