//! Memory of one rank by class, predicted from the job and the rank's place alone.

use std::fmt;

use serde::Serialize;

use super::config::Zero;
use super::plan::BLOCK_ELEMENTS;
use crate::model::ActivationSizes;
use crate::model::Dims;
use crate::model::Passes;
use crate::model::WeightSizes;
use crate::ops::Precision;
use crate::tensor::DType;

/// What a training asks of its ranks, however many there are.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// The model's extents.
    pub dims: Dims,
    /// Sequences of an optimizer step.
    pub batch_sequences: usize,
    /// Sequences at once.
    pub micro_batch_sequences: usize,
    /// Tokens in a sequence.
    pub seq_len: usize,
    /// Logical shards S of the batch.
    pub shards: usize,
    /// What the data ranks of a stage divide among them.
    pub zero: Zero,
    /// Whether activations are stored or recomputed; [`Passes::Forward`] is a model that only
    /// evaluates.
    pub passes: Passes,
    /// The arithmetic, which decides what a weight and an activation take.
    pub precision: Precision,
}

/// A rank's place in the mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Stages in all.
    pub stages: usize,
    /// The rank's stage, from 0.
    pub stage: usize,
    /// Blocks on this stage.
    pub layers: usize,
    /// Ranks that share a stage.
    pub data_ranks: usize,
}

/// Bytes of one rank by class: of the data rank of a stage that has the largest slices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RankMemory {
    /// f32 weights that the rank keeps.
    pub weights: u64,
    /// What passes read of them, where that is rounded and the rank keeps them whole.
    pub rounded: u64,
    /// Whole weights of the layers at work, where the rank keeps slices (zero 3).
    pub gathered: u64,
    /// f32 gradients: of all weights (a tied head has its own), or slices of them.
    pub gradients: u64,
    /// Gradients of shards that wait for their sibling in the tree of sums, and, where gradients
    /// are kept in slices, those of the layer at work.
    pub tree: u64,
    /// AdamW's two f32 moments.
    pub moments: u64,
    /// What forward keeps, of all micro-batches under way.
    pub activations: u64,
    /// Gradients of activations.
    pub scratch: u64,
    /// Logits of some rows at a time.
    pub logits: u64,
    /// Packed operands of matrix products.
    pub packing: u64,
    /// Sums and layer boundaries on their way between ranks.
    pub communication: u64,
    /// Copies of the slices of weights and moments that the rank writes to checkpoints.
    pub checkpoint: u64,
    /// Evaluation between steps: forward only, one sequence at a time.
    pub evaluation: u64,
    /// The program itself, its libraries, threads and tables.
    pub program: u64,
}

impl Place {
    /// The only rank of a job.
    pub fn alone(dims: &Dims) -> Self {
        Self { stages: 1, stage: 0, layers: dims.layers, data_ranks: 1 }
    }

    fn is_first(&self) -> bool {
        self.stage == 0
    }

    fn is_last(&self) -> bool {
        self.stage + 1 == self.stages
    }
}

impl Job {
    /// Micro-batches that each data rank computes in a step.
    pub fn micro_batches(&self, data_ranks: usize) -> usize {
        (self.batch_sequences / (data_ranks * self.micro_batch_sequences).max(1)).max(1)
    }

    /// Rows of tokens in a micro-batch.
    pub fn rows(&self) -> u128 {
        self.micro_batch_sequences as u128 * self.seq_len as u128
    }

    /// Bytes of a micro-batch's residual stream.
    pub fn stream_bytes(&self) -> u128 {
        let each = self.precision.activations().size_bytes() as u128;
        each * self.rows() * self.dims.width as u128
    }

    /// Whether every layer computes all micro-batches before the next layer begins, so that only
    /// one layer's gradients need be whole at a time.
    pub fn is_breadth_first(&self) -> bool {
        self.zero >= Zero::Gradients
    }

    /// Micro-batches whose activations a rank holds at a time.
    pub fn slots(&self, place: &Place) -> usize {
        let micro_batches = self.micro_batches(place.data_ranks);
        if self.passes == Passes::Forward {
            1
        } else if self.is_breadth_first() {
            micro_batches
        } else {
            (place.stages - place.stage).min(micro_batches)
        }
    }
}

/// The tensors of a stage in buckets that are exchanged and updated together: the embedding, the
/// blocks, final norm and LM head. Each with its number on the stage.
#[derive(Clone, Debug)]
pub(super) struct Buckets([(Vec<u128>, u128); 3]);

/// A head that is the embedding table: which of a stage's tensors count it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    /// Weights: a copy where the embedding is on another stage.
    Weights,
    /// Gradients: a tree of its own.
    Gradients,
    /// Moments: those of the embedding serve.
    Moments,
}

