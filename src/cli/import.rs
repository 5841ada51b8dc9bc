//! `neuroshard import`: a Hugging Face folder as the beginning of a run.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::output::Stdout;
use super::train::{TOKENIZER, check_vocab};
use super::{Ending, Failure};
use crate::checkpoint;
use crate::checkpoint::Attachment;
use crate::checkpoint::Contents;
use crate::checkpoint::Group;
use crate::checkpoint::Progress;
use crate::checkpoint::Source;
use crate::collective;
use crate::config::RunConfig;
use crate::crypto::Hash;
use crate::data::Dataset;
use crate::data::Tokenizer;
use crate::export;
use crate::export::Folder;
use crate::export::Staging;
use crate::model;
use crate::model::Dims;
use crate::tensor::DType;
use crate::tensor::Shape;
use crate::tensor::Tensor;
use crate::train::Guard;
use crate::train::Plan;
use crate::train::RunFolder;
use crate::train::expected_weights;

/// Arguments of `import`.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    /// A folder of a LlamaForCausalLM, with its weights in safetensors.
    #[arg(long, value_name = "DIR")]
    hf: PathBuf,
    /// The run folder to make; it must not exist, or be empty.
    #[arg(long, value_name = "RUN")]
    out: PathBuf,
    /// The run file of a training that is to go on from here; its [model] is the folder's.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Lays a value over the run file, such as data.dir=data/books or train.steps=1000.
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    sets: Vec<String>,
    /// Leaves the folder's tokenizer behind: the model is asked by tokens.
    #[arg(long)]
    no_tokenizer: bool,
}

/// Runs the command.
pub fn run(args: &Args, out: &mut Stdout) -> Result<Ending, Failure> {
    // Before all else: what is in the way should show at once.
    let staging = Staging::create(&args.out)?;
    let folder = Folder::open(&args.hf)?;
    let dims = folder.model().dims;
    let config = args.run_config(&dims)?;
    let dataset = Dataset::open(&config.data, dims.vocab)?;
    check_vocab(dims.vocab, &dataset)?;
    let plan = Plan::new(&config.parts(), dataset.hash()).map_err(|all| all.join("; "))?;
    let (tokenizer, words) = args.tokenizer(&folder, &dataset)?;
    let attachments = tokenizer.map(|bytes| Attachment { name: TOKENIZER.into(), bytes });
    let attachments = attachments.into_iter().collect();
    let hash = write(&folder, &staging, &config, &plan, attachments)?;
    staging.write("config.toml", config.to_toml()?.as_bytes())?;
    staging.publish()?;
    let types = folder.dtypes().into_iter().map(|(name, count)| format!("{count} of {name}"));
    let (types, positions) = (types.collect::<Vec<_>>().join(", "), folder.model().positions);
    out.line(format_args!("folder      {}", args.hf.display()))?;
    out.line(format_args!("weights     {} parameters; tensors: {types}", dims.parameters()))?;
    out.line(format_args!("tokenizer   {words}"))?;
    out.line(format_args!("profile     {}", plan.precision.describe()))?;
    out.line(format_args!("sequences   of {} tokens; its own: {positions}", plan.train.seq_len))?;
    let path = checkpoint::path_of(&RunFolder::at(&args.out).checkpoints(), 0);
    out.line(format_args!("checkpoint  {}", path.display()))?;
    out.line(format_args!("state hash  {hash}"))?;
    Ok(Ending::Done)
}

impl Args {
    /// The settings of the run: the folder's model, and all else as in the run file.
    fn run_config(&self, dims: &Dims) -> Result<RunConfig, Failure> {
        let own = |set: &&String| set.starts_with("model.") && !set.starts_with("model.recompute");
        if let Some(set) = self.sets.iter().find(own) {
            return Err(format!("--set {set}: the model is that of {}", self.hf.display()).into());
        }
        let mut config = RunConfig::load(self.config.as_deref(), &self.sets)?;
        config.run.dir.clone_from(&self.out);
        config.model = model::Config {
            preset: None,
            width: Some(dims.width),
            layers: Some(dims.layers),
            heads: Some(dims.heads),
            kv_heads: Some(dims.kv_heads),
            head_dim: Some(dims.head_dim),
            ffn: Some(dims.ffn),
            vocab: Some(dims.vocab),
            tied: Some(dims.tied),
            recompute: config.model.recompute,
            norm_eps: Some(export::shortest(dims.norm_eps)),
            rope_base: Some(dims.rope_base),
        };
        Ok(config)
    }

