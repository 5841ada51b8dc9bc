//! `neuroshard plan`: where layers go, what each rank needs, what a step costs; nothing is run.

use std::path::PathBuf;

use serde_json::json;

use super::model::job_of;
use super::output::Stdout;
use super::{Ending, Failure};
use crate::config::RunConfig;
use crate::shard;
use crate::shard::Choice;
use crate::shard::Machine;
use crate::shard::Zero;
use crate::shard::fastest;

/// Arguments of `plan`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLE)]
pub struct Args {
    /// A preset, such as tiny or 7b, instead of model.preset; docs/CONFIG.md lists them.
    #[arg(long, value_name = "NAME")]
    preset: Option<String>,
    /// A run file.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Lays a value over the run file, such as parallel.shards=64.
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    sets: Vec<String>,
    /// Ranks of the job.
    #[arg(long, value_name = "N")]
    ranks: usize,
    /// Memory that a rank may use, such as 24GiB or 141GB: one for all, one a stage, or one a
    /// rank. Default: parallel.memory_gib, else what this host has left, shared by all ranks.
    #[arg(long, value_name = "SIZE[,SIZE...]")]
    memory: Option<String>,
    /// Stages (ranges of layers), or `auto`: the number with the shortest step. Default:
    /// parallel.stages.
    #[arg(long, value_name = "auto|N")]
    stages: Option<String>,
    /// ZeRO level, or `auto`: the one with the shortest step. Default: parallel.zero.
    #[arg(long, value_name = "auto|0..3")]
    zero: Option<String>,
    /// Sequences computed at once, instead of train.micro_batch_sequences.
    #[arg(long, value_name = "SEQUENCES")]
    micro_batch: Option<usize>,
    /// Bandwidth from a rank to a rank of another host, in GB/s.
    #[arg(long, value_name = "GB/S", default_value_t = 45.0)]
    bandwidth: f64,
    /// Bandwidth from a rank to a rank of its host, in GB/s.
    #[arg(long, value_name = "GB/S", default_value_t = 360.0)]
    host_bandwidth: f64,
    /// Ranks on a host.
    #[arg(long, value_name = "RANKS", default_value_t = 8)]
    host_ranks: usize,
    /// Time until a message's first byte is there, in microseconds.
    #[arg(long, value_name = "US", default_value_t = 10.0)]
    latency: f64,
    /// What a rank reaches in whole training steps, in TFLOP/s.
    #[arg(long, value_name = "TFLOP/S", default_value_t = 500.0)]
    flops: f64,
    /// Bandwidth of a rank's own memory, in GB/s.
    #[arg(long, value_name = "GB/S", default_value_t = 4000.0)]
    memory_bandwidth: f64,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

const EXAMPLE: &str = "\
Example:
  neuroshard plan --preset 7b --ranks 64 --memory 141GB --stages auto --zero auto
Nothing is run. docs/SCALING.md has the formulas, and predictions made by them.";

/// Runs the command.
pub fn run(args: &Args, out: &mut Stdout) -> Result<Ending, Failure> {
    let preset = args.preset.iter().map(|name| format!("model.preset={name}"));
    let micro = args.micro_batch.map(|n| format!("train.micro_batch_sequences={n}"));
    let sets: Vec<String> = preset.chain(args.sets.iter().cloned()).chain(micro).collect();
    let config = RunConfig::load(args.config.as_deref(), &sets)?;
    let job = job_of(&config)?;
    let machine = args.machine()?;
    let stages = args.stages(&config.parallel, job.dims.layers)?;
    let zeros = args.zeros(&config.parallel)?;
    let memory_bytes = args.memory_bytes(&config.parallel, &stages)?;
    let choice = fastest(&job, &memory_bytes, &stages, &zeros, &machine)?;
    match args.json {
        true => out.json(&as_json(&choice, &machine))?,
        false => print(&choice, &machine, out)?,
    }
    Ok(Ending::Done)
}

impl Args {
    fn machine(&self) -> Result<Machine, Failure> {
        let speeds = [
            ("--bandwidth", self.bandwidth),
            ("--host-bandwidth", self.host_bandwidth),
            ("--flops", self.flops),
            ("--memory-bandwidth", self.memory_bandwidth),
        ];
        for (flag, value) in speeds {
            if !(value.is_finite() && value > 0.0) {
                return Err(format!("{flag} {value}: give a number above 0").into());
            }
        }
        if !(self.latency.is_finite() && self.latency >= 0.0) {
            return Err(format!("--latency {}: give a number from 0 up", self.latency).into());
        }
        if self.host_ranks == 0 {
            return Err("--host-ranks 0: a host has at least one rank".into());
        }
        Ok(Machine {
            flops_per_s: self.flops * 1e12,
            memory_bytes_per_s: self.memory_bandwidth * 1e9,
            network_bytes_per_s: self.bandwidth * 1e9,
            host_bytes_per_s: self.host_bandwidth * 1e9,
            latency_s: self.latency * 1e-6,
            host_ranks: self.host_ranks,
        })
    }

