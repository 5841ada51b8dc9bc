//! One cluster of the federation: inner training, its updates, and the outer steps it follows.

use std::sync::Arc;

use super::Assignment;
use super::Contributed;
use super::Error;
use super::Fragment;
use super::Inner;
use super::Moved;
use super::Outer;
use super::Rhythm;
use super::RoundRecord;
use super::Settings;
use super::outer_hash;
use super::reduce;
use crate::codec::About;
use crate::codec::Codec;
use crate::codec::Residual;
use crate::codec::Update;
use crate::crypto::Domain;
use crate::crypto::Hash;
use crate::crypto::Hasher;
use crate::crypto::PeerId;
use crate::data::Batch;
use crate::data::Loader;
use crate::train::StepOutcome;
use crate::train::Trainer;

/// A cluster. It knows no network and no clock: whoever drives it asks what comes [`Self::next`],
/// carries the bytes of updates, and brings aggregates.
///
/// A round of a fragment: [`Self::step`] for H inner steps, [`Self::contribute`], and, tau inner steps
/// later, [`Self::apply`]. The outer weights that this leaves are the base of the next
/// pseudo-gradient, whatever local weights were blended with.
#[derive(Debug)]
pub struct Cluster<I = Trainer> {
    pub(super) trainer: I,
    pub(super) settings: Settings,
    rhythm: Rhythm,
    codec: Arc<dyn Codec>,
    pub(super) job: Hash,
    peer: PeerId,
    pub(super) assignment: Assignment,
    pub(super) parts: Vec<Part>,
}

/// What a cluster is made of.
#[derive(Debug)]
pub struct Setup<I = Trainer> {
    /// The inner training. All clusters of a job begin with the same weights.
    pub trainer: I,
    /// The same for all clusters of a job.
    pub settings: Settings,
    /// How updates are written; the same for all.
    pub codec: Arc<dyn Codec>,
    /// Identity of the job; the same for all.
    pub job: Hash,
    /// Who this cluster is.
    pub peer: PeerId,
    /// What it reads.
    pub assignment: Assignment,
}

/// A fragment, as a cluster keeps it.
#[derive(Debug)]
pub(super) struct Part {
    pub fragment: Fragment,
    pub outer: Arc<Outer>,
    pub residual: Residual,
    /// The last pseudo-gradient; empty before the first, or where nobody wants to compare.
    pub last: Vec<f32>,
    pub in_flight: Option<InFlight>,
}

/// An update that was sent, and whose round has not been applied yet.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct InFlight {
    pub bytes: Arc<[u8]>,
    pub contributed: Contributed,
}

/// What a cluster does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Inner steps, so many before anything else is due.
    Train {
        /// How many.
        steps: u64,
    },
    /// Its update of a fragment.
    Contribute {
        /// Which.
        fragment: usize,
    },
    /// The outer step of a fragment, for which it needs the aggregate.
    Apply {
        /// Which.
        fragment: usize,
    },
}

/// What becomes of inner steps whose update does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Uncounted {
    /// They enter the next update, as a residual does.
    Kept,
    /// They are lost.
    Dropped,
}

impl<I: Inner> Cluster<I> {
    /// A cluster at the beginning: the trainer's weights are the outer weights.
    pub fn new(setup: Setup<I>) -> Result<Self, Error> {
        let mut parts = Vec::new();
        for fragment in setup.trainer.fragments(setup.settings.fragments) {
            let elements = fragment.layout.elements();
            let mut weights = vec![0.0; elements];
            setup.trainer.read_tensors(&fragment.tensors, &mut weights)?;
            let (outer, residual) = (Arc::new(Outer::new(weights)), Residual::new(elements));
            parts.push(Part { fragment, outer, residual, last: Vec::new(), in_flight: None });
        }
        Ok(Self::of(setup, parts))
    }

    pub(super) fn of(setup: Setup<I>, parts: Vec<Part>) -> Self {
        let Setup { trainer, settings, codec, job, peer, assignment } = setup;
        let rhythm = Rhythm::new(&settings);
        Self { trainer, settings, rhythm, codec, job, peer, assignment, parts }
    }