    /// The bytes of the tokenizer that travels with the weights, and what to say about it.
    fn tokenizer(
        &self,
        folder: &Folder,
        dataset: &Dataset,
    ) -> Result<(Option<Vec<u8>>, &'static str), Failure> {
        let corpus = dataset.corpus();
        let found = if self.no_tokenizer { None } else { folder.tokenizer()? };
        let Some((path, bytes)) = found else {
            let of_data = corpus.map(|corpus| corpus.tokenizer().json().to_vec());
            let words = match (&of_data, self.no_tokenizer) {
                (Some(_), _) => "that of data.dir",
                (None, true) => "left behind; text is the synthetic language's",
                (None, false) => "there is none; text is the synthetic language's",
            };
            return Ok((of_data, words));
        };
        let vocab = folder.model().dims.vocab;
        let synthetic =
            corpus.is_none() && export::synthetic_tokenizer(dataset, vocab)?.as_bytes() == bytes;
        if synthetic {
            return Ok((None, "the synthetic language's"));
        }
        let tokenizer = Tokenizer::from_json(&path, bytes)
            .map_err(|e| format!("{e} (or leave it behind with --no-tokenizer)"))?;
        if tokenizer.vocab_size() > vocab {
            let (path, tokens) = (path.display(), tokenizer.vocab_size());
            let why = format!("{path}: {tokens} tokens, but config.json has vocab_size {vocab}");
            return Err(format!("{why}; they are not of one model: get both from one place").into());
        }
        match corpus {
            Some(corpus) if corpus.tokenizer().hash() != tokenizer.hash() => Err(format!(
                "{}: prepared with another tokenizer than the model's; prepare it with \
                 --tokenizer {}",
                corpus.dir().display(),
                path.display()
            )
            .into()),
            _ => Ok((Some(tokenizer.json().to_vec()), "the folder's")),
        }
    }
}

/// Writes the checkpoint of step 0: the folder's weights, and moments of zeros.
fn write(
    folder: &Folder,
    staging: &Staging,
    config: &RunConfig,
    plan: &Plan,
    attachments: Vec<Attachment>,
) -> Result<Hash, Failure> {
    let mut tensors = Vec::new();
    for weight in folder.weights() {
        let mut tensor = Tensor::zeros(DType::F32, &weight.shape);
        folder.read(weight, tensor.host_mut())?;
        tensors.push(tensor);
    }
    // One piece of zeros serves as the moments of all.
    let largest = tensors.iter().map(|t| t.shape().len()).max().unwrap_or(0);
    let zeros = Tensor::zeros(DType::F32, &[largest]);
    let expected = expected_weights(&plan.dims);
    let mut slices = Vec::new();
    for group in Group::ALL {
        for ((name, shape), tensor) in expected.iter().zip(&tensors) {
            let view = match group {
                Group::Weights => tensor.view(),
                Group::FirstMoments | Group::SecondMoments => {
                    zeros.view().rows(0..shape.len()).reshape(shape)
                }
            };
            let (name, shape): (String, Shape) = (name.clone(), *shape);
            slices.push(Source { group, name, shape, first: 0, view });
        }
    }
    let guard = Guard::new(plan.train.guard_deviations, plan.train.guard_after).words();
    let covered: BTreeMap<String, String> = plan.covered.clone();
    let contents = Contents {
        progress: Progress { step: 0, next_sequence: 0, seed: plan.seed, guard },
        table: checkpoint::table(&expected),
        slices,
        plan_hash: plan.hash,
        plan: covered,
        model: serde_json::to_value(plan.dims)?,
        config: config.to_toml()?,
        attachments,
    };
    let checkpoints = RunFolder::at(staging.dir()).checkpoints();
    let (_, hash) = checkpoint::write(&checkpoints, &contents, collective::single().as_ref())?;
    Ok(hash)
}

const AFTER_HELP: &str = "\
What is made is a run of no steps, for eval, generate, logits and export (--checkpoint RUN), and for
training on from the weights, with fresh moments, by the settings given here:

  neuroshard train --resume --set run.dir=RUN

The folder's code and pickles are never read. What this program cannot express (other architectures,
scaled rotary positions, biases, ...) is refused by name. docs/HUGGINGFACE.md is the guide.";
