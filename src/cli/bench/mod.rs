//! `neuroshard bench`: what operations cost, and whether their bits are what they should be.

mod equal;
mod kernels;
mod sweep;
mod tensor_core;

use std::path::PathBuf;
use std::sync::Arc;

use super::output::Stdout;
use super::{Ending, Failure, device};
use crate::bench::Selection;
use crate::config::RunConfig;
use crate::model;
use crate::ops::Kernels;
use crate::ops::Precision;
use crate::train::Numerics;
use crate::train::Profile;

/// What to measure or compare.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Times every operation beside what the device can do at most.
    Kernels(kernels::Args),
    /// Runs operations many times at awkward shapes and compares the bits, also with the CPU's.
    Equal(equal::Args),
    /// Compares random tensor-core products with the model of docs/ARITHMETIC.md, bit by bit.
    TensorCore(tensor_core::Args),
}

/// Runs the command.
pub fn run(command: &Command, out: &mut Stdout) -> Result<Ending, Failure> {
    match command {
        Command::Kernels(args) => kernels::run(args, out),
        Command::Equal(args) => equal::run(args, out),
        Command::TensorCore(args) => tensor_core::run(args, out),
    }
}

/// What all of them can be told.
#[derive(Clone, Debug, clap::Args)]
struct Common {
    /// A run file; of it [device], [numerics] and [model] count.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Lays a value over the run file, such as device.kind=cuda or device.threads=1.
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    sets: Vec<String>,
    /// Operations, such as rmsnorm,matmul; without it, all.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    op: Vec<String>,
    /// Profiles: f32, bf16, tc. Row operations of bf16 are those of f32.
    #[arg(long, value_name = "NAMES", value_delimiter = ',', default_values = ["f32", "bf16", "tc"])]
    dtype: Vec<String>,
}

impl Common {
    fn load(&self) -> Result<RunConfig, Failure> {
        Ok(RunConfig::load(self.config.as_deref(), &self.sets)?)
    }

    fn open(&self, config: &RunConfig) -> Result<Arc<dyn Kernels>, Failure> {
        device::open(&config.device)
    }

    /// The chosen profiles, with the run file's kind of tensor core.
    fn precisions(&self, config: &RunConfig) -> Result<Vec<Precision>, Failure> {
        let precision = |name: &String| {
            let profiles = [Profile::F32, Profile::Bf16, Profile::Tc];
            let Some(profile) = profiles.into_iter().find(|p| p.name() == name) else {
                return Err(
                    format!("--dtype: no profile is called `{name}`; f32, bf16 or tc").into()
                );
            };
            let tensor_core = config.numerics.tensor_core;
            Ok(Numerics { profile, tensor_core }.precision())
        };
        self.dtype.iter().map(precision).collect()
    }
}

/// The models called so, or that of the run file.
fn models(names: &[String], config: &RunConfig) -> Result<Vec<(String, model::Dims)>, Failure> {
    let dims = |config: &model::Config| config.dims().map_err(|all| Failure::from(all.join("; ")));
    if names.is_empty() {
        let name = config.model.preset.clone().unwrap_or_else(|| "nano".into());
        return Ok(vec![(name, dims(&config.model)?)]);
    }
    let named = |name: &String| {
        let config = model::Config { preset: Some(name.clone()), ..model::Config::default() };
        Ok((name.clone(), dims(&config)?))
    };
    names.iter().map(named).collect()
}

/// Extents such as `8192x768`, several apart by commas.
fn shapes(texts: &[String]) -> Result<Vec<Vec<usize>>, Failure> {
    let shape = |text: &String| {
        let extents = text.split('x').map(str::parse).collect::<Result<Vec<usize>, _>>();
        let fits = |extents: &Vec<usize>| {
            extents.iter().try_fold(1usize, |all, &n| all.checked_mul(n).filter(|_| n > 0))
        };
        match extents {
            Ok(extents) if fits(&extents).is_some_and(|all| all <= MAX_ELEMENTS) => Ok(extents),
            _ => Err(Failure::from(format!(
                "--shape: `{text}` is no shape; write extents such as 8192x768"
            ))),
        }
    };
    texts.iter().map(shape).collect()
}

/// Larger shapes are typing errors.
const MAX_ELEMENTS: usize = 1 << 50;
