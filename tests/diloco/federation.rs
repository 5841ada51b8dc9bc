//! Clusters of one process that exchange through memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use neuroshard::aggregate;
use neuroshard::aggregate::Aggregator;
use neuroshard::backend;
use neuroshard::codec;
use neuroshard::codec::Codec;
use neuroshard::config::RunConfig;
use neuroshard::crypto::Hash;
use neuroshard::crypto::PeerId;
use neuroshard::data::{Dataset, Loader};
use neuroshard::diloco;
use neuroshard::diloco::{Assignment, Cluster, InMemory, RoundRecord, Settings, Setup, Turn};
use neuroshard::ops::Kernels;
use neuroshard::shard::Mesh;
use neuroshard::train::{Plan, Trainer};

/// A model that trains in milliseconds, with no round extents.
const MICRO: &str = r#"
[model]
width = 48
layers = 3
heads = 3
kv_heads = 1
ffn = 72
vocab = 64
[device]
level = "auto"
threads = 1
[train]
steps = 80
seq_len = 18
batch_sequences = 6
micro_batch_sequences = 3
[optim]
lr = 3e-3
warmup_steps = 4
"#;

/// Everything that clusters of one job share.
pub struct Job {
    pub plan: Plan,
    pub device: backend::Config,
    pub kernels: Arc<dyn Kernels>,
    pub loader: Loader,
    pub codec: Arc<dyn Codec>,
    pub id: Hash,
}

impl Job {
    /// The micro model with `sets` over it.
    pub fn new(sets: &[&str]) -> Self {
        let sets: Vec<_> = sets.iter().map(|s| (*s).to_string()).collect();
        let config = RunConfig::from_text("micro", MICRO, &sets).unwrap_or_else(|e| panic!("{e}"));
        let dataset = Arc::new(Dataset::open(&config.data, 64).unwrap());
        let plan = Plan::new(&config.parts(), dataset.hash()).unwrap();
        let (seq_len, batch) = (plan.train.seq_len, plan.train.batch_sequences);
        Self {
            loader: Loader::new(dataset, plan.seed, seq_len, batch).unwrap(),
            kernels: backend::select(&config.device).unwrap(),
            device: config.device,
            codec: dense().into(),
            id: Hash([7; 32]),
            plan,
        }
    }

    pub fn trainer(&self) -> Trainer {
        self.trainer_on(&Mesh::single(self.plan.parallel.shards), &self.kernels)
    }

    /// A rank's, whose kernels must be its own: ranks wait for each other on their threads.
    pub fn trainer_on(&self, mesh: &Mesh, kernels: &Arc<dyn Kernels>) -> Trainer {
        let layers = 0..self.plan.dims.layers;
        Trainer::new(kernels.clone(), &self.plan, mesh, layers).unwrap()
    }

    pub fn settings(&self, outer: &diloco::Config, peers: u64) -> Settings {
        Settings::new(outer, peers, self.codec.as_ref(), self.plan.dims.layers).unwrap()
    }

    pub fn setup(&self, outer: &diloco::Config, peer: u64, peers: u64) -> Setup {
        self.setup_of(self.trainer(), outer, peer, peers)
    }

    pub fn setup_of(
        &self,
        trainer: Trainer,
        outer: &diloco::Config,
        peer: u64,
        peers: u64,
    ) -> Setup {
        Setup {
            trainer,
            settings: self.settings(outer, peers),
            codec: self.codec.clone(),
            job: self.id,
            peer: PeerId::numbered(peer),
            assignment: Assignment::new(peer, peers),
        }
    }

    /// The plain mean: of two clusters nothing else can be made.
    pub fn aggregator(&self) -> Aggregator {
        use aggregate::{Clip, Mix, Rule};
        let (rule, clip, mix, faulty) = (Rule::Mean, Clip::None, Mix::None, Some(0));
        let config = aggregate::Config { rule, clip, mix, faulty, ..Default::default() };
        Aggregator::new(&config).unwrap()
    }
}

pub fn dense() -> Box<dyn Codec> {
    codec::Config { kind: codec::Kind::F32, ..Default::default() }.codec().unwrap()
}

