//! A checkpoint's model, ready to compute, and its way from text to tokens and back.

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use super::Failure;
use super::checkpoint::find;
use super::device::DeviceArgs;
use super::train::TOKENIZER;
use crate::checkpoint::Group;
use crate::checkpoint::Saved;
use crate::checkpoint::Target;
use crate::collective;
use crate::config::RunConfig;
use crate::data::Dataset;
use crate::data::Tokenizer;
use crate::model::Dims;
use crate::model::NeuroLlm;
use crate::model::Params;
use crate::ops::Kernels;
use crate::train::expected_weights;
use crate::train::saved_dims;

/// The flags that name a checkpoint and a device.
#[derive(Clone, Debug, clap::Args)]
pub struct SavedArgs {
    /// A checkpoint, or a run folder: its latest whole one.
    #[arg(long, value_name = "DIR")]
    pub checkpoint: PathBuf,
    #[command(flatten)]
    device: DeviceArgs,
}

/// A checkpoint, a device, and the settings of the run.
#[derive(Debug)]
pub struct SavedModel {
    /// The checkpoint.
    pub saved: Saved,
    /// The device.
    pub kernels: Arc<dyn Kernels>,
    /// The run's settings.
    pub config: RunConfig,
    dims: Dims,
}

impl SavedModel {
    /// Finds and checks the checkpoint, without its tensors.
    pub fn open(args: &SavedArgs) -> Result<Self, Failure> {
        let saved = find(&args.checkpoint)?;
        Self::of(saved, args.device.open()?)
    }

    /// The model of `saved`, to be computed by `kernels`.
    pub fn of(saved: Saved, kernels: Arc<dyn Kernels>) -> Result<Self, Failure> {
        let place = format!("{} (its run file)", saved.path().display());
        let config = RunConfig::from_text(&place, &saved.manifest().config, &[])?;
        let dims = saved_dims(&saved)?;
        saved.expect(&[Group::Weights], &expected_weights(&dims))?;
        Ok(Self { saved, kernels, config, dims })
    }

    /// What it computes in, and on what: the profile is the run's, and part of every result.
    pub fn arithmetic(&self) -> String {
        let precision = self.config.numerics.precision();
        format!("{} on {}", precision.describe(), self.kernels.describe())
    }

    /// The extents.
    pub fn dims(&self) -> &Dims {
        &self.dims
    }

    /// Reads and verifies the weights, for sequences of at most `positions` tokens.
    pub fn load(&self, positions: usize) -> Result<NeuroLlm, Failure> {
        let kernels = self.kernels.as_ref();
        let mut params = Params::zeros(kernels, &self.dims)?;
        let mut targets = Vec::new();
        for (name, tensor) in params.as_mut().into_named() {
            targets.push(Target::whole(Group::Weights, name, tensor.view_mut()));
        }
        self.saved.read_into(kernels, targets, collective::single().as_ref())?;
        let precision = self.config.numerics.precision();
        Ok(NeuroLlm::new(kernels, self.dims, precision, params, positions)?)
    }

    /// How its text is made of tokens.
    pub fn text(&self) -> Result<Text, Failure> {
        if let Some(json) = self.saved.attachment(TOKENIZER)? {
            let path = self.saved.path().join(TOKENIZER);
            return Ok(Text::Tokenizer(Box::new(Tokenizer::from_json(&path, json)?)));
        }
        let synthetic = crate::data::Config { dir: None, ..self.config.data.clone() };
        Ok(Text::Synthetic(Box::new(Dataset::open(&synthetic, self.dims.vocab)?)))
    }

    /// Checks that tokens are in the vocabulary.
    pub fn check_tokens(&self, tokens: &[u32], what: &str) -> Result<(), Failure> {
        if tokens.is_empty() {
            return Err(format!("{what}: give at least one token").into());
        }
        match tokens.iter().find(|&&t| t as usize >= self.dims.vocab) {
            None => Ok(()),
            Some(token) => {
                let vocab = self.dims.vocab;
                Err(format!("{what}: token {token} is outside the vocabulary of {vocab}").into())
            }
        }
    }
}

/// Text to tokens and back.
#[derive(Debug)]
pub enum Text {
    /// By the tokenizer in the checkpoint.
    Tokenizer(Box<Tokenizer>),
    /// In the synthetic language.
    Synthetic(Box<Dataset>),
}

impl Text {
    /// The tokens of `text`.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, Failure> {
        Ok(match self {
            Self::Tokenizer(tokenizer) => tokenizer.encode(text)?,
            Self::Synthetic(language) => language.encode(text)?,
        })
    }

    /// The text of `tokens`.
    pub fn decode(&self, tokens: &[u32]) -> Result<String, Failure> {
        Ok(match self {
            Self::Tokenizer(tokenizer) => tokenizer.decode(tokens)?,
            Self::Synthetic(language) => language.decode(tokens)?,
        })
    }

    /// The token that ends a document, where there is one.
    pub fn end(&self) -> Option<u32> {
        match self {
            Self::Tokenizer(tokenizer) => Some(tokenizer.end_of_text()),
            Self::Synthetic(_) => None,
        }
    }

    /// What a text without a prompt begins with.
    pub fn start(&self) -> u32 {
        self.end().unwrap_or(0)
    }
}

/// Whether `dir` was tokenized by the tokenizer in the checkpoint.
pub fn same_tokenizer(text: &Text, dataset: &Dataset, dir: &Path) -> Result<(), Failure> {
    let theirs = dataset.corpus().map(|corpus| corpus.tokenizer().hash());
    match text {
        Text::Tokenizer(ours) if Some(ours.hash()) != theirs => Err(format!(
            "{}: prepared with another tokenizer than the checkpoint's; prepare it with \
             --tokenizer and the tokenizer.json in the checkpoint",
            dir.display()
        )
        .into()),
        _ => Ok(()),
    }
}