    /// The numbers of stages to try.
    fn stages(&self, config: &shard::Config, layers: usize) -> Result<Vec<usize>, Failure> {
        if !(1..=MOST_RANKS).contains(&self.ranks) {
            return Err(format!("--ranks {}: not within 1..={MOST_RANKS}", self.ranks).into());
        }
        match self.stages.as_deref() {
            None => Ok(vec![config.stages]),
            Some("auto") => {
                let most = layers.min(self.ranks);
                Ok((1..=most).filter(|&n| self.ranks.is_multiple_of(n)).collect())
            }
            Some(text) => match text.parse() {
                Ok(stages) => Ok(vec![stages]),
                Err(_) => Err(format!("--stages {text}: give a number of stages or auto").into()),
            },
        }
    }

    /// The levels to try.
    fn zeros(&self, config: &shard::Config) -> Result<Vec<Zero>, Failure> {
        match self.zero.as_deref() {
            None => Ok(vec![config.zero]),
            Some("auto") => Ok(Zero::ALL.to_vec()),
            Some(text) => {
                let level = text.parse::<u8>().ok().and_then(|level| Zero::try_from(level).ok());
                let level =
                    level.ok_or_else(|| format!("--zero {text}: give 0, 1, 2, 3 or auto"))?;
                Ok(vec![level])
            }
        }
    }

