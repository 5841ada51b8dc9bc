//! The ranks of a job: how they start, and how a failure of one becomes the end of all.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::output::Stdout;
use super::{Ending, FAILED, Failure, chain, words};
use crate::backend;
use crate::collective;
use crate::collective::Communicator;
use crate::collective::Hosts;
use crate::collective::Job;
use crate::collective::Start;
use crate::collective::{Binding, Bound, Oversubscription, Wish};
use crate::config::RunConfig;
use crate::train;

/// One rank of a job, as a command sees it.
#[derive(Debug)]
pub struct Rank {
    /// All ranks.
    pub world: Arc<dyn Communicator>,
    /// Name of the host of every rank.
    pub hosts: Vec<String>,
    /// The job that this process is a rank of; none where all ranks are threads of it.
    job: Option<Job>,
}

impl Rank {
    /// Whether it speaks for the job.
    pub fn speaks(&self) -> bool {
        self.world.rank() == 0
    }

    /// Whether all ranks are threads of this process.
    pub fn in_one_process(&self) -> bool {
        self.job.is_none()
    }
}

/// Runs `body` as every rank of this job: `threads` ranks in this process if given, else the one
/// rank that this process is of the job that a launcher started. Only the first rank gets `out`.
pub fn run(
    threads: Option<usize>,
    start: &Start,
    out: &mut Stdout,
    body: impl Fn(&Rank, &mut Stdout) -> Result<Ending, Failure> + Sync,
) -> Result<Ending, Failure> {
    if let Some(ranks) = threads {
        return in_threads(ranks, out, &body);
    }
    let job = collective::start(start)?;
    let rank = of_process(job);
    let outcome = if rank.speaks() { body(&rank, out) } else { body(&rank, &mut Stdout::quiet()) };
    match outcome {
        Err(error) if rank.world.size() > 1 => Ok(end_all(&rank, &error)),
        outcome => outcome,
    }
}

fn of_process(job: Job) -> Rank {
    let names = (0..job.world.size()).map(|rank| job.hosts.name(rank).to_owned());
    let (world, hosts) = (job.world.clone(), names.collect());
    Rank { world, hosts, job: Some(job) }
}

/// Every rank as a thread of this process.
fn in_threads(
    ranks: usize,
    out: &mut Stdout,
    body: &(impl Fn(&Rank, &mut Stdout) -> Result<Ending, Failure> + Sync),
) -> Result<Ending, Failure> {
    if !(1..=MAX_THREAD_RANKS).contains(&ranks) {
        return Err(format!("--ranks: {ranks} is not within 1..={MAX_THREAD_RANKS}").into());
    }
    let host = Hosts::single().name(0).to_owned();
    let rank_of =
        |world: Arc<dyn Communicator>| Rank { hosts: vec![host.clone(); ranks], job: None, world };
    let mut worlds = collective::threads(ranks).into_iter();
    let Some(first) = worlds.next() else { return Err("there are no ranks".into()) };
    std::thread::scope(|scope| {
        let others: Vec<_> = worlds
            .map(|world| {
                let rank = rank_of(world);
                // The rank is dropped at the end of its body, so that others notice.
                scope.spawn(move || body(&rank, &mut Stdout::quiet()))
            })
            .collect();
        let mut outcomes = vec![body(&rank_of(first), out)];
        for (i, other) in others.into_iter().enumerate() {
            let gone = |_| Err(format!("rank {} panicked", i + 1).into());
            outcomes.push(other.join().unwrap_or_else(gone));
        }
        // The first cause, rather than what it led to on other ranks.
        outcomes.sort_by_key(|outcome| outcome.as_ref().err().map_or(Told::Never, told));
        outcomes.swap_remove(0)
    })
}

/// Ends the job after a failure, which one rank tells. Where all ranks know of it they end
/// together; else the others may be anywhere, and are ended.
fn end_all(rank: &Rank, error: &Failure) -> Ending {
    let world = &rank.world;
    match told(error) {
        Told::Shared => {
            tell(rank, error);
            // Who does not come has ended already.
            let _ = world.barrier();
            return Ending::Failed;
        }
        Told::ByAnother => {
            world.set_patience(GRACE);
            if world.barrier().is_ok() {
                return Ending::Failed;
            }
        }
        // Where several have the same to tell, the lowest speaks, and ends the others before.
        Told::Cause | Told::Consequence => {
            std::thread::sleep(LATENCY * world.rank().min(MAX_TURNS) as u32);
        }
        Told::Never => {}
    }
    tell(rank, error);
    world.abort(i32::from(FAILED))
}

fn tell(rank: &Rank, error: &Failure) {
    let me = rank.world.rank();
    let host = rank.hosts.get(me).map_or("?", String::as_str);
    let mut text = chain(error.as_ref()).replacen("error: ", &prefix(me, host), 1);
    if let Some(line) = where_is(rank, error) {
        text.push_str(&line);
        text.push('\n');
    }
    // In one piece: other ranks and the launcher write to the same place.
    eprint!("{text}");
}

