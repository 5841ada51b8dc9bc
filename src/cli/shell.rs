//! `neuroshard completions` and `neuroshard man`: what a shell and `man` want to know of the
//! command line, made from its own definition.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::Roff;
use clap_mangen::roff::roman;

use super::output::Stdout;
use super::{Cli, Ending, Failure};

/// Arguments of `completions`.
#[derive(Debug, clap::Args)]
#[command(after_help = COMPLETIONS)]
pub struct CompletionsArgs {
    /// The shell to complete in.
    shell: Shell,
}

/// Arguments of `man`.
#[derive(Debug, clap::Args)]
#[command(after_help = PAGES)]
pub struct ManArgs {
    /// Folder for the pages; it is made if need be, and pages that are there are replaced.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// Prints the completions.
pub fn completions(args: &CompletionsArgs, out: &mut Stdout) -> Result<Ending, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), NAME, &mut script);
    out.piece(&String::from_utf8_lossy(&script))?;
    Ok(Ending::Done)
}

/// Writes a page for every command.
pub fn man(args: &ManArgs, out: &mut Stdout) -> Result<Ending, Failure> {
    let dir = &args.out;
    fs::create_dir_all(dir).map_err(|e| format!("cannot make {}: {e}", dir.display()))?;
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    let pages = write_pages(&command, dir)?;
    out.line(format_args!("pages       {pages} in {}", dir.display()))?;
    Ok(Ending::Done)
}

/// The page of a command and of all below it; how many there are.
fn write_pages(command: &clap::Command, dir: &Path) -> Result<usize, Failure> {
    let source = concat!("neuroshard ", env!("CARGO_PKG_VERSION"));
    let page = Man::new(command.clone()).source(source).manual("NeuroShard");
    let mut text = Vec::new();
    page.render_title(&mut text)?;
    page.render_name_section(&mut text)?;
    page.render_synopsis_section(&mut text)?;
    page.render_description_section(&mut text)?;
    page.render_options_section(&mut text)?;
    if command.has_subcommands() {
        page.render_subcommands_section(&mut text)?;
    }
    if let Some(notes) = command.get_after_help() {
        // The page's own section would fill these lines, which are examples and lists.
        let mut lines = Roff::new();
        lines.control("SH", ["NOTES"]).control("nf", []);
        for line in notes.to_string().lines() {
            lines.text([roman(line)]);
        }
        lines.control("fi", []).to_writer(&mut text)?;
    }
    let path = dir.join(page.get_filename());
    fs::write(&path, text).map_err(|e| format!("cannot write {}: {e}", path.display()))?;
    let below = command.get_subcommands().filter(|below| !below.is_hide_set());
    below.map(|below| write_pages(below, dir)).try_fold(1, |sum, pages| Ok(sum + pages?))
}

const NAME: &str = "neuroshard";

const COMPLETIONS: &str = "\
To install them for yourself, and open a new shell:
  neuroshard completions bash > ~/.local/share/bash-completion/completions/neuroshard
  neuroshard completions fish > ~/.config/fish/completions/neuroshard.fish
  neuroshard completions zsh > DIR/_neuroshard     (a folder DIR of your $fpath)";

const PAGES: &str = "\
To read them as `man neuroshard`, `man neuroshard-train` and so on:
  neuroshard man --out ~/.local/share/man/man1";