/// Plain averaging of every `inner_steps` steps.
pub fn averaging(inner_steps: u64) -> diloco::Config {
    let (lr, momentum) = (Some(1.0), Some(0.0));
    diloco::Config { inner_steps, lr, momentum, ..diloco::Config::default() }
}

/// Clusters, each with its end of the exchange and its rule.
pub struct Federation<'a> {
    pub job: &'a Job,
    pub clusters: Vec<Cluster>,
    pub exchanges: Vec<InMemory>,
    /// By cluster, one per fragment.
    pub rules: Vec<Vec<Aggregator>>,
    /// By cluster: every round applied.
    pub records: Vec<Vec<RoundRecord>>,
    /// By cluster: the loss of every inner step.
    pub losses: Vec<Vec<f64>>,
    /// By round and fragment: the hash that every cluster must reach.
    pub hashes: BTreeMap<(u64, usize), Hash>,
}

impl<'a> Federation<'a> {
    pub fn new(job: &'a Job, outer: &diloco::Config, peers: u64) -> Self {
        let cluster = |peer| Cluster::new(job.setup(outer, peer, peers)).unwrap();
        Self::of(job, (0..peers).map(cluster).collect())
    }

    pub fn of(job: &'a Job, clusters: Vec<Cluster>) -> Self {
        let peers: Vec<_> = clusters.iter().map(Cluster::peer).collect();
        let mut exchanges = InMemory::group(&peers);
        // What was in flight when these were saved.
        for (cluster, exchange) in clusters.iter().zip(&mut exchanges) {
            for (about, bytes) in (0..cluster.fragments()).filter_map(|p| cluster.update(p)) {
                diloco::Exchange::publish(exchange, &about, &bytes).unwrap();
            }
        }
        Self {
            exchanges,
            rules: clusters
                .iter()
                .map(|cluster| (0..cluster.fragments()).map(|_| job.aggregator()).collect())
                .collect(),
            records: vec![Vec::new(); peers.len()],
            losses: vec![Vec::new(); peers.len()],
            hashes: BTreeMap::new(),
            clusters,
            job,
        }
    }

    /// Trains to inner step `until` of `steps`, or to the end.
    pub fn run(&mut self, steps: u64, until: u64) {
        let order: Vec<_> = (0..self.clusters.len()).collect();
        self.run_in_order(&order, steps, until);
    }

    /// As [`Self::run`], with the clusters' turns in this order. A cluster that has reached `until`
    /// exchanges nothing more.
    pub fn run_in_order(&mut self, order: &[usize], steps: u64, until: u64) {
        let mut is_idle = false;
        while !is_idle {
            is_idle = true;
            for &i in order {
                if until < steps && self.clusters[i].done() >= until {
                    continue;
                }
                is_idle &= !self.turn(i, steps);
            }
        }
    }

    /// One turn of cluster `i`; whether it did anything.
    pub fn turn(&mut self, i: usize, steps: u64) -> bool {
        let losses = &mut self.losses[i];
        let turn = diloco::turn(
            &mut self.clusters[i],
            steps,
            &self.job.loader,
            &mut self.exchanges[i],
            &mut self.rules[i],
            &mut |step| losses.push(step.loss),
        );
        match turn.unwrap_or_else(|e| panic!("cluster {i}: {e}")) {
            Turn::Done | Turn::Waiting { .. } => false,
            Turn::Trained { .. } | Turn::Published { .. } => true,
            Turn::Passed { why, .. } => panic!("cluster {i}: {why}"),
            Turn::Applied { record, rejected } => {
                assert_eq!(rejected, []);
                let hash = self.clusters[i].outer(record.fragment).hash();
                let first = *self.hashes.entry((record.round, record.fragment)).or_insert(hash);
                assert_eq!(hash, first, "cluster {i} after {record:?}");
                self.records[i].push(record);
                true
            }
        }
    }

    pub fn state_hashes(&self) -> Vec<Hash> {
        self.clusters.iter().map(|c| c.state_hash().unwrap()).collect()
    }
}

/// Mean loss of the first and of the last few steps.
pub fn ends(losses: &[f64]) -> (f64, f64) {
    let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
    (mean(&losses[..4]), mean(&losses[losses.len() - 4..]))
}