    /// Memory of every rank. One value per stage leaves only that number in `stages`.
    fn memory_bytes(&self, config: &shard::Config, stages: &[usize]) -> Result<Vec<u64>, Failure> {
        let ranks = self.ranks;
        let Some(list) = &self.memory else {
            if let Some(declared) = config.declared_bytes(ranks) {
                return Ok(declared);
            }
            let left = shard::left_bytes()
                .ok_or("this system does not tell how much memory is left; give --memory")?;
            return Ok(vec![left / ranks as u64; ranks]);
        };
        let sizes = list.split(',').map(parse_size).collect::<Result<Vec<u64>, _>>()?;
        match (sizes.len(), stages) {
            (1, _) => Ok(vec![sizes[0]; ranks]),
            (n, _) if n == ranks => Ok(sizes),
            (n, &[stages]) if n == stages => {
                let each = ranks.div_ceil(stages);
                Ok((0..ranks).map(|rank| sizes[rank / each]).collect())
            }
            (n, _) => Err(format!(
                "--memory {list}: {n} sizes; give one for all ranks, one for each of the {ranks} \
                 ranks, or one for each stage of a given --stages"
            )
            .into()),
        }
    }
}

/// A size such as `24GiB`, `141GB` or `512MiB`, in bytes.
fn parse_size(text: &str) -> Result<u64, String> {
    let refused = || format!("--memory {text}: give a size such as 24GiB, 141GB or 512MiB");
    let text_trimmed = text.trim();
    let digits = text_trimmed.find(|c: char| !(c.is_ascii_digit() || c == '.'));
    let (number, unit) = text_trimmed.split_at(digits.ok_or_else(refused)?);
    let scale = UNITS.iter().find(|(name, _)| *name == unit.trim()).ok_or_else(refused)?.1;
    let number: f64 = number.parse().map_err(|_| refused())?;
    let bytes = number * scale;
    if bytes >= 1.0 && bytes < u64::MAX as f64 { Ok(bytes as u64) } else { Err(refused()) }
}

fn print(choice: &Choice, machine: &Machine, out: &mut Stdout) -> Result<(), Failure> {
    let Choice { input, placement, forecast } = choice;
    let job = &input.job;
    out.line(format_args!(
        "job         {:.2} M parameters, steps of {} x {} tokens in {} shards, {} micro-batches of \
         {} a rank",
        job.dims.parameters() as f64 / 1e6,
        job.batch_sequences,
        job.seq_len,
        job.shards,
        job.micro_batches(input.data_ranks()),
        job.micro_batch_sequences,
    ))?;
    let recompute =
        if job.passes == crate::model::Passes::Recomputed { "recomputed" } else { "stored" };
    out.line(format_args!(
        "placement   stages: {}, ranks in each: {}, zero {}, activations {recompute}",
        input.stages,
        input.data_ranks(),
        u8::from(job.zero),
    ))?;
    out.line("")?;
    out.piece(&placement.to_string())?;
    out.line("")?;
    out.line(format_args!(
        "  {:20} {:>14} {:>14} {:>14}",
        "bytes sent per rank", "reduce-scatter", "all-gather", "activations"
    ))?;
    for (stage, traffic) in forecast.traffic.iter().enumerate() {
        let gigabytes = |bytes: u64| format!("{:.3} GB", bytes as f64 / 1e9);
        out.line(format_args!(
            "  stage {stage:14} {:>14} {:>14} {:>14}",
            gigabytes(traffic.reduce_scatter),
            gigabytes(traffic.all_gather),
            gigabytes(traffic.pipeline)
        ))?;
    }
    out.line("")?;
    out.line(format_args!(
        "machine     {} TFLOP/s and {} GB/s of memory a rank; {} GB/s between hosts, {} GB/s among \
         the {} ranks of a host, {} us",
        machine.flops_per_s / 1e12,
        machine.memory_bytes_per_s / 1e9,
        machine.network_bytes_per_s / 1e9,
        machine.host_bytes_per_s / 1e9,
        machine.host_ranks,
        machine.latency_s * 1e6
    ))?;
    out.line(format_args!(
        "step        {} = {} computing + {} exchanging ({} in all, the rest hidden) + {} updating",
        seconds(forecast.step_s),
        seconds(forecast.compute_s),
        seconds(forecast.exposed_s),
        seconds(forecast.exchange_s),
        seconds(forecast.update_s)
    ))?;
    out.line(format_args!("bubble      {:.1}% of the computing time", 100.0 * forecast.bubble))?;
    out.line(format_args!(
        "speed       {:.0} tokens/s, {:.0} a rank",
        forecast.tokens_per_s,
        forecast.tokens_per_s / input.memory_bytes.len() as f64
    ))
}

/// Seconds with a unit that suits them.
fn seconds(s: f64) -> String {
    if s >= 1.0 { format!("{s:.2} s") } else { format!("{:.2} ms", s * 1e3) }
}

fn as_json(choice: &Choice, machine: &Machine) -> serde_json::Value {
    let Choice { input, placement, forecast } = choice;
    let job = &input.job;
    json!({
        "ranks": input.memory_bytes.len(),
        "stages": input.stages,
        "data_ranks": input.data_ranks(),
        "zero": u8::from(job.zero),
        "recompute": job.passes == crate::model::Passes::Recomputed,
        "shards": job.shards,
        "micro_batch_sequences": job.micro_batch_sequences,
        "micro_batches": job.micro_batches(input.data_ranks()),
        "placement": placement,
        "total_bytes": placement.memory.iter().map(|memory| memory.total()).collect::<Vec<_>>(),
        "machine": machine,
        "forecast": forecast,
    })
}

/// More ranks are a typing error.
const MOST_RANKS: usize = 1 << 20;

const UNITS: [(&str, f64); 9] = [
    ("B", 1.0),
    ("kB", 1e3),
    ("MB", 1e6),
    ("GB", 1e9),
    ("TB", 1e12),
    ("KiB", 1024.0),
    ("MiB", 1_048_576.0),
    ("GiB", 1_073_741_824.0),
    ("TiB", 1_099_511_627_776.0),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        assert_eq!(parse_size("24GiB"), Ok(24 << 30));
        assert_eq!(parse_size(" 1.5 MiB "), Ok(3 << 19));
        assert_eq!(parse_size("141GB"), Ok(141_000_000_000));
        for text in ["", "24", "GiB", "24gb", "-1GiB", "1e99GiB", "0GiB", "1.2.3GB", "99999999TiB"]
        {
            assert!(parse_size(text).unwrap_err().contains("24GiB"), "{text}");
        }
    }
}