    /// What comes next in a training of `steps` inner steps; none when all is done. Rounds that
    /// would be sent after the last step are not; what is in flight then is applied.
    pub fn next(&self, steps: u64) -> Option<Next> {
        let (done, mut soonest) = (self.done(), steps);
        for (fragment, part) in self.parts.iter().enumerate() {
            let due = self.rhythm.due(part.outer.round, fragment);
            if part.in_flight.is_none() && due <= steps {
                if done >= due {
                    return Some(Next::Contribute { fragment });
                }
                soonest = soonest.min(due);
            }
        }
        for (fragment, part) in self.parts.iter().enumerate() {
            let due = self.rhythm.applied(part.outer.round, fragment).min(steps);
            if part.in_flight.is_some() {
                if done >= due {
                    return Some(Next::Apply { fragment });
                }
                soonest = soonest.min(due);
            }
        }
        (done < soonest).then(|| Next::Train { steps: soonest - done })
    }
}

impl Cluster {
    /// The sequences of the next inner step, as they are assigned.
    pub fn batch(&self, loader: &Loader) -> Result<Batch, Error> {
        let (step, mine) = (self.done(), self.trainer.sequences());
        let place = self.assignment.loader_step(step).ok_or_else(|| Error::Unassigned {
            step,
            assignment: format!("{:?}", self.assignment),
        })?;
        Ok(loader.sequences(place, mine.start, mine.len())?)
    }

    /// One inner step on `batch`.
    pub fn step(&mut self, batch: &Batch) -> Result<StepOutcome, Error> {
        Ok(self.trainer.step(batch, 0)?)
    }

    /// `steps` inner steps on what is assigned; `each` is told of every one.
    pub fn train(
        &mut self,
        loader: &Loader,
        steps: u64,
        each: &mut dyn FnMut(&StepOutcome),
    ) -> Result<(), Error> {
        for _ in 0..steps {
            let batch = self.batch(loader)?;
            each(&self.step(&batch)?);
        }
        Ok(())
    }
}

impl<I: Inner> Cluster<I> {
    /// Leaves out `steps` inner steps: it was late, or was not there.
    pub fn skip(&mut self, steps: u64) {
        self.trainer.skip(steps);
    }

    /// Reads from now on what `assignment` says.
    pub fn assign(&mut self, assignment: Assignment) {
        self.assignment = assignment;
    }

    /// The pseudo-gradient of a fragment as it stands, flat: outer minus local weights.
    pub fn pseudo_gradient(&self, fragment: usize) -> Result<Vec<f32>, Error> {
        let part = &self.parts[fragment];
        let mut local = vec![0.0; part.outer.weights.len()];
        self.trainer.read_tensors(&part.fragment.tensors, &mut local)?;
        let outer = part.outer.weights();
        reduce::each(&mut local, outer, |local, outer| outer - local);
        Ok(local)
    }

    /// Writes the update of a fragment: pseudo-gradient, residual, bytes. Until the round is applied
    /// the bytes are kept, and [`Self::update`] gives them again.
    pub fn contribute(&mut self, fragment: usize) -> Result<(About, Arc<[u8]>), Error> {
        let delta = self.pseudo_gradient(fragment)?;
        self.contribute_instead(fragment, delta)
    }

    /// As [`Self::contribute`], of `delta` in place of the pseudo-gradient: where noise is added for
    /// privacy, or an attack is played.
    pub fn contribute_instead(
        &mut self,
        fragment: usize,
        delta: Vec<f32>,
    ) -> Result<(About, Arc<[u8]>), Error> {
        let about = self.about(fragment);
        let (round, decay) = (about.round, self.settings.residual_decay as f32);
        let part = &mut self.parts[fragment];
        if part.in_flight.is_some() {
            let what = "the update was written already";
            return Err(Error::OutOfTurn { fragment, round, what });
        }
        let with = (self.codec.as_ref(), &part.fragment.layout);
        let bytes = part.residual.encode(decay, &delta, with, &about);
        let bytes = bytes.map_err(|source| Error::Update { round, fragment, source })?;
        let squares = reduce::sum_of_squares(&delta);
        let before = reduce::sum_of_squares(&part.last);
        let lag1 = match part.last.is_empty() {
            true => None,
            false => reduce::cosine(squares, before, reduce::inner_product(&delta, &part.last)),
        };
        let contributed = Contributed {
            pseudo_gradient_norm: squares.sqrt(),
            pseudo_gradient_lag1: lag1,
            residual_norm: reduce::sum_of_squares(part.residual.values()).sqrt(),
            update_bytes: bytes.len() as u64,
            bits_per_weight: bytes.len() as f64 * 8.0 / delta.len().max(1) as f64,
        };
        let bytes: Arc<[u8]> = bytes.into();
        part.in_flight = Some(InFlight { bytes: bytes.clone(), contributed });
        part.last = if self.settings.correlation { delta } else { Vec::new() };
        Ok((about, bytes))
    }

