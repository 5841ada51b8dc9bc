//! When checkpoints are written: beside the steps that follow, one at a time.

use std::path::PathBuf;
use std::time::Instant;

use super::Error;
use super::observer::{Event, Observer};
use super::pace::Pace;
use super::run::Setup;
use super::step::Trainer;
use crate::checkpoint::{Background, Written};

/// The checkpoints of a run. Every rank calls the same methods in the same order.
pub(super) struct Saver {
    background: Background,
    /// Step and folder of the last checkpoint.
    saved: Option<(u64, PathBuf)>,
    /// Step of the one under way, and when it began.
    begun: Option<(u64, Instant)>,
}

impl Saver {
    /// None written yet but `saved`. Makes room for the copies of `trainer`'s state; collective.
    pub fn new(
        setup: &Setup<'_>,
        trainer: &Trainer,
        pace: &Pace,
        saved: Option<(u64, PathBuf)>,
    ) -> Result<Self, Error> {
        // Files take their own time, while steps go on at theirs.
        let comm = setup.mesh.world().split_apart(0)?;
        comm.set_patience(pace.patience_with_disks());
        let keep = setup.plan.train.keep_checkpoints;
        let mut background = Background::new(&setup.folder.checkpoints(), keep, comm)?;
        background.reserve(&trainer.contents(&setup.config, &setup.attachments).slices);
        Ok(Self { background, saved, begun: None })
    }

    /// Begins to write the state of `trainer`, unless its step is written already.
    pub fn save(
        &mut self,
        trainer: &Trainer,
        setup: &Setup<'_>,
        pace: &mut Pace,
        observer: &mut dyn Observer,
    ) -> Result<(), Error> {
        let step = trainer.done();
        let written = self.saved.as_ref().is_some_and(|(saved, _)| *saved == step);
        if written || self.begun.is_some_and(|(begun, _)| begun == step) {
            return Ok(());
        }
        let contents = trainer.contents(&setup.config, &setup.attachments);
        let before = self.background.start(trainer.kernels(), contents)?;
        self.note(before, pace, observer);
        self.begun = Some((step, Instant::now()));
        Ok(())
    }

    /// Looks whether the checkpoint under way has ended.
    pub fn poll(
        &mut self,
        setup: &Setup<'_>,
        pace: &mut Pace,
        observer: &mut dyn Observer,
    ) -> Result<(), Error> {
        let written = self.background.poll(setup.mesh.world().as_ref())?;
        self.note(written, pace, observer);
        Ok(())
    }

    /// Waits until all is written; the last checkpoint.
    pub fn finish(
        mut self,
        pace: &mut Pace,
        observer: &mut dyn Observer,
    ) -> Result<Option<PathBuf>, Error> {
        let written = self.background.wait()?;
        self.note(written, pace, observer);
        Ok(self.saved.map(|(_, path)| path))
    }

    fn note(&mut self, written: Option<Written>, pace: &mut Pace, observer: &mut dyn Observer) {
        let Some(Written { step, path, hash }) = written else { return };
        if let Some((_, begun)) = self.begun.take() {
            pace.save(begun.elapsed());
        }
        observer.observe(&Event::Saved { step, path: &path, hash });
        self.saved = Some((step, path));
    }
}
