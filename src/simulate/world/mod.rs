//! The clusters of a scenario, exchange by exchange.
//!
//! The outer loop, its codec and its rule are those of a real cluster ([`crate::diloco`]); only the
//! clock and the links are made up. An exchange has these parts, each with a file: clusters come and
//! go; they compute; they say what they have (liars, something else); the network carries it until
//! the round closes; everybody settles what is there.
//!
//! A cluster whose steps end after the closing goes on computing and sends what it has in the
//! exchange in which it is done. An update that does not count, for whatever reason, is kept: it
//! enters the sender's next update as its residual.

mod arrive;
mod carry;
mod compute;
mod contribute;
mod damage;
mod liars;
mod pace;
mod peer;
mod settle;

use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use super::Error;
use super::network::Dice;
use super::network::Nanos;
use super::network::Net;
use super::network::from_ms;
use super::network::to_s;
use super::objective::Objective;
use super::results::Fate;
use super::results::PeerRecord;
use super::results::Record;
use super::scenario::Scenario;
use crate::aggregate::Aggregator;
use crate::codec::About;
use crate::codec::Codec;
use crate::crypto::Hash;
use crate::diloco::Fragment;
use crate::diloco::Inner;
use crate::diloco::Moved;
use crate::diloco::Outer;
use crate::diloco::Rhythm;
use crate::diloco::Settings;
use crate::train::Stop;
use liars::Liars;
use peer::Peer;

pub use pace::slowest_step;
pub use peer::net;

/// How a simulation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// All its exchanges are done.
    Finished,
    /// The outer weights, or all clusters' training, came to a value that is not finite.
    Diverged {
        /// In which exchange.
        exchange: u64,
        /// What did.
        why: String,
    },
}

/// What a simulation leaves behind, beside its records.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// How it ended.
    pub ending: Ending,
    /// Loss of the first weights on held-out data.
    pub first_loss: Option<f64>,
    /// Part of their time that the clusters computed.
    pub utilization: f64,
    /// Identity of the outer weights and momentum at the end.
    pub outer_hash: Hash,
    /// Where this process spent its time.
    pub spent: Spent,
}

/// Where this process spent its time; tells of the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spent {
    /// Inner steps, reading their batches included.
    pub inner: Duration,
    /// Evaluations.
    pub evaluations: Duration,
    /// Everything, these included.
    pub all: Duration,
}

/// Simulates `scenario`; `each` is told of every exchange.
pub fn run<O: Objective>(
    scenario: &Scenario,
    objective: &O,
    stop: &Stop,
    each: &mut dyn FnMut(&Record) -> Result<(), Error>,
) -> Result<Outcome, Error> {
    let begun = Instant::now();
    let mut world = World::new(scenario, objective)?;
    let first_loss = world.first_loss()?;
    let mut ending = Ending::Finished;
    for number in 0..world.exchanges {
        if stop.asked() {
            return Err(Error::Stopped);
        }
        let (record, diverged) = world.exchange(number)?;
        each(&record)?;
        if let Some(why) = diverged {
            ending = Ending::Diverged { exchange: number, why };
            break;
        }
    }
    world.spent.all = begun.elapsed();
    let [computed, all] = world.times;
    Ok(Outcome {
        ending,
        first_loss,
        utilization: part(computed, all),
        outer_hash: outer_hash(&world.outers),
        spent: world.spent,
    })
}

/// Everything that lasts from exchange to exchange.
struct World<'a, O: Objective> {
    scenario: &'a Scenario,
    objective: &'a O,
    settings: Settings,
    rhythm: Rhythm,
    codec: Arc<dyn Codec>,
    job: Hash,
    net: Net,
    fragments: Vec<Fragment>,
    /// How many there will be.
    exchanges: u64,
    peers: Vec<Peer<'a, O::Inner>>,
    liars: Vec<Liars>,
    /// By fragment: what all hold alike.
    outers: Vec<Arc<Outer>>,
    aggregators: Vec<Aggregator>,
    /// By fragment: the last aggregate, for liars.
    previous: Vec<Option<Vec<f32>>>,
    /// What the last exchange decided, where it is not applied yet.
    pending: Option<Decision>,
    /// When the exchange under way opened.
    opened: Nanos,
    tokens: u64,
    /// Nanoseconds of computing, and of all, of all clusters.
    times: [u128; 2],
    spent: Spent,
}

/// One exchange of one fragment.
#[derive(Clone, Copy, Debug)]
struct Slot {
    number: u64,
    fragment: usize,
    round: u64,
    /// Inner steps done at its beginning and when its update is due.
    from: u64,
    to: u64,
    is_last: bool,
    dice: Dice,
}