    /// The update of a fragment that is in flight: to be published again after a resume.
    pub fn update(&self, fragment: usize) -> Option<(About, Arc<[u8]>)> {
        let sent = self.parts[fragment].in_flight.as_ref()?;
        Some((self.about(fragment), sent.bytes.clone()))
    }

    /// Takes back the update in flight of a fragment: the round goes on without it, and what it
    /// said is a residual again. To be called before the round is applied.
    pub fn take_back(&mut self, fragment: usize) -> Result<(), Error> {
        let about = self.about(fragment);
        let (round, part) = (about.round, &mut self.parts[fragment]);
        let Some(sent) = part.in_flight.take() else {
            return Err(Error::OutOfTurn { fragment, round, what: "no update is in flight" });
        };
        let (codec, layout) = (self.codec.as_ref(), &part.fragment.layout);
        let taken = Update::parse(&sent.bytes, codec, layout, &about)
            .and_then(|update| part.residual.take_back(&update, layout));
        taken.map_err(|source| Error::Update { round, fragment, source })
    }

    /// Takes the outer step of a fragment's round: outer weights move against `aggregate`, local
    /// weights become `alpha·local + (1 - alpha)·outer`.
    pub fn apply(&mut self, fragment: usize, aggregate: &[f32]) -> Result<RoundRecord, Error> {
        // A copy where others share it: they are not there yet.
        let outer = Arc::make_mut(&mut self.parts[fragment].outer);
        let moved = outer.step(&self.settings, aggregate)?;
        self.land(fragment, moved)
    }

    /// Ends the round of a fragment without an outer step, where there is no aggregate: outer weights
    /// stay, local ones follow them, and what this cluster's update said is a residual again.
    pub fn pass(&mut self, fragment: usize) -> Result<RoundRecord, Error> {
        self.take_back(fragment)?;
        Arc::make_mut(&mut self.parts[fragment].outer).pass();
        self.land(fragment, Moved::NONE)
    }

    /// As [`Self::apply`], where the outer step has been taken elsewhere: of many clusters in one
    /// process one does it for all, and they share the result.
    ///
    /// A cluster that has sent nothing in that round, or that was away for several, goes on from
    /// there: its own inner steps since are lost, unless [`Self::leave`] has kept them.
    pub fn adopt(
        &mut self,
        fragment: usize,
        outer: Arc<Outer>,
        moved: Moved,
    ) -> Result<RoundRecord, Error> {
        let part = &mut self.parts[fragment];
        let (found, expected) = (outer.weights.len(), part.outer.weights.len());
        if found != expected {
            return Err(Error::OtherModel { fragment, found, expected });
        }
        let round = part.outer.round;
        if outer.round <= round {
            return Err(Error::OutOfTurn { fragment, round, what: "a round that is over" });
        }
        part.outer = outer;
        self.land(fragment, moved)
    }

    /// Makes local weights follow outer weights that have moved.
    fn land(&mut self, fragment: usize, moved: Moved) -> Result<RoundRecord, Error> {
        let part = &mut self.parts[fragment];
        let (tensors, outer) = (&part.fragment.tensors, part.outer.weights());
        let alpha = self.settings.blend as f32;
        let rest = (1.0 - self.settings.blend) as f32;
        if alpha == 0.0 {
            self.trainer.write_tensors(tensors, outer)?;
        } else {
            let mut local = vec![0.0; outer.len()];
            self.trainer.read_tensors(tensors, &mut local)?;
            reduce::each(&mut local, outer, |local, outer| alpha * local + rest * outer);
            self.trainer.write_tensors(tensors, &local)?;
        }
        let contributed = part.in_flight.take().map(|sent| sent.contributed);
        let round = part.outer.round - 1;
        Ok(RoundRecord { round, fragment, step: self.trainer.done(), contributed, moved })
    }