fn prefix(rank: usize, host: &str) -> String {
    format!("error on rank {rank} (host {host}): ")
}

/// On which hosts the ranks are that an error names.
fn where_is(rank: &Rank, error: &Failure) -> Option<String> {
    let error = error.downcast_ref::<Shared>().map_or(error, |shared| &shared.0);
    let ranks = match error.downcast_ref::<train::Error>()? {
        train::Error::Exchange { source, .. } | train::Error::Collective(source) => source.ranks(),
        train::Error::Differs { ranks, .. } => ranks.clone(),
        _ => Vec::new(),
    };
    let place = |&r: &usize| Some(format!("rank {r} is on host {}", rank.hosts.get(r)?));
    let places: Vec<String> = ranks.iter().take(MAX_PLACES).filter_map(place).collect();
    (!places.is_empty()).then(|| format!("  {}", places.join(", ")))
}

/// `mine`, if no rank failed; else one rank has the error, and the others that it has. Collective.
pub fn agreed<T>(rank: &Rank, mine: Result<T, Failure>) -> Result<T, Failure> {
    let world = rank.world.as_ref();
    let note = mine.as_ref().map(|_| ()).map_err(|error| train::Error::Elsewhere {
        rank: world.rank(),
        what: words(error.as_ref()),
    });
    match (train::agree(world, note), mine) {
        (Ok(()), mine) => mine,
        (Err(train::Error::Shared(_)), Err(mine)) => Err(Box::new(Shared(mine))),
        // A job of one rank.
        (Err(train::Error::Elsewhere { rank, .. }), Err(mine)) if rank == world.rank() => Err(mine),
        (Err(error), _) => Err(error.into()),
    }
}

/// A failure of this rank that all others know of.
#[derive(Debug)]
struct Shared(Failure);

impl fmt::Display for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for Shared {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

/// Whose business it is to tell an error; the most telling first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Told {
    /// This rank's own, and all others know.
    Shared,
    /// This rank's own.
    Cause,
    /// Another rank failed to answer.
    Consequence,
    /// Another rank knows, and tells.
    ByAnother,
    /// There is none.
    Never,
}

fn told(error: &Failure) -> Told {
    match error.downcast_ref::<train::Error>() {
        Some(train::Error::Elsewhere { .. }) => Told::ByAnother,
        Some(train::Error::Shared(_)) => Told::Shared,
        _ if error.is::<Shared>() => Told::Shared,
        Some(train::Error::Exchange { .. } | train::Error::Collective(_)) => Told::Consequence,
        _ => Told::Cause,
    }
}

/// More ranks than this in one process are a typing error.
const MAX_THREAD_RANKS: usize = 64;
/// How much longer each next rank waits before it speaks.
const LATENCY: Duration = Duration::from_millis(150);
const MAX_TURNS: usize = 20;
/// What the rank with the cause takes at most to print it and end the job.
const GRACE: Duration = Duration::from_secs(5);
const MAX_PLACES: usize = 8;

/// The device of this rank's share of its host, and where that is, in words. Collective. More
/// threads than cores are refused unless `parallel.oversubscribe` asks for them.
pub fn bind(rank: &Rank, config: &RunConfig) -> Result<(backend::Config, String), Failure> {
    let parallel = &config.parallel;
    let bound = match &rank.job {
        None => share(rank, config)?,
        Some(job) => {
            let threads = config.device.threads;
            let binding = if parallel.bind { Binding::Bind } else { Binding::Leave };
            let oversubscription = match parallel.oversubscribe {
                true => Oversubscription::Allow,
                false => Oversubscription::Refuse,
            };
            let wish = Wish { threads, binding, oversubscription };
            collective::bind(job, &wish).map_err(train::Error::from)?
        }
    };
    let threads = match config.device.threads {
        0 => bound.threads,
        threads => threads,
    };
    // Ranks of one host take its GPUs in order, unless the run file names one.
    let local = match &rank.job {
        None => rank.world.rank(),
        Some(job) => job.hosts.local_rank(),
    };
    let index = Some(config.device.index.unwrap_or(local));
    Ok((backend::Config { threads, index, ..config.device.clone() }, bound.line))
}

/// The share of a rank that is a thread of this process: the cores are not divided, but counted.
fn share(rank: &Rank, config: &RunConfig) -> Result<Bound, Failure> {
    let (me, ranks) = (rank.world.rank(), rank.world.size());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = match config.device.threads {
        0 => (cores / ranks).max(1),
        threads => threads,
    };
    if threads * ranks > cores && ranks > 1 && !config.parallel.oversubscribe {
        return Err(format!(
            "--ranks: {ranks} ranks of {threads} threads on {cores} cores; start fewer, lower \
             device.threads, or allow it with --set parallel.oversubscribe=true"
        )
        .into());
    }
    let plural = if threads == 1 { "" } else { "s" };
    let line = format!("rank {me}: {threads} thread{plural} of one process");
    Ok(Bound { line, threads })
}
