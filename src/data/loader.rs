//! Which sequences a training step reads: by arithmetic, so any step can be read alone.

use std::path::PathBuf;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::DataError;
use super::corpus::Corpus;
use super::permutation::Permutation;
use super::synthetic::Synthetic;
use crate::crypto::Hash;

/// `[data]`: the text to train on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// A folder made by `neuroshard data prepare`. Default: none, and the text is a synthetic
    /// language of `model.vocab` tokens, generated as it is read.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "path"))]
    pub dir: Option<PathBuf>,
    /// Which synthetic language, where `dir` is not given.
    pub synthetic_seed: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self { dir: None, synthetic_seed: 1 }
    }
}

/// Sequences to train on and to evaluate on, wherever they come from.
#[derive(Debug)]
pub struct Dataset {
    source: Source,
}

#[derive(Debug)]
enum Source {
    Prepared(Box<Corpus>),
    Synthetic(Synthetic),
}

impl Dataset {
    /// Opens the folder, or makes the synthetic language for a vocabulary of
    /// `synthetic_vocab_size`, which a prepared folder does not need.
    pub fn open(config: &Config, synthetic_vocab_size: usize) -> Result<Self, DataError> {
        let source = match &config.dir {
            Some(dir) => Source::Prepared(Box::new(Corpus::open(dir)?)),
            None => Source::Synthetic(Synthetic::new(synthetic_vocab_size, config.synthetic_seed)?),
        };
        Ok(Self { source })
    }

    /// The prepared folder, where it is one.
    pub fn corpus(&self) -> Option<&Corpus> {
        match &self.source {
            Source::Prepared(corpus) => Some(corpus),
            Source::Synthetic(_) => None,
        }
    }

    /// Tokens are below this. A model's vocabulary must be as large or larger.
    pub fn vocab_size(&self) -> usize {
        match &self.source {
            Source::Prepared(corpus) => corpus.manifest().vocab_size,
            Source::Synthetic(language) => language.vocab_size(),
        }
    }

    /// Identifies the data: equal hashes mean equal sequences.
    pub fn hash(&self) -> Hash {
        match &self.source {
            Source::Prepared(corpus) => corpus.manifest().dataset_hash(),
            Source::Synthetic(language) => language.hash(),
        }
    }

    /// The loss in nats per token below which no model comes on average, where it is known.
    pub fn entropy_floor(&self) -> Option<f64> {
        match &self.source {
            Source::Prepared(_) => None,
            Source::Synthetic(language) => Some(language.entropy()),
        }
    }

    /// Sequences of `seq_len` predictions to train on.
    pub fn num_train_sequences(&self, seq_len: usize) -> Result<u64, DataError> {
        self.check(seq_len)?;
        Ok(match &self.source {
            Source::Prepared(corpus) => corpus.split().num_train(seq_len as u64),
            Source::Synthetic(_) => Synthetic::NUM_TRAIN,
        })
    }

    /// Sequences of `seq_len` predictions that are held out.
    pub fn num_heldout(&self, seq_len: usize) -> Result<u64, DataError> {
        self.check(seq_len)?;
        Ok(match &self.source {
            Source::Prepared(corpus) => corpus.split().num_heldout(seq_len as u64),
            Source::Synthetic(_) => Synthetic::NUM_HELDOUT,
        })
    }

    /// Training sequence `index`, of `seq_len + 1` tokens.
    pub fn train_sequence(&self, index: u64, seq_len: usize) -> Result<Vec<u32>, DataError> {
        let count = self.num_train_sequences(seq_len)?;
        if index >= count {
            return Err(DataError::NoSuchSequence { part: "training", index, count });
        }
        let mut tokens = vec![0; seq_len + 1];
        match &self.source {
            Source::Prepared(corpus) => {
                let start = corpus.split().train_start(index, seq_len as u64);
                corpus.read(start, &mut tokens)?;
            }
            Source::Synthetic(language) => language.sequence(index, &mut tokens),
        }
        Ok(tokens)
    }

    /// Held-out sequence `index`, of `seq_len + 1` tokens.
    pub fn heldout_sequence(&self, index: u64, seq_len: usize) -> Result<Vec<u32>, DataError> {
        let count = self.num_heldout(seq_len)?;
        if index >= count {
            return Err(DataError::NoSuchSequence { part: "held-out", index, count });
        }
        let mut tokens = vec![0; seq_len + 1];
        match &self.source {
            Source::Prepared(corpus) => {
                let start = corpus.split().heldout_start(index, seq_len as u64);
                corpus.read(start, &mut tokens)?;
            }
            Source::Synthetic(language) => {
                language.sequence(Synthetic::NUM_TRAIN + index, &mut tokens);
            }
        }
        Ok(tokens)
    }

    /// The text of `tokens`.
    pub fn decode(&self, tokens: &[u32]) -> Result<String, DataError> {
        match &self.source {
            Source::Prepared(corpus) => corpus.tokenizer().decode(tokens),
            Source::Synthetic(language) => Ok(language.decode(tokens)),
        }
    }