/// What an exchange decided about a fragment.
#[derive(Clone, Debug)]
struct Decision {
    fragment: usize,
    outer: Arc<Outer>,
    moved: Moved,
    /// Where every cluster takes the outer step for itself.
    aggregate: Option<Vec<f32>>,
}

/// A cluster in the exchange under way.
#[derive(Debug)]
struct Entry {
    /// Its place among the peers: its number.
    peer: usize,
    /// When its update is ready, or its crash came.
    ready: Nanos,
    bytes: Option<Arc<[u8]>>,
    /// Whether the cluster keeps the update that it sent, to take it back where it does not count.
    is_own: bool,
    record: PeerRecord,
}

impl Entry {
    fn new(peer: usize, fate: Fate, ready: Nanos) -> Self {
        let record = PeerRecord::of(peer, fate);
        Self { peer, ready, bytes: None, is_own: false, record }
    }

    /// Whether it takes part: it may have an update, and receives those of the others.
    fn is_member(&self) -> bool {
        !matches!(self.record.fate, Fate::Crashed | Fate::Down)
    }

    /// Whether it is there with work that can be sent.
    fn has_work(&self) -> bool {
        self.record.fate == Fate::Counted
    }
}

impl<'a, O: Objective> World<'a, O> {
    fn new(scenario: &'a Scenario, objective: &'a O) -> Result<Self, Error> {
        let wrong = |complaints: Vec<String>| Error::Scenario { complaints };
        let codec = scenario.codec.codec().map_err(|error| wrong(vec![error.to_string()]))?;
        let peers = peer::peers(scenario);
        let count = scenario.outer.fragments;
        let fragments = objective.inner(0)?.fragments(count);
        let layers = usize::MAX;
        let settings = Settings::new(&scenario.outer, peers.len() as u64, codec.as_ref(), layers);
        let settings = settings.map_err(wrong)?;
        let rounds = scenario.steps() / settings.inner_steps;
        let aggregator = Aggregator::new(&scenario.aggregate)?;
        Ok(Self {
            scenario,
            objective,
            rhythm: Rhythm::new(&settings),
            settings,
            codec: codec.into(),
            job: scenario.hash(),
            net: peer::net(scenario),
            exchanges: rounds * count as u64,
            liars: liars::all(scenario, &fragments)?,
            outers: Vec::new(),
            aggregators: vec![aggregator; count],
            previous: vec![None; count],
            pending: None,
            fragments,
            peers,
            opened: 0,
            tokens: 0,
            times: [0; 2],
            spent: Spent::default(),
        })
    }

    fn first_loss(&mut self) -> Result<Option<f64>, Error> {
        let slot = self.slot(0);
        self.arrive(&slot)?;
        self.evaluate()
    }

    /// One exchange, and why training cannot go on, if it cannot.
    fn exchange(&mut self, number: u64) -> Result<(Record, Option<String>), Error> {
        let slot = self.slot(number);
        self.arrive(&slot)?;
        let mut entries = self.compute(&slot)?;
        self.contribute(&slot, &mut entries)?;
        let closed = self.carry(&slot, &entries);
        let settled = self.settle(&slot, &mut entries, &closed)?;
        self.pass_time(&slot, &entries, &closed);
        let mut record = self.record(&slot, entries, &closed, &settled);
        let [computed, all] = self.count_time(&slot, &record);
        record.utilization = part(computed, all);
        self.times = [self.times[0] + computed, self.times[1] + all];
        let every = self.scenario.scenario.eval_every;
        let is_due = every > 0 && (number + 1).is_multiple_of(every);
        let mut diverged = settled.diverged.or_else(|| all_diverged(&self.peers, &record));
        if is_due || slot.is_last || diverged.is_some() {
            record.eval_loss = self.evaluate()?;
        }
        if record.eval_loss.is_some_and(|loss| !loss.is_finite()) {
            diverged = diverged.or(Some("the loss on held-out data is not finite".into()));
        }
        Ok((record, diverged))
    }

    fn slot(&self, number: u64) -> Slot {
        let parts = self.fragments.len() as u64;
        let due = |number: u64| self.rhythm.due(number / parts, (number % parts) as usize);
        Slot {
            number,
            fragment: (number % parts) as usize,
            round: number / parts,
            from: number.checked_sub(1).map_or(0, due),
            to: due(number),
            is_last: number + 1 >= self.exchanges,
            dice: Dice { seed: self.scenario.scenario.seed, exchange: number },
        }
    }

    /// What updates of the exchange must be about.
    fn about(&self, slot: &Slot) -> About {
        let round = self.outers[slot.fragment].round();
        About { job: self.job, round, fragment: slot.fragment as u32 }
    }

