//! `neuroshard export`: a checkpoint's model as a Hugging Face folder.

use std::path::PathBuf;

use super::checkpoint::find;
use super::output::Stdout;
use super::saved_model::{SavedModel, Text};
use super::{Ending, Failure, device};
use crate::backend;
use crate::checkpoint::Group;
use crate::checkpoint::Target;
use crate::collective;
use crate::export;
use crate::export::Contents;
use crate::export::Exported;
use crate::export::Float;
use crate::export::Model;
use crate::export::Weight;
use crate::tensor::ViewMut;

/// Arguments of `export`.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    /// A checkpoint, or a run folder: its latest whole one.
    #[arg(value_name = "RUN_OR_CHECKPOINT")]
    checkpoint: PathBuf,
    /// The folder to make, for Hugging Face's transformers; it must not exist, or be empty.
    #[arg(long, value_name = "DIR")]
    hf: PathBuf,
    /// Type of the weights: f32 keeps every bit; bf16 rounds each to the nearest, to the even one
    /// of two, and takes half the room.
    #[arg(long, value_enum, default_value_t = Dtype::F32)]
    dtype: Dtype,
    /// Bytes of weights in a file, at most; what has more is divided, with an index.
    #[arg(long, value_name = "BYTES", default_value_t = export::DEFAULT_FILE_BYTES,
          value_parser = clap::value_parser!(u64).range(1..))]
    max_file_bytes: u64,
}

/// Types of weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Dtype {
    /// IEEE binary32.
    F32,
    /// bfloat16.
    Bf16,
}

/// Runs the command.
pub fn run(args: &Args, out: &mut Stdout) -> Result<Ending, Failure> {
    // Only hashing is computed, on all threads.
    let kernels = device::open(&backend::Config::default())?;
    let saved = SavedModel::of(find(&args.checkpoint)?, kernels)?;
    let text = saved.text()?;
    let dims = *saved.dims();
    let (tokenizer, end_text) = match &text {
        Text::Tokenizer(tokenizer) => {
            let end = tokenizer.decode(&[tokenizer.end_of_text()])?;
            (tokenizer.json().to_vec(), Some(end))
        }
        Text::Synthetic(language) => {
            (export::synthetic_tokenizer(language, dims.vocab)?.into_bytes(), None)
        }
    };
    let model = Model { dims, positions: saved.config.train.seq_len, end: text.end() };
    let float = match args.dtype {
        Dtype::F32 => Float::F32,
        Dtype::Bf16 => Float::Bf16,
    };
    let contents = Contents {
        model: &model,
        tokenizer: &tokenizer,
        end_text: end_text.as_deref(),
        float,
        max_file_bytes: args.max_file_bytes,
    };
    let mut fill = |weight: &Weight, values: &mut [f32]| {
        let view = ViewMut::of(values, &weight.shape);
        let target = Target::whole(Group::Weights, weight.name.clone(), view);
        let alone = collective::single();
        Ok(saved.saved.read_into(saved.kernels.as_ref(), vec![target], alone.as_ref())?)
    };
    let Exported { files, tensors, tensor_bytes } = export::write(&args.hf, &contents, &mut fill)?;
    let of = saved.saved.path().display();
    out.line(format_args!("checkpoint  {of} (step {})", saved.saved.manifest().progress.step))?;
    out.line(format_args!(
        "weights     {} parameters in {tensors} tensors, {:.2} MB in {files} file{}",
        dims.parameters(),
        tensor_bytes as f64 / 1e6,
        if files == 1 { "" } else { "s" },
    ))?;
    out.line(format_args!(
        "tokenizer   {}",
        match &text {
            Text::Tokenizer(_) => "the checkpoint's, as it is",
            Text::Synthetic(_) => "of the synthetic language, a word a token",
        }
    ))?;
    out.line(format_args!("folder      {}", args.hf.display()))?;
    Ok(Ending::Done)
}

const AFTER_HELP: &str = "\
The folder holds config.json, model.safetensors (or model-00001-of-... with an index), tokenizer.json,
tokenizer_config.json and generation_config.json:

  transformers.AutoModelForCausalLM.from_pretrained(DIR)
  transformers.AutoTokenizer.from_pretrained(DIR)

Optimizer state stays behind. The way back is `neuroshard import`. docs/HUGGINGFACE.md is the guide.";