    /// The tokens of `text`.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, DataError> {
        match &self.source {
            Source::Prepared(corpus) => corpus.tokenizer().encode(text),
            Source::Synthetic(language) => language.encode(text),
        }
    }

    /// The token that ends a document, where the data has one.
    pub fn end_of_text(&self) -> Option<u32> {
        self.corpus().map(|corpus| corpus.tokenizer().end_of_text())
    }

    fn check(&self, seq_len: usize) -> Result<(), DataError> {
        if !(1..=MAX_SEQ_LEN).contains(&seq_len) {
            let (key, value) = ("seq_len", seq_len as u64);
            return Err(DataError::OutOfRange { key, value, bounds: "1 to 16777216" });
        }
        match &self.source {
            Source::Prepared(corpus) if seq_len as u64 > corpus.split().max_seq_len() => {
                Err(DataError::SequenceTooLong {
                    path: corpus.dir().to_path_buf(),
                    seq_len,
                    max: corpus.split().max_seq_len(),
                })
            }
            _ => Ok(()),
        }
    }
}

/// Tokens of some sequences.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// `(B, T)`.
    pub inputs: Vec<u32>,
    /// `(B, T)`: for each input the token after it.
    pub targets: Vec<u32>,
}

impl Batch {
    fn push(&mut self, sequence: &[u32]) {
        if let [_, targets @ ..] = sequence {
            self.inputs.extend_from_slice(&sequence[..targets.len()]);
            self.targets.extend_from_slice(targets);
        }
    }
}

/// The order of the training sequences of a run.
///
/// Global position `p = step * batch_sequences + i` lies in epoch `p / n`, where `n` is the number
/// of training sequences, and reads the sequence that the epoch's [`Permutation`] has at `p % n`.
#[derive(Clone, Debug)]
pub struct Loader {
    dataset: Arc<Dataset>,
    seed: u64,
    seq_len: usize,
    batch_sequences: usize,
    num_train: u64,
    num_heldout: u64,
}

impl Loader {
    /// The order under `seed` of sequences of `seq_len` predictions, `batch_sequences` a step.
    pub fn new(
        dataset: Arc<Dataset>,
        seed: u64,
        seq_len: usize,
        batch_sequences: usize,
    ) -> Result<Self, DataError> {
        let num_train = dataset.num_train_sequences(seq_len)?;
        let num_heldout = dataset.num_heldout(seq_len)?;
        if !(1..=MAX_BATCH).contains(&batch_sequences) {
            let (key, value) = ("batch_sequences", batch_sequences as u64);
            return Err(DataError::OutOfRange { key, value, bounds: "1 to 16777216" });
        }
        Ok(Self { dataset, seed, seq_len, batch_sequences, num_train, num_heldout })
    }

    /// What is read.
    pub fn dataset(&self) -> &Arc<Dataset> {
        &self.dataset
    }

    /// Training sequences of an epoch.
    pub fn num_train(&self) -> u64 {
        self.num_train
    }

    /// Sequences held out.
    pub fn num_heldout(&self) -> u64 {
        self.num_heldout
    }

    /// The sequences of a step, `(batch_sequences, seq_len)`.
    pub fn batch(&self, step: u64) -> Result<Batch, DataError> {
        self.sequences(step, 0, self.batch_sequences)
    }

    /// Sequences `first..first + count` of a step: a micro-batch or a shard of its batch.
    pub fn sequences(&self, step: u64, first: usize, count: usize) -> Result<Batch, DataError> {
        let mut batch = Batch::default();
        for i in first..first.saturating_add(count) {
            let index = self.sequence_at(step, i)?;
            batch.push(&self.dataset.train_sequence(index, self.seq_len)?);
        }
        Ok(batch)
    }

    /// Which training sequence stands at place `i` of a step's batch.
    pub fn sequence_at(&self, step: u64, i: usize) -> Result<u64, DataError> {
        let position = step
            .checked_mul(self.batch_sequences as u64)
            .and_then(|p| p.checked_add(i as u64))
            .filter(|_| i < self.batch_sequences);
        let missing = |index| DataError::NoSuchSequence {
            part: "training",
            index,
            count: self.batch_sequences as u64,
        };
        let position = position.ok_or_else(|| missing(i as u64))?;
        let (epoch, place) = (position / self.num_train, position % self.num_train);
        Permutation::new(self.num_train, self.seed, epoch).at(place).ok_or_else(|| missing(place))
    }

    /// The epochs that are complete before `step`, and the fraction of the one it begins in.
    pub fn epochs(&self, step: u64) -> f64 {
        step as f64 * self.batch_sequences as f64 / self.num_train as f64
    }

    /// Held-out sequence `index`, `(1, seq_len)`.
    pub fn heldout(&self, index: u64) -> Result<Batch, DataError> {
        let mut batch = Batch::default();
        batch.push(&self.dataset.heldout_sequence(index, self.seq_len)?);
        Ok(batch)
    }
}

const MAX_SEQ_LEN: usize = 1 << 24;
const MAX_BATCH: usize = 1 << 24;
