//! Everything that a run's configuration implies, valid.
//!
//! The plan's hash covers what decides the numbers: seed, model, data, arithmetic, schedule, batch,
//! shards, optimizer, guard. What only decides speed, memory, places or rhythm of reports (device,
//! ranks, stages, micro-batch, recompute, folders, `stop_after`, evaluation, checkpoints) stays out, and may
//! change between a run and its resume. In the tc profile the micro-batch decides numbers: a weight
//! gradient adds one sum per micro-batch (docs/ARITHMETIC.md, section 16.4).

use std::collections::BTreeMap;

use serde::Serialize;

use super::config::{Config, Numerics, Profile, Run};
use crate::crypto::Domain;
use crate::crypto::Hash;
use crate::crypto::Hasher;
use crate::model;
use crate::model::Dims;
use crate::ops::Precision;
use crate::optim;
use crate::shard;

/// The tables of a run file that decide the training.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a> {
    /// `[run]`.
    pub run: &'a Run,
    /// `[model]`.
    pub model: &'a model::Config,
    /// `[numerics]`.
    pub numerics: &'a Numerics,
    /// `[parallel]`.
    pub parallel: &'a shard::Config,
    /// `[train]`.
    pub train: &'a Config,
    /// `[optim]`.
    pub optim: &'a optim::Config,
}

/// A valid training, with everything derived.
#[derive(Clone, Debug)]
pub struct Plan {
    /// `[train]`, with nothing left to default: `micro_batch_sequences` and `stop_after` are set.
    pub train: Config,
    /// `[parallel]`, with `shards` set.
    pub parallel: shard::Config,
    /// The optimizer's settings.
    pub optim: optim::Config,
    /// The model's extents.
    pub dims: Dims,
    /// Whether backward recomputes activations.
    pub recompute: bool,
    /// The arithmetic.
    pub precision: Precision,
    /// Seed of every random number.
    pub seed: u64,
    /// Micro-batches in an optimizer step.
    pub grad_accum_steps: usize,
    /// Tokens in an optimizer step.
    pub tokens_per_step: u64,
    /// What the hash covers, by key.
    pub covered: BTreeMap<String, String>,
    /// Hash of `covered`.
    pub hash: Hash,
}

impl Plan {
    /// The plan of a configuration on the data with the given identity, or every complaint,
    /// each as `key: why`.
    pub fn new(parts: &Parts<'_>, data: Hash) -> Result<Self, Vec<String>> {
        let complaints = complaints(parts);
        let dims = match parts.model.dims() {
            Ok(dims) if complaints.is_empty() => dims,
            _ => return Err(complaints),
        };
        let mut train = parts.train.clone();
        let mut parallel = parts.parallel.clone();
        parallel.shards = parallel.shards(train.batch_sequences);
        let shard_sequences = train.batch_sequences / parallel.shards;
        let at_most = match (train.micro_batch_sequences, parts.numerics.profile) {
            (0, Profile::Tc) => DEFAULT_MICRO_BATCH.max(TC_MICRO_BATCH_TOKENS / train.seq_len),
            (0, _) => DEFAULT_MICRO_BATCH,
            (sequences, _) => sequences,
        };
        train.micro_batch_sequences = largest_divisor(shard_sequences, at_most);
        train.stop_after = match train.stop_after {
            0 => train.steps,
            steps => steps.min(train.steps),
        };
        let covered = covered(parts, &dims, train.micro_batch_sequences, data);
        Ok(Self {
            optim: parts.optim.clone(),
            dims,
            recompute: parts.model.recompute(),
            precision: parts.numerics.precision(),
            seed: parts.run.seed,
            grad_accum_steps: train.batch_sequences / train.micro_batch_sequences,
            tokens_per_step: (train.batch_sequences * train.seq_len) as u64,
            hash: hash(&covered),
            covered,
            parallel,
            train,
        })
    }

    /// What it asks of ranks: for predictions of memory and time.
    pub fn job(&self) -> shard::Job {
        let train = &self.train;
        shard::Job {
            dims: self.dims,
            batch_sequences: train.batch_sequences,
            micro_batch_sequences: train.micro_batch_sequences,
            seq_len: train.seq_len,
            shards: self.parallel.shards,
            zero: self.parallel.zero,
            passes: match self.recompute {
                true => model::Passes::Recomputed,
                false => model::Passes::Stored,
            },
            precision: self.precision,
        }
    }

    /// Keys in which the plan of a checkpoint differs from this one: key, then, now.
    pub fn differences(&self, then: &BTreeMap<String, String>) -> Vec<String> {
        let nothing = String::from("not there");
        let keys: std::collections::BTreeSet<_> = then.keys().chain(self.covered.keys()).collect();
        keys.into_iter()
            .filter_map(|key| {
                let was = then.get(key).unwrap_or(&nothing);
                let is = self.covered.get(key).unwrap_or(&nothing);
                (was != is).then(|| format!("{key} was {was}, is {is}"))
            })
            .collect()
    }
}

