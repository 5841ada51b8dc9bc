//! `neuroshard logits`: a checkpoint's logits as JSON.

use serde_json::json;

use super::output::Stdout;
use super::saved_model::{SavedArgs, SavedModel};
use super::{Ending, Failure};

/// Arguments of `logits`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    saved: SavedArgs,
    /// The input, as token numbers separated by commas, such as 1,2,3.
    #[arg(long, value_name = "TOKENS", value_delimiter = ',', required = true)]
    tokens: Vec<u32>,
    /// Only the logits after the last token.
    #[arg(long)]
    last: bool,
}

/// Runs the command.
pub fn run(args: &Args, out: &mut Stdout) -> Result<Ending, Failure> {
    let saved = SavedModel::open(&args.saved)?;
    saved.check_tokens(&args.tokens, "--tokens")?;
    let model = saved.load(args.tokens.len())?;
    let logits = model.logits(saved.kernels.as_ref(), &args.tokens)?;
    let rows: Vec<&[f32]> = logits.chunks(saved.dims().vocab).collect();
    let rows = if args.last { &rows[rows.len() - 1..] } else { &rows[..] };
    // Shortest decimals that give the same f32 back.
    out.line(json!({ "tokens": args.tokens, "logits": rows }))?;
    Ok(Ending::Done)
}