impl Buckets {
    pub fn new(dims: &Dims, place: &Place, of: Of) -> Self {
        let sizes = WeightSizes::of(dims);
        let has_head = !dims.tied
            || match of {
                Of::Weights => !place.is_first(),
                Of::Gradients => true,
                Of::Moments => false,
            };
        let end = [sizes.final_norm].into_iter().chain(has_head.then_some(sizes.head)).collect();
        Self([
            (vec![sizes.embedding], u128::from(place.is_first())),
            (sizes.block.to_vec(), place.layers as u128),
            (end, u128::from(place.is_last())),
        ])
    }

    /// How many there are.
    pub fn len(&self) -> u128 {
        self.0.iter().map(|(_, count)| count).sum()
    }

    /// Elements of all.
    pub fn elements(&self) -> u128 {
        self.times(|count| count)
    }

    /// Elements where of every kind there are as many as `times` says of their number.
    pub fn times(&self, times: impl Fn(u128) -> u128) -> u128 {
        let whole = |tensors: &[u128]| tensors.iter().sum::<u128>();
        self.0.iter().map(|(tensors, count)| whole(tensors) * times(*count)).sum()
    }

    /// Elements of the largest slices of all among `ranks` ranks.
    fn slices(&self, ranks: usize) -> u128 {
        let block = BLOCK_ELEMENTS as u128;
        let of_tensor =
            |&len: &u128| (len.div_ceil(block).div_ceil(ranks as u128) * block).min(len);
        let of_bucket = |tensors: &[u128]| tensors.iter().map(of_tensor).sum::<u128>();
        self.0.iter().map(|(tensors, count)| of_bucket(tensors) * count).sum()
    }

    /// Elements of one block.
    pub fn block(&self) -> u128 {
        self.0[1].0.iter().sum()
    }

    /// Bytes of all as passes of `precision` read them, where of every kind there are as many as
    /// `times` says of their number.
    pub fn entering(
        &self,
        dims: &Dims,
        precision: Precision,
        times: impl Fn(u128) -> u128,
    ) -> u128 {
        (0..3).map(|kind| self.entering_kind(dims, precision, kind) * times(self.0[kind].1)).sum()
    }

    /// Bytes of one block as passes of `precision` read it.
    pub fn entering_block(&self, dims: &Dims, precision: Precision) -> u128 {
        self.entering_kind(dims, precision, 1)
    }

    /// Bytes of one bucket of a kind: its norms stay f32.
    fn entering_kind(&self, dims: &Dims, precision: Precision, kind: usize) -> u128 {
        let sizes = WeightSizes::of(dims);
        let norms = [0, sizes.norms_of_block(), sizes.final_norm][kind];
        let whole: u128 = self.0[kind].0.iter().sum();
        precision.activations().size_bytes() as u128 * (whole - norms) + 4 * norms
    }

    /// Elements of the largest tensor.
    fn largest_tensor(&self) -> u128 {
        let here = self.0.iter().filter(|(_, count)| *count > 0);
        here.flat_map(|(tensors, _)| tensors).copied().max().unwrap_or(0)
    }
}

impl RankMemory {
    /// What a rank at `place` needs for `job`.
    pub fn of(job: &Job, place: &Place) -> Self {
        let (dims, precision) = (&job.dims, job.precision);
        let acts = ActivationSizes::of(dims, precision, job.micro_batch_sequences, job.seq_len);
        let trains = job.passes != Passes::Forward;
        let mut memory = Self {
            activations: bounded(activations(job, place, &acts)),
            scratch: bounded(if trains { acts.gradients } else { 0 }),
            logits: bounded(if place.is_last() { acts.logits } else { 0 }),
            packing: bounded(acts.packing),
            program: PROGRAM_BYTES + bytes(job.seq_len as u128 * job.dims.head_dim as u128),
            ..Self::default()
        };
        memory.add_state(job, place);
        if trains {
            let alone = Job { micro_batch_sequences: 1, passes: Passes::Forward, ..job.clone() };
            let one = ActivationSizes::of(dims, precision, 1, job.seq_len);
            let logits = if place.is_last() { one.logits } else { 0 };
            memory.evaluation = bounded(activations(&alone, place, &one) + logits);
        }
        memory
    }

    /// For one process that continues texts with the model, of at most `positions` tokens
    /// together with what it adds.
    pub fn of_generation(dims: &Dims, precision: Precision, positions: usize) -> Self {
        let acts = ActivationSizes::of(dims, precision, 1, positions);
        let each = precision.activations().size_bytes() as u128;
        let [layers, kv] = [dims.layers, 2 * dims.kv_heads * dims.head_dim].map(|x| x as u128);
        let weights = Buckets::new(dims, &Place::alone(dims), Of::Weights);
        let tables = positions as u128 * dims.head_dim as u128;
        Self {
            // Where they are rounded they have been read in f32 before.
            weights: bytes(weights.elements()),
            // Keys and values of all tokens; of the prompt also one block at a time.
            activations: bounded(
                layers * positions as u128 * kv * each + acts.block + 2 * acts.stream,
            ),
            logits: bounded(dims.vocab as u128 * each),
            packing: bounded(acts.packing),
            program: PROGRAM_BYTES + bytes(tables),
            ..Self::default()
        }
    }

