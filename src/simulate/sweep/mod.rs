//! Many scenarios: the points of a grid, in parallel, each in a folder of its own.

mod cost;
mod grid;
mod one;
mod table;

pub use cost::Cost;
pub use grid::Axis;
pub use grid::expand;
pub use one::Worker;
pub use one::simulate;
pub use table::Row;
pub use table::rows;
pub use table::table;

use std::path::Path;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use super::Error;
use super::results::Folder;
use super::results::Record;
use super::results::Summary;
use super::scenario::Scenario;
use crate::train::Stop;
use one::Datasets;

/// A point of a grid.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// What sets it apart from the others, but for its seed: `key=value` each.
    pub labels: Vec<String>,
    /// What is to be run.
    pub scenario: Scenario,
}

/// What happens in a sweep.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// A run begins.
    Begun {
        /// Its place among the points.
        point: usize,
        /// Where its results go.
        folder: &'a Folder,
    },
    /// An exchange of it is done.
    Exchange {
        /// Its place among the points.
        point: usize,
        /// What it did.
        record: &'a Record,
    },
    /// It is done.
    Done {
        /// Its place among the points.
        point: usize,
        /// How.
        summary: &'a Summary,
    },
    /// It had been done before.
    Kept {
        /// Its place among the points.
        point: usize,
        /// How.
        summary: &'a Summary,
    },
}

/// Who watches a sweep.
pub type Watcher<'a> = dyn Fn(Event<'_>) + Sync + 'a;

/// Runs all `points`, one after the other on each of `workers`; their summaries in order. Finished
/// runs in `out` are kept if `resume`, and otherwise an error. The first failure ends the sweep
/// after the runs under way.
pub fn sweep(
    points: &[Point],
    workers: &[Worker],
    (out, resume): (&Path, bool),
    stop: &Stop,
    watch: &Watcher<'_>,
) -> Result<Vec<Summary>, Error> {
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(None));
    let done: Vec<Mutex<Option<Summary>>> = points.iter().map(|_| Mutex::new(None)).collect();
    let datasets = Datasets::default();
    let work = |worker: &Worker| {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(point) = points.get(index) else { break };
            match worker.run(index, &point.scenario, (out, resume), (&datasets, stop), watch) {
                Ok(summary) => *lock(&done[index]) = Some(summary),
                Err(error) => {
                    next.store(points.len(), Ordering::Relaxed);
                    lock(&failed).get_or_insert(error);
                    break;
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for worker in workers {
            scope.spawn(|| work(worker));
        }
    });
    if let Some(error) = lock(&failed).take() {
        return Err(error);
    }
    Ok(done.iter().filter_map(|summary| lock(summary).take()).collect())
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