/// Everything that cannot be about a configuration, each as `key: why`.
pub fn complaints(parts: &Parts<'_>) -> Vec<String> {
    let train = parts.train;
    let mut wrong = Vec::new();
    let mut check = |holds: bool, complaint: &dyn Fn() -> String| {
        if !holds {
            wrong.push(complaint());
        }
    };
    check(train.steps >= 1, &|| "train.steps: 0 steps train nothing; give at least 1".into());
    check(train.steps < MAX_STEPS, &|| format!("train.steps: at most {MAX_STEPS}"));
    check((1..=MAX_EXTENT).contains(&train.seq_len), &|| {
        format!("train.seq_len: {} is not within 1..={MAX_EXTENT}", train.seq_len)
    });
    check(parts.numerics.profile != Profile::Bf16 || train.seq_len.is_multiple_of(2), &|| {
        format!(
            "train.seq_len: {} is odd; in the bf16 profile pairs of tokens must not straddle \
             sequences: take {}, or numerics.profile = \"f32\" or \"tc\"",
            train.seq_len,
            train.seq_len + 1
        )
    });
    let batch = train.batch_sequences;
    check((1..=MAX_EXTENT).contains(&batch), &|| {
        format!("train.batch_sequences: {batch} is not within 1..={MAX_EXTENT}")
    });
    let deviations = train.guard_deviations;
    check(deviations >= 0.0 && deviations.is_finite(), &|| {
        format!("train.guard_deviations: {deviations} is no number from 0 (off) up")
    });
    check(!parts.run.dir.as_os_str().is_empty(), &|| "run.dir: name a folder".into());
    let layers = parts.model.dims().map_or(usize::MAX, |dims| dims.layers);
    wrong.extend(parts.parallel.complaints(batch, layers));
    match parts.model.dims() {
        Ok(dims) if parameters(&dims) > MAX_PARAMETERS => {
            wrong.push(format!("model.width: {} parameters are too many", parameters(&dims)));
        }
        Ok(_) => {}
        Err(complaints) => wrong.extend(complaints),
    }
    wrong.extend(parts.optim.complaints(train.steps));
    wrong
}

/// Weights of a model of any valid extents, roughly; cannot overflow.
fn parameters(dims: &Dims) -> u128 {
    let [c, f, v, layers] = [dims.width, dims.ffn, dims.vocab, dims.layers].map(|x| x as u128);
    let heads = (dims.heads + 2 * dims.kv_heads) as u128 * dims.head_dim as u128;
    2 * v * c + layers * c * (2 * heads + 3 * f)
}

/// The largest divisor of `n` that is at most `bound`.
fn largest_divisor(n: usize, bound: usize) -> usize {
    (1..=bound.min(n)).rev().find(|&d| n.is_multiple_of(d)).unwrap_or(1)
}

/// What decides the numbers of a run, by key.
fn covered(
    parts: &Parts<'_>,
    dims: &Dims,
    micro_batch_sequences: usize,
    data: Hash,
) -> BTreeMap<String, String> {
    let train = parts.train;
    let mut all = BTreeMap::new();
    flatten("model", dims, &mut all);
    flatten("optim", parts.optim, &mut all);
    for (key, value) in [
        ("run.seed", parts.run.seed.to_string()),
        ("data", data.to_string()),
        ("numerics.profile", parts.numerics.profile.name().to_owned()),
        ("train.steps", train.steps.to_string()),
        ("train.seq_len", train.seq_len.to_string()),
        ("train.batch_sequences", train.batch_sequences.to_string()),
        ("train.guard_deviations", train.guard_deviations.to_string()),
        ("train.guard_after", train.guard_after.to_string()),
    ] {
        all.insert(key.to_owned(), value);
    }
    if parts.numerics.profile == Profile::Tc {
        let core = parts.numerics.tensor_core.name();
        all.insert("numerics.tensor_core".to_owned(), core.to_owned());
        let micro = micro_batch_sequences.to_string();
        all.insert("train.micro_batch_sequences".to_owned(), micro);
    }
    // One shard is what runs had before there were shards: their plans are still the same.
    let shards = parts.parallel.shards(train.batch_sequences);
    if shards > 1 {
        all.insert("parallel.shards".to_owned(), shards.to_string());
    }
    all
}

/// Every field of `table`, as `section.field`.
fn flatten(section: &str, table: &impl Serialize, all: &mut BTreeMap<String, String>) {
    // Tables of plain numbers and strings: this cannot fail.
    if let Ok(serde_json::Value::Object(fields)) = serde_json::to_value(table) {
        all.extend(fields.into_iter().map(|(key, v)| (format!("{section}.{key}"), v.to_string())));
    }
}

/// Each key and value, with its length as u64 before it.
fn hash(covered: &BTreeMap<String, String>) -> Hash {
    let mut hasher = Hasher::new(Domain::Plan);
    for text in covered.iter().flat_map(|(key, value)| [key, value]) {
        hasher.update(&(text.len() as u64).to_le_bytes()).update(text.as_bytes());
    }
    hasher.finish()
}

/// More steps than anybody takes; a larger number is a typing error. Checkpoints count in f64.
const MAX_STEPS: u64 = 1 << 40;
/// More weights than any machine holds.
const MAX_PARAMETERS: u128 = 1 << 44;
/// Longer sequences and larger batches are typing errors.
const MAX_EXTENT: usize = 1 << 20;
/// Sequences at once where the run file does not say.
const DEFAULT_MICRO_BATCH: usize = 4;
/// In the tc profile as many sequences at once as make this many tokens, if that is more: it is part
/// of the job there, so it suits the device that such a job is for.
const TC_MICRO_BATCH_TOKENS: usize = 16_384;
