//! When checkpoints are written: beside the steps that follow, one at a time.

use std::path::PathBuf;
use std::time::Instant;

use super::Error;
use super::observer::{Event, Observer};
use super::pace::Pace;
use super::run::Setup;
use super::step::Trainer;
use crate::checkpoint;

/// The checkpoints of a run.
pub(super) struct Saver {
    /// Step and folder of the last checkpoint.
    saved: Option<(u64, PathBuf)>,
}

impl Saver {
    /// None written yet but `saved`.
    pub fn new(_setup: &Setup<'_>, saved: Option<(u64, PathBuf)>) -> Result<Self, Error> {
        Ok(Self { saved })
    }

    /// Begins to write the state of `trainer`, unless its step is written already.
    pub fn save(
        &mut self,
        trainer: &Trainer,
        setup: &Setup<'_>,
        pace: &mut Pace,
        observer: &mut dyn Observer,
    ) -> Result<(), Error> {
        let (step, started) = (trainer.done(), Instant::now());
        if self.saved.as_ref().is_some_and(|(saved, _)| *saved == step) {
            return Ok(());
        }
        let checkpoints = setup.folder.checkpoints();
        let contents = trainer.contents(&setup.config, &setup.attachments);
        let (path, hash) = checkpoint::write(&checkpoints, &contents, setup.mesh.world().as_ref())?;
        pace.save(started.elapsed());
        observer.observe(&Event::Saved { step, path: &path, hash });
        self.saved = Some((step, path));
        if setup.mesh.is_speaker() {
            checkpoint::remove_old(&checkpoints, setup.plan.train.keep_checkpoints)?;
        }
        Ok(())
    }

    /// Waits until all is written; the last checkpoint.
    pub fn finish(
        self,
        _setup: &Setup<'_>,
        _pace: &mut Pace,
        _observer: &mut dyn Observer,
    ) -> Result<Option<PathBuf>, Error> {
        Ok(self.saved.map(|(_, path)| path))
    }
}
