//! The command line: one file per subcommand.
//!
//! Results go to stdout, progress and errors to stderr. An error is printed with the chain of its
//! causes, one line each. The only module that chooses a device.

mod bench;
mod checkpoint;
mod config;
mod data;
mod device;
mod doctor;
mod eval;
mod export;
mod generate;
mod import;
mod launch;
mod logits;
mod machine;
mod model;
mod output;
mod plan;
mod progress;
mod ranks;
mod report;
mod saved_model;
mod shell;
mod simulate;
mod summary;
mod train;
mod watch;

use std::error::Error;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use output::Stdout;

/// Trains a NeuroLLM from random weights, with the same bits on every device.
#[derive(Debug, Parser)]
#[command(name = "neuroshard", version, about, after_help = AFTER_HELP)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Trains a model; without a run file, a small one on a synthetic language.
    Train(train::Args),
    /// Makes token shards from text; shows, verifies and proves them.
    #[command(subcommand)]
    Data(data::Command),
    /// Trains many clusters in one process over a made-up network, with faults and attackers.
    Simulate(simulate::Args),
    /// Prints a model's shapes, parameters, FLOPs and memory.
    Model(model::Args),
    /// Prints where a training's layers go, what each rank needs and what a step costs.
    Plan(plan::Args),
    /// Shows, hashes or verifies a checkpoint.
    #[command(subcommand)]
    Checkpoint(checkpoint::Command),
    /// Measures loss and perplexity of a checkpoint on held-out data.
    Eval(eval::Args),
    /// Continues a text with a checkpoint's model.
    Generate(generate::Args),
    /// Prints a checkpoint's logits as JSON, to compare with other tools.
    Logits(logits::Args),
    /// Writes a checkpoint's model as a folder for Hugging Face's transformers.
    Export(export::Args),
    /// Makes a run of a Hugging Face folder, to ask or to train on.
    Import(import::Args),
    /// Shows a run as it goes: losses, speed, time to the end. q quits.
    Watch(watch::Args),
    /// Shows runs and simulations as one page of HTML.
    Report(report::Args),
    /// Prints what this machine has and how fast it is, and what each missing thing costs.
    Doctor(doctor::Args),
    /// Writes and submits jobs for a cluster's scheduler.
    #[command(subcommand)]
    Launch(launch::Command),
    /// Measures the operations on a device, and compares their bits.
    #[command(subcommand)]
    Bench(bench::Command),
    /// Prints every setting that there is, or those in force.
    #[command(subcommand)]
    Config(config::Command),
    /// Prints completions of this command line for a shell.
    Completions(shell::CompletionsArgs),
    /// Writes manual pages, one for each command.
    Man(shell::ManArgs),
}

/// How a command ended that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// With everything done.
    Done,
    /// Stopped by a signal, with a checkpoint to resume from.
    Stopped,
    /// With a failure that has been told.
    Failed,
}

/// Why a command failed; its sources say more.
type Failure = Box<dyn Error + Send + Sync>;

/// Runs the command line of this process.
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(refusal) => {
            // Help and version are refusals too, to clap; they go to stdout with code 0.
            let _ = refusal.print();
            return ExitCode::from(if refusal.use_stderr() { USAGE } else { 0 });
        }
    };
    let out = &mut Stdout::new();
    let outcome = match cli.command {
        Command::Train(args) => train::run(&args, out),
        Command::Data(command) => data::run(&command, out),
        Command::Simulate(args) => simulate::run(&args, out),
        Command::Model(args) => model::run(&args, out),
        Command::Plan(args) => plan::run(&args, out),
        Command::Checkpoint(command) => checkpoint::run(&command, out),
        Command::Eval(args) => eval::run(&args, out),
        Command::Generate(args) => generate::run(&args, out),
        Command::Logits(args) => logits::run(&args, out),
        Command::Export(args) => export::run(&args, out),
        Command::Import(args) => import::run(&args, out),
        Command::Watch(args) => watch::run(&args, out),
        Command::Report(args) => report::run(&args, out),
        Command::Doctor(args) => doctor::run(&args, out),
        Command::Launch(command) => launch::run(&command, out),
        Command::Bench(command) => bench::run(&command, out),
        Command::Config(command) => config::run(&command, out),
        Command::Completions(args) => shell::completions(&args, out),
        Command::Man(args) => shell::man(&args, out),
    };
    match outcome {
        Ok(Ending::Done) => ExitCode::SUCCESS,
        Ok(Ending::Stopped) => ExitCode::from(STOPPED),
        Ok(Ending::Failed) => ExitCode::from(FAILED),
        // Whoever reads our output has had enough, as `head` does.
        Err(error) if output::is_broken_pipe(error.as_ref()) => ExitCode::SUCCESS,
        Err(error) => {
            eprint!("{}", chain(error.as_ref()));
            ExitCode::from(FAILED)
        }
    }
}

/// An error and its causes as the words of another error.
fn words(error: &dyn Error) -> String {
    let text = chain(error);
    text.strip_prefix("error: ").unwrap_or(&text).trim_end().to_owned()
}

/// An error and its causes, one line each. What a message already says is not repeated.
fn chain(error: &dyn Error) -> String {
    let mut text = format!("error: {error}\n");
    let mut source = error.source();
    while let Some(cause) = source {
        let line = cause.to_string();
        if !text.contains(&line) {
            text.push_str(&format!("  caused by: {line}\n"));
        }
        source = cause.source();
    }
    text
}

/// Something went wrong; stderr says what.
const FAILED: u8 = 1;

/// The command line could not be understood.
const USAGE: u8 = 2;

/// Training stopped on a signal after writing a checkpoint: resume it with `--resume`.
const STOPPED: u8 = 85;

const AFTER_HELP: &str = "\
First steps:
  neuroshard doctor
  neuroshard train --set run.dir=runs/first --set train.steps=200
  neuroshard watch runs/first                      (in another terminal)
  neuroshard generate --checkpoint runs/first

`neuroshard COMMAND --help` explains a command, `neuroshard config reference` every setting.

Exit codes:
  0   done
  1   failed; stderr says why, one cause a line
  2   the command line could not be understood
  85  stopped by SIGTERM, SIGUSR1 or SIGINT after writing a checkpoint: requeue, with --resume";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
