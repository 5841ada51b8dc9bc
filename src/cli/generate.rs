//! `neuroshard generate`: continues a text, with a cache of keys and values.

use super::output::Stdout;
use super::saved_model::{SavedArgs, SavedModel};
use super::{Ending, Failure};
use crate::model::NeuroLlm;
use crate::model::Sampling;
use crate::model::Session;
use crate::model::choose;
use crate::ops::Kernels;
use crate::rng::Address;
use crate::rng::Purpose;

/// Arguments of `generate`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLE)]
pub struct Args {
    #[command(flatten)]
    saved: SavedArgs,
    /// The text to continue; without it, a new document.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    prompt: String,
    /// Tokens to generate, at most.
    #[arg(long, value_name = "N", default_value_t = 100)]
    tokens: usize,
    /// Divides the logits: below 1 likely tokens become likelier, above 1 the text more varied; 0:
    /// always the likeliest token.
    #[arg(long, value_name = "T", default_value_t = 0.8)]
    temperature: f64,
    /// Chooses among this many likeliest tokens; 0: among all.
    #[arg(long, value_name = "K", default_value_t = 0)]
    top_k: usize,
    /// Chooses among the likeliest tokens that together have this probability; 1: among all.
    #[arg(long, value_name = "P", default_value_t = 0.95)]
    top_p: f64,
    /// Seed of the choices: the same seed writes the same text.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Always takes the likeliest token, as --temperature 0.
    #[arg(long)]
    greedy: bool,
}

/// How tokens are chosen.
#[derive(Clone, Copy, Debug)]
pub struct Choice {
    /// The rule.
    pub sampling: Sampling,
    /// Seed of its random numbers: number i is at (seed, `Sampling`, step 0, index i).
    pub seed: u64,
    /// The token that ends the text.
    pub end: Option<u32>,
}

const EXAMPLE: &str = "\
Example:
  neuroshard generate --checkpoint runs/books --prompt \"It was\" --temperature 0.7";

/// Runs the command.
pub fn run(args: &Args, out: &mut Stdout) -> Result<Ending, Failure> {
    args.check()?;
    let saved = SavedModel::open(&args.saved)?;
    let text = saved.text()?;
    let mut prompt = text.encode(&args.prompt)?;
    if prompt.is_empty() {
        prompt.push(text.start());
    }
    saved.check_tokens(&prompt, "--prompt")?;
    let model = saved.load(prompt.len() + args.tokens)?;
    let choice = Choice { sampling: args.sampling(), seed: args.seed, end: text.end() };
    // The text alone goes to stdout.
    eprintln!("profile {}", saved.arithmetic());
    // A token may be part of a character: what is shown is what has become certain.
    let (mut all, mut shown) = (Vec::new(), String::new());
    out.piece(&args.prompt)?;
    if !args.prompt.is_empty() {
        all.extend_from_slice(&prompt);
        shown = text.decode(&all)?;
    }
    continue_text(saved.kernels.as_ref(), &model, &prompt, args.tokens, choice, |token| {
        all.push(token);
        let now = text.decode(&all)?;
        let certain = now.trim_end_matches(char::REPLACEMENT_CHARACTER);
        if let Some(new) = certain.strip_prefix(shown.as_str()) {
            out.piece(new)?;
            shown = certain.to_owned();
        }
        Ok(())
    })?;
    out.line("")?;
    Ok(Ending::Done)
}

impl Args {
    fn check(&self) -> Result<(), Failure> {
        if !(self.temperature >= 0.0 && self.temperature.is_finite()) {
            return Err(
                format!("--temperature {}: give a number from 0 up", self.temperature).into()
            );
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return Err(format!("--top-p {}: give a number above 0, at most 1", self.top_p).into());
        }
        if self.tokens > MAX_TOKENS {
            return Err(format!("--tokens {}: at most {MAX_TOKENS}", self.tokens).into());
        }
        Ok(())
    }

    fn sampling(&self) -> Sampling {
        let temperature = if self.greedy { 0.0 } else { self.temperature };
        Sampling { temperature, top_k: self.top_k, top_p: self.top_p }
    }
}

/// Continues `prompt` by at most `count` tokens, each handed to `each` as it comes.
pub fn continue_text(
    kernels: &dyn Kernels,
    model: &NeuroLlm,
    prompt: &[u32],
    count: usize,
    choice: Choice,
    mut each: impl FnMut(u32) -> Result<(), Failure>,
) -> Result<Vec<u32>, Failure> {
    let mut session = Session::new(kernels, model, prompt.len() + count)?;
    let mut tokens = Vec::with_capacity(count);
    if count == 0 {
        return Ok(tokens);
    }
    let mut logits = session.feed(prompt)?;
    let (seed, purpose) = (choice.seed, Purpose::Sampling);
    loop {
        let address = Address { seed, purpose, step: 0, index: tokens.len() as u64 };
        let token = choose(&logits, choice.sampling, address.uniform_f64());
        if choice.end == Some(token) {
            return Ok(tokens);
        }
        tokens.push(token);
        each(token)?;
        if tokens.len() == count {
            return Ok(tokens);
        }
        logits = session.feed(&[token])?;
    }
}

/// Longer texts are typing errors.
const MAX_TOKENS: usize = 1 << 20;
