//! One run, from scenario to folder.

use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;

use super::Event;
use super::Watcher;
use super::lock;
use crate::crypto::Hash;
use crate::data;
use crate::data::Dataset;
use crate::ops;
use crate::ops::Kernels;
use crate::simulate::Error;
use crate::simulate::control::control;
use crate::simulate::objective::NeuroLlm;
use crate::simulate::objective::Quick;
use crate::simulate::results::Folder;
use crate::simulate::results::Record;
use crate::simulate::results::Summary;
use crate::simulate::results::Tally;
use crate::simulate::scenario::Objective;
use crate::simulate::scenario::Scenario;
use crate::simulate::world;
use crate::simulate::world::Outcome;
use crate::train::Stop;

/// Something to compute on.
#[derive(Clone, Debug)]
pub struct Worker {
    /// Operations, on threads of its own.
    pub kernels: Arc<dyn Kernels>,
}

/// Data that runs share.
#[derive(Debug, Default)]
pub struct Datasets {
    open: Mutex<Vec<(data::Config, usize, Arc<Dataset>)>>,
}

impl Datasets {
    /// The data of a scenario; none where it needs none.
    pub fn of(&self, scenario: &Scenario) -> Result<Option<Arc<Dataset>>, Error> {
        if scenario.scenario.objective == Objective::Toy {
            return Ok(None);
        }
        let wrong = |complaints| Error::Scenario { complaints };
        let vocab = scenario.model.dims().map_err(wrong)?.vocab;
        let mut open = lock(&self.open);
        let mut found = open.iter().filter(|(c, v, _)| *c == scenario.data && *v == vocab);
        if let Some((_, _, dataset)) = found.next() {
            return Ok(Some(dataset.clone()));
        }
        let dataset = Arc::new(Dataset::open(&scenario.data, vocab)?);
        open.push((scenario.data.clone(), vocab, dataset.clone()));
        Ok(Some(dataset))
    }
}

impl Worker {
    /// Runs a scenario in its folder under `out`, unless it has been run there.
    pub(super) fn run(
        &self,
        point: usize,
        scenario: &Scenario,
        (out, resume): (&Path, bool),
        (datasets, stop): (&Datasets, &Stop),
        watch: &Watcher<'_>,
    ) -> Result<Summary, Error> {
        let dataset = datasets.of(scenario)?;
        let folder = Folder::of(out, scenario, dataset.as_deref().map(Dataset::hash));
        if let Some(summary) = folder.summary()? {
            if !resume {
                let why = "holds this run already; use --resume to keep it, or another --out";
                return Err(Error::Folder { path: folder.path().into(), why: why.into() });
            }
            watch(Event::Kept { point, summary: &summary });
            return Ok(summary);
        }
        watch(Event::Begun { point, folder: &folder });
        let mut rounds = folder.begin(scenario)?;
        let each = &mut |record: &Record| {
            watch(Event::Exchange { point, record });
            rounds.append(record)
        };
        let named = |source| match source {
            Error::Stopped => Error::Stopped,
            source => Error::Run { run: folder.name(), source: Box::new(source) },
        };
        let summary = simulate(scenario, dataset, &self.kernels, stop, each).map_err(named)?;
        folder.finish(rounds, &summary)?;
        watch(Event::Done { point, summary: &summary });
        Ok(summary)
    }
}

/// Simulates a scenario on `dataset`, if it needs data; `each` is told of every exchange.
pub fn simulate(
    scenario: &Scenario,
    dataset: Option<Arc<Dataset>>,
    kernels: &Arc<dyn Kernels>,
    stop: &Stop,
    each: &mut (dyn FnMut(&Record) -> Result<(), Error> + Send),
) -> Result<Summary, Error> {
    // So that all of it, codecs and rules too, runs on the threads of these kernels.
    ops::together(kernels.as_ref(), || inside(scenario, dataset, kernels, stop, each))
}

fn inside(
    scenario: &Scenario,
    dataset: Option<Arc<Dataset>>,
    kernels: &Arc<dyn Kernels>,
    stop: &Stop,
    each: &mut (dyn FnMut(&Record) -> Result<(), Error> + Send),
) -> Result<Summary, Error> {
    let about = &scenario.scenario;
    let clusters = scenario.members().count();
    let objective = match dataset {
        Some(dataset) => {
            let batches = if about.control { clusters } else { 1 };
            Some(NeuroLlm::new(scenario, dataset, kernels.clone(), batches)?)
        }
        None => None,
    };
    let weights = match &objective {
        Some(objective) => objective.plan().dims.parameters(),
        None => scenario.toy.parameters as u64,
    };
    let (mut tally, mut last) = (Tally::default(), Record::default());
    let part = weights / scenario.outer.fragments.max(1) as u64;
    let each = &mut |record: &Record| {
        tally.add(record, part);
        last = record.clone();
        each(record)
    };
    let outcome: Outcome = match &objective {
        Some(objective) if about.control => control(scenario, objective, stop, each)?,
        Some(objective) => world::run(scenario, objective, stop, each)?,
        None => world::run(scenario, &Quick::new(scenario), stop, each)?,
    };
    let mut summary = Summary::new(scenario, &outcome, tally, &last);
    summary.weights = weights;
    summary.machine.device = kernels.describe();
    if let Some(objective) = &objective {
        let dataset = objective.loader().dataset();
        summary.data = Some::<Hash>(dataset.hash());
        summary.entropy_floor = dataset.entropy_floor();
    }
    Ok(summary)
}