    /// Weights, gradients, moments, and what moves of them.
    fn add_state(&mut self, job: &Job, place: &Place) {
        let ranks = place.data_ranks;
        let buckets = |of: Of| Buckets::new(&job.dims, place, of);
        let held = |buckets: &Buckets, from: Zero| {
            let divided = job.zero >= from && ranks > 1;
            if divided { buckets.slices(ranks) } else { buckets.elements() }
        };
        let weights = buckets(Of::Weights);
        self.weights = bytes(held(&weights, Zero::Weights));
        if job.zero == Zero::Weights && ranks > 1 {
            // One bucket at work while the next one arrives; each kind has memory of its own. The
            // only block of a stage without a head is needed twice in a row.
            let again = if place.layers == 1 && !place.is_last() {
                weights.entering_block(&job.dims, job.precision)
            } else {
                0
            };
            let gathered = weights.entering(&job.dims, job.precision, |count| count.min(2));
            self.gathered = bounded(gathered + again);
        } else if job.precision.activations() != DType::F32 {
            self.rounded = bounded(weights.entering(&job.dims, job.precision, |count| count));
        }
        if job.passes == Passes::Forward {
            return;
        }
        let gradients = buckets(Of::Gradients);
        self.gradients = bytes(held(&gradients, Zero::Gradients));
        let moments = buckets(Of::Moments);
        self.moments = bytes(2 * held(&moments, Zero::Moments));
        self.checkpoint = bytes(3 * moments.slices(ranks));
        // A binary counter: one finished sum a level waits while the next shard is computed.
        let waiting = u128::from((job.shards / ranks).max(1).ilog2());
        self.tree = bytes(if job.is_breadth_first() {
            // All blocks share one tree; a finished sum is on its way to the other ranks.
            let away = if ranks > 1 { gradients.block() } else { 0 };
            (waiting + 1) * gradients.times(|count| count.min(1)) + away
        } else {
            waiting * gradients.elements()
        });
        if ranks > 1 {
            self.communication = bytes(4 * gradients.largest_tensor()).min(PIECES_BYTES);
        }
        // At each boundary two of the stream and two of its gradient come or go.
        let boundaries = usize::from(!place.is_first()) + usize::from(!place.is_last());
        self.communication += bounded(4 * boundaries as u128 * job.stream_bytes());
    }

    /// All classes together.
    pub fn total(&self) -> u64 {
        self.rows().iter().fold(0, |sum: u64, (_, bytes)| sum.saturating_add(*bytes))
    }

    /// Classes by name, in the order of tables.
    pub fn rows(&self) -> [(&'static str, u64); 14] {
        [
            ("weights (f32)", self.weights),
            ("weights (bf16)", self.rounded),
            ("gathered weights", self.gathered),
            ("gradients (f32)", self.gradients),
            ("tree of sums", self.tree),
            ("moments (2 x f32)", self.moments),
            ("activations", self.activations),
            ("activation gradients", self.scratch),
            ("logits", self.logits),
            ("packed operands", self.packing),
            ("communication", self.communication),
            ("checkpoint copy", self.checkpoint),
            ("evaluation", self.evaluation),
            ("program", self.program),
        ]
    }
}

/// Bytes of what forward keeps: in the slots of the micro-batches under way, and shared by all.
fn activations(job: &Job, place: &Place, acts: &ActivationSizes) -> u128 {
    let (layers, slots) = (place.layers as u128, job.slots(place) as u128);
    let (in_slot, shared) = match job.passes {
        // The stream in two tensors in turn.
        Passes::Forward => (2 * acts.stream, acts.block + acts.stream),
        Passes::Stored => (layers * (acts.block + 2 * acts.stream) + acts.stream, 0),
        Passes::Recomputed => ((layers + 1) * acts.stream, acts.block + acts.stream),
    };
    let head = if place.is_last() { acts.stream + acts.tokens } else { 0 };
    // A slot has tokens, targets and losses; what a sublayer adds to the stream is shared.
    slots * (in_slot + 3 * acts.tokens) + shared + acts.stream + head
}

/// Bytes of `elements` elements of f32.
fn bytes(elements: u128) -> u64 {
    bounded(4 * elements)
}

/// What no number holds is more than any machine has.
fn bounded(bytes: u128) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

impl fmt::Display for RankMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = |f: &mut fmt::Formatter<'_>, name: &str, bytes: u64| {
            writeln!(f, "  {name:22} {:>12.1} MiB", bytes as f64 / f64::from(1 << 20))
        };
        for (name, bytes) in self.rows() {
            if bytes > 0 {
                line(f, name, bytes)?;
            }
        }
        line(f, "total", self.total())
    }
}

/// What the pieces of a collective take at a time, at most: those on their way in each direction,
/// and as many that wait to be used again.
const PIECES_BYTES: u64 = 16 << 20;
/// Measured with a model of some thousand weights: code, libraries and stacks.
const PROGRAM_BYTES: u64 = 11 << 20;