    /// Leaves the round of a fragment without an update: what was computed enters the next update,
    /// or is dropped. To be called before the round is adopted.
    pub fn leave(&mut self, fragment: usize, uncounted: Uncounted) -> Result<(), Error> {
        let round = self.parts[fragment].outer.round;
        if self.parts[fragment].in_flight.is_some() {
            let what = "the update was written already";
            return Err(Error::OutOfTurn { fragment, round, what });
        }
        if uncounted == Uncounted::Kept {
            let delta = self.pseudo_gradient(fragment)?;
            let decay = self.settings.residual_decay as f32;
            let kept = self.parts[fragment].residual.keep(decay, &delta);
            kept.map_err(|source| Error::Update { round, fragment, source })?;
        }
        Ok(())
    }
}

impl Cluster {
    /// Runs `body` with the outer weights in place of the local ones, which are those to evaluate
    /// and to publish. With one fragment that was just applied, both are the same.
    pub fn with_outer_weights<T, E: From<Error>>(
        &mut self,
        body: impl FnOnce(&mut Trainer) -> Result<T, E>,
    ) -> Result<T, E> {
        let whole = self.parts.iter().map(|part| part.outer.weights.len()).sum();
        let mut local = vec![0.0; whole];
        self.trainer.read_weights(&mut local).map_err(Error::from)?;
        for part in &self.parts {
            let (tensors, outer) = (&part.fragment.tensors, part.outer.weights());
            self.trainer.write_tensors(tensors, outer).map_err(Error::from)?;
        }
        let result = body(&mut self.trainer);
        self.trainer.write_weights(&local).map_err(Error::from)?;
        result
    }

    /// Identity of all that decides this cluster's next rounds: inner state, outer state,
    /// residuals, what it reads, what is in flight.
    pub fn state_hash(&self) -> Result<Hash, Error> {
        let mut hasher = Hasher::new(Domain::OuterState);
        hasher.update(self.trainer.state_hash()?.as_bytes());
        hasher.update(self.outer_hash().as_bytes());
        let Assignment { peer, peers, since, first } = self.assignment;
        for word in [peer, peers, since, first] {
            hasher.update(&word.to_le_bytes());
        }
        for part in &self.parts {
            hasher.update_rayon(bytemuck::cast_slice(part.residual.values()));
            let sent = part.in_flight.as_ref().map_or(&[][..], |sent| &sent.bytes);
            hasher.update(&(sent.len() as u64).to_le_bytes()).update_rayon(sent);
        }
        Ok(hasher.finish())
    }

    /// The inner training.
    pub fn trainer(&self) -> &Trainer {
        &self.trainer
    }

    /// The inner training, to evaluate with.
    pub fn trainer_mut(&mut self) -> &mut Trainer {
        &mut self.trainer
    }
}

impl<I: Inner> Cluster<I> {
    /// Identity of the outer state of all fragments: the same on all clusters after every round.
    pub fn outer_hash(&self) -> Hash {
        outer_hash(self.parts.iter().map(|part| part.outer.as_ref()))
    }

    /// What an update of a fragment is about now.
    pub fn about(&self, fragment: usize) -> About {
        let round = self.parts[fragment].outer.round;
        About { job: self.job, round, fragment: fragment as u32 }
    }

    /// Inner steps done, those left out included.
    pub fn done(&self) -> u64 {
        self.trainer.done()
    }

    /// Number of fragments.
    pub fn fragments(&self) -> usize {
        self.parts.len()
    }

    /// What a fragment is.
    pub fn fragment(&self, fragment: usize) -> &Fragment {
        &self.parts[fragment].fragment
    }

    /// The outer state of a fragment.
    pub fn outer(&self, fragment: usize) -> &Arc<Outer> {
        &self.parts[fragment].outer
    }

    /// What the updates of a fragment have not said yet.
    pub fn residual(&self, fragment: usize) -> &Residual {
        &self.parts[fragment].residual
    }

    /// The settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// How updates are written.
    pub fn codec(&self) -> &Arc<dyn Codec> {
        &self.codec
    }

    /// Who it is.
    pub fn peer(&self) -> PeerId {
        self.peer
    }

    /// What it reads.
    pub fn assignment(&self) -> Assignment {
        self.assignment
    }
}