    /// Loss of the outer weights on held-out data, by an honest cluster that is there, if one is.
    fn evaluate(&mut self) -> Result<Option<f64>, Error> {
        let here = |peer: &&mut Peer<'_, O::Inner>| peer.is_here() && peer.is_honest();
        let Some(cluster) = self.peers.iter_mut().find(here).and_then(|p| p.cluster.as_mut())
        else {
            return Ok(None);
        };
        let begun = Instant::now();
        let loss = self.objective.evaluate(cluster);
        self.spent.evaluations += begun.elapsed();
        loss
    }

    /// Virtual time of all clusters after the exchange: what they computed, and all.
    fn count_time(&mut self, slot: &Slot, record: &Record) -> [u128; 2] {
        let (mut sum, overlaps) = ([0, 0], self.overlaps(slot));
        for entry in &record.peers {
            let peer = &mut self.peers[entry.cluster];
            let until = match entry.fate {
                Fate::Down => continue,
                Fate::Crashed => {
                    peer.watch.forget();
                    self.opened
                }
                // Its own time goes on without a pause.
                _ if overlaps => peer.free_at,
                _ => peer.merge_at,
            };
            let [computed, all] = peer.watch.count(until);
            sum = [sum[0] + computed, sum[1] + all];
        }
        sum
    }

    /// Whether clusters compute on before they have the aggregate of this exchange.
    fn overlaps(&self, slot: &Slot) -> bool {
        self.settings.overlap_steps > 0 && !slot.is_last
    }

    fn record(
        &self,
        slot: &Slot,
        entries: Vec<Entry>,
        closed: &super::network::Closed,
        settled: &settle::Settlement,
    ) -> Record {
        let honest = entries.iter().filter(|entry| self.peers[entry.peer].is_honest());
        let losses: Vec<f64> = honest.filter_map(|entry| entry.record.loss).collect();
        let mean = losses.iter().sum::<f64>() / losses.len().max(1) as f64;
        let count = |fate| entries.iter().filter(|entry| entry.record.fate == fate).count();
        let moved = settled.moved.as_ref();
        Record {
            exchange: slot.number,
            round: slot.round,
            fragment: slot.fragment,
            step: slot.to,
            time_s: to_s(closed.at),
            tokens: self.tokens,
            bytes_up: closed.up_bytes.iter().sum(),
            bytes_down: closed.down_bytes.iter().sum(),
            train_loss: (!losses.is_empty()).then_some(mean),
            eval_loss: None,
            utilization: 0.0,
            members: entries.iter().filter(|entry| entry.is_member()).count(),
            counted: if settled.skipped.is_some() { 0 } else { count(Fate::Counted) },
            rejected: count(Fate::Rejected),
            skipped: settled.skipped.clone(),
            aggregate_norm: moved.map(|moved| moved.aggregate_norm),
            aggregate_lag1: moved.and_then(|moved| moved.aggregate_lag1),
            step_norm: moved.map(|moved| moved.step_norm),
            peers: entries.into_iter().map(|entry| entry.record).collect(),
        }
    }

    /// When everybody can go on.
    fn pass_time(&mut self, slot: &Slot, entries: &[Entry], closed: &super::network::Closed) {
        let settle = from_ms(self.scenario.network.settle_ms);
        let overlaps = self.overlaps(slot);
        for entry in entries.iter().filter(|entry| entry.is_member()) {
            let peer = &mut self.peers[entry.peer];
            let complete = closed.complete[entry.peer].unwrap_or(closed.at) + settle;
            let is_busy = entry.record.fate == Fate::Late && entry.ready > closed.at;
            peer.busy = is_busy.then_some(entry.ready);
            // Not before it has what counted earlier, nor before its own steps end; where it has an
            // update to send, the round may go on without them.
            let own = if is_busy { 0 } else { entry.ready };
            peer.merge_at = complete.max(peer.merge_at).max(own);
            peer.free_at = if overlaps { entry.ready } else { peer.merge_at };
        }
        self.opened = closed.at + settle;
    }
}

/// Whether nobody honest who was there could train.
fn all_diverged<I>(peers: &[Peer<'_, I>], record: &Record) -> Option<String> {
    let honest = record.peers.iter().filter(|entry| peers[entry.cluster].is_honest());
    let mut fates =
        honest.map(|entry| entry.fate).filter(|fate| !matches!(fate, Fate::Crashed | Fate::Down));
    let first = fates.next()?;
    let all = first == Fate::Diverged && fates.all(|fate| fate == Fate::Diverged);
    all.then(|| "the training of every honest cluster came to a value that is not finite".into())
}

fn part(of: u128, all: u128) -> f64 {
    if all == 0 { 0.0 } else { of as f64 / all as f64 }
}

/// Identity of the outer state of all fragments, as a cluster computes it.
fn outer_hash(outers: &[Arc<Outer>]) -> Hash {
    crate::diloco::outer_hash(outers.iter().map(Arc::as_ref))
}
