//! One page that shows runs: no network, no script, everything in one file.
//!
//! It reads folders, not the modules that wrote them: run folders of `neuroshard train`
//! (`metrics.jsonl`, `config.toml`) and results of `neuroshard simulate` (`rounds.jsonl`,
//! `summary.json`, `scenario.toml`), or folders of such folders. What is missing or cannot be read is said
//! on the page, and the rest is shown. Everything from files is escaped.

mod cells;
mod difference;
mod error;
mod find;
mod heat;
mod lines;
mod page;
mod rounds;
mod simulation;
mod steps;
mod sweep;
mod training;

pub use error::Error;

use std::path::PathBuf;

use find::Folder;
use page::Page;

/// The page of all runs in `paths`, called `title`.
pub fn html(paths: &[PathBuf], title: &str) -> Result<String, Error> {
    let mut folders = Vec::new();
    for path in paths {
        find::folders(path, &mut folders)?;
    }
    find::without_repeats(&mut folders);
    let names = find::names(&folders);
    let (mut trained, mut simulated) = (Vec::new(), Vec::new());
    for (folder, name) in folders.iter().zip(names) {
        match folder {
            Folder::Training(path) => trained.push(training::Run::read(path, name)?),
            Folder::Simulation(path) => simulated.push(simulation::Run::read(path, name)?),
        }
    }
    let mut page = Page::new(title);
    if !simulated.is_empty() {
        sweep::show(&simulated, &mut page);
    }
    if !trained.is_empty() {
        training::show(&trained, &mut page);
    }
    Ok(page.finish())
}
