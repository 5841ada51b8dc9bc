//! Ranks of one host bind to cores of their own, and say so.
//!
//! A launcher that has bound its ranks already (`mpirun --bind-to core`, `srun --cpu-bind`) is
//! respected: it shows in masks that differ from rank to rank.

use std::fs;
use std::ops::Range;

use rustix::thread::{CpuSet, Pid, sched_getaffinity, sched_setaffinity};

use super::topology::{Cpus, Topology, format_list};
use super::{Error, Job};

/// What a rank wants; the same on all ranks but for the threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Threads that this rank will compute with; 0: as many as it gets cores.
    pub threads: usize,
    /// Whether to bind.
    pub binding: Binding,
    /// What to do when a host has fewer cores than threads.
    pub oversubscription: Oversubscription,
}

/// Whether ranks that share a host bind to cores of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binding {
    /// They do, unless the launcher has done it.
    Bind,
    /// The process stays as it was started.
    Leave,
}

/// What to do when the threads of a host's ranks are more than its cores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Oversubscription {
    /// End with an error.
    Refuse,
    /// Share the cores.
    Allow,
}

/// Where a rank computes from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    /// For logs: `rank 1 on host n1: cores 2-3 (NUMA node 0), 2 threads`.
    pub line: String,
    /// Threads that it may use.
    pub threads: usize,
}

/// Binds this process, threads that run already included; collective. Call it before threads that compute
/// are started. Oversubscription is an error on all ranks, of this and other hosts.
pub fn bind(job: &Job, wish: &Wish) -> Result<Bound, Error> {
    let rank = job.world.rank();
    let mine = Claim { cpus: allowed_cpus(), threads: wish.threads };
    let mut records = vec![0; CLAIM_BYTES * job.world.size()];
    job.world.all_gather(&mine.record(), &mut records)?;
    let claims: Vec<_> = records.chunks_exact(CLAIM_BYTES).map(Claim::parse).collect();
    for ranks in job.hosts.by_host() {
        let host: Vec<&Claim> = ranks.iter().map(|rank| &claims[*rank]).collect();
        // A job of one process takes whatever its user says.
        if wish.oversubscription == Oversubscription::Refuse && claims.len() > 1 {
            check(job.hosts.name(ranks[0]), &ranks, &host)?;
        }
    }
    let local: Vec<&Claim> = job.hosts.local_ranks().iter().map(|rank| &claims[*rank]).collect();
    let topology = Topology::of_this_host(&mine.cpus);
    let decision = decide(&topology, &local, job.hosts.local_rank(), wish.binding);
    if decision.why == Why::Share {
        bind_process(&decision.cpus)?;
    }
    let line = decision.line(rank, job.hosts.name(rank), &topology);
    Ok(Bound { line, threads: decision.threads })
}

/// What a rank tells the others.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Claim {
    /// Where it may run now; none if that is not known.
    cpus: Cpus,
    threads: usize,
}

impl Claim {
    fn record(&self) -> [u8; CLAIM_BYTES] {
        let mut record = [0; CLAIM_BYTES];
        for cpu in &self.cpus {
            record[THREADS.end + cpu / 8] |= 1 << (cpu % 8);
        }
        record[THREADS].copy_from_slice(&(self.threads as u64).to_le_bytes());
        record
    }

    fn parse(record: &[u8]) -> Self {
        let threads = record[THREADS].try_into().map_or(0, u64::from_le_bytes) as usize;
        let mask = &record[THREADS.end..];
        let has = |cpu: &usize| mask[cpu / 8] >> (cpu % 8) & 1 == 1;
        Self { cpus: (0..CpuSet::MAX_CPU).filter(has).collect(), threads }
    }
}

/// The processors that these ranks have together.
fn union(claims: &[&Claim]) -> Cpus {
    let mut all: Cpus = claims.iter().flat_map(|claim| claim.cpus.iter().copied()).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// Whether nobody has bound these ranks one by one.
fn share_all(claims: &[&Claim]) -> bool {
    claims.windows(2).all(|pair| pair[0].cpus == pair[1].cpus)
}

/// Refuses more threads than cores on one host, and for a rank that its launcher has bound.
fn check(host: &str, ranks: &[usize], claims: &[&Claim]) -> Result<(), Error> {
    let cores = union(claims).len();
    if cores == 0 {
        return Ok(());
    }
    let remedy = "take fewer ranks per host or fewer threads (device.threads), or set \
                  parallel.oversubscribe=true";
    let refuse =
        |what: String| Err(Error::Group { what: format!("host {host}: {what}; {remedy}") });
    let fair = (cores / claims.len()).max(1);
    let apart = !share_all(claims);
    let mut sum = 0;
    for (rank, claim) in ranks.iter().zip(claims) {
        let own = if apart { claim.cpus.len() } else { fair };
        let threads = if claim.threads == 0 { own } else { claim.threads };
        if apart && threads > own {
            let cpus = format_list(&claim.cpus);
            return refuse(format!(
                "{threads} threads of rank {rank}, which its launcher bound to core {cpus}"
            ));
        }
        sum += threads;
    }
    // Masks that overlap count twice in `sum` only where the launcher wanted it so.
    if !apart && sum > cores {
        let names: Vec<_> = ranks.iter().map(usize::to_string).collect();
        return refuse(format!("{sum} threads of ranks {} on {cores} cores", names.join(", ")));
    }
    Ok(())
}

/// Where a rank computes, and why there.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Decision {
    cpus: Cpus,
    threads: usize,
    why: Why,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    /// It is the only rank of its host.
    Alone,
    /// The launcher bound the ranks.
    Launcher,
    /// Its part of the cores, to which it is to be bound.
    Share,
    /// Not bound: not wanted, not possible, or more threads than its share has cores.
    Unbound,
}

/// Rank `local` of the ranks of a host, which are `claims`.
fn decide(topology: &Topology, claims: &[&Claim], local: usize, binding: Binding) -> Decision {
    let (parts, mine) = (claims.len(), claims[local]);
    let fair = (mine.cpus.len() / parts).max(1);
    let with = |cpus: &Cpus, cores: usize, why| {
        let threads = if mine.threads == 0 { cores.max(1) } else { mine.threads };
        Decision { cpus: cpus.clone(), threads, why }
    };
    if parts == 1 {
        return with(&mine.cpus, mine.cpus.len(), Why::Alone);
    }
    if !share_all(claims) {
        return with(&mine.cpus, mine.cpus.len(), Why::Launcher);
    }
    // One rank that wants more than its share keeps all from binding, or it would be slower.
    let shares: Option<Vec<Cpus>> = (0..parts).map(|part| topology.share(part, parts)).collect();
    let fits = |shares: &Vec<Cpus>| {
        shares.iter().zip(claims).all(|(share, claim)| claim.threads <= share.len())
    };
    match shares.filter(fits) {
        Some(shares) if binding == Binding::Bind && !mine.cpus.is_empty() => {
            let share = &shares[local];
            with(share, share.len(), Why::Share)
        }
        _ => with(&mine.cpus, fair, Why::Unbound),
    }
}

impl Decision {
    fn line(&self, rank: usize, host: &str, topology: &Topology) -> String {
        let plural = |n: usize| if n == 1 { "" } else { "s" };
        let (cpus, nodes) = (&self.cpus, topology.nodes_of(&self.cpus));
        let place = match nodes.len() {
            0 => "cores unknown".into(),
            count => format!(
                "core{} {} (NUMA node{} {})",
                plural(cpus.len()),
                format_list(cpus),
                plural(count),
                format_list(&nodes)
            ),
        };
        let why = match self.why {
            Why::Alone | Why::Share => "",
            Why::Launcher => ", bound by the launcher",
            Why::Unbound => ", shared with other ranks",
        };
        let threads = self.threads;
        format!("rank {rank} on host {host}: {place}{why}, {threads} thread{}", plural(threads))
    }
}

/// Where this thread may run; empty if the kernel does not say (more than 1024 processors).
fn allowed_cpus() -> Cpus {
    let set = sched_getaffinity(None);
    set.map(|set| (0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect()).unwrap_or_default()
}

/// Binds every thread of this process; those started later inherit it.
fn bind_process(cpus: &[usize]) -> Result<(), Error> {
    let mut set = CpuSet::new();
    cpus.iter().for_each(|cpu| set.set(*cpu));
    let fail = |cause: String| Error::Transport {
        what: format!("binding to cores {} (parallel.bind=false does without)", format_list(cpus)),
        cause,
    };
    sched_setaffinity(None, &set).map_err(|e| fail(e.to_string()))?;
    let tasks = fs::read_dir("/proc/self/task").map_err(|e| fail(e.to_string()))?;
    for task in tasks.flatten() {
        let number = task.file_name().to_str().and_then(|name| name.parse().ok());
        if let Some(thread) = number.and_then(Pid::from_raw) {
            // A thread may have ended meanwhile.
            let _ = sched_setaffinity(Some(thread), &set);
        }
    }
    Ok(())
}

const THREADS: Range<usize> = 0..8;
/// The number of threads, and a bit per processor.
const CLAIM_BYTES: usize = 8 + CpuSet::MAX_CPU / 8;

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::collective::{Hosts, Link, channels, group};

    fn claim(cpus: impl IntoIterator<Item = usize>, threads: usize) -> Claim {
        Claim { cpus: cpus.into_iter().collect(), threads }
    }

    fn two_nodes() -> Topology {
        let nodes = [(0, vec![0, 1, 2, 3]), (1, vec![4, 5, 6, 7])];
        Topology::new(&[0, 1, 2, 3, 4, 5, 6, 7], &nodes, |cpu| vec![cpu])
    }

    fn lines(claims: &[Claim], binding: Binding) -> Vec<String> {
        let claims: Vec<_> = claims.iter().collect();
        let topology = two_nodes();
        let line = |rank| decide(&topology, &claims, rank, binding).line(rank, "n1", &topology);
        (0..claims.len()).map(line).collect()
    }

    #[test]
    fn claims_travel() {
        for claim in [claim([0, 7, 8, 1023], 5), claim([], 0)] {
            assert_eq!(Claim::parse(&claim.record()), claim);
        }
    }

    #[test]
    fn ranks_that_share_all_cores_divide_them() {
        assert_eq!(
            lines(&[claim(0..8, 0), claim(0..8, 0)], Binding::Bind),
            [
                "rank 0 on host n1: cores 0-3 (NUMA node 0), 4 threads",
                "rank 1 on host n1: cores 4-7 (NUMA node 1), 4 threads"
            ]
        );
        let alone = lines(&[claim(0..8, 3)], Binding::Bind);
        assert_eq!(alone, ["rank 0 on host n1: cores 0-7 (NUMA nodes 0-1), 3 threads"]);
        let unbound = lines(&[claim(0..8, 0), claim(0..8, 0)], Binding::Leave);
        let want =
            "rank 1 on host n1: cores 0-7 (NUMA nodes 0-1), shared with other ranks, 4 threads";
        assert_eq!(unbound[1], want);
    }

    #[test]
    fn a_launchers_binding_stays() {
        let bound = lines(&[claim([0], 0), claim([5, 6], 0)], Binding::Bind);
        let want = "rank 1 on host n1: cores 5-6 (NUMA node 1), bound by the launcher, 2 threads";
        assert_eq!(bound[1], want);
        assert_eq!(
            bound[0],
            "rank 0 on host n1: core 0 (NUMA node 0), bound by the launcher, 1 thread"
        );
    }

    #[test]
    fn uneven_threads_and_too_few_cores_leave_ranks_unbound() {
        let uneven = lines(&[claim(0..8, 6), claim(0..8, 2)], Binding::Bind);
        assert!(uneven.iter().all(|line| line.contains("shared with other ranks")), "{uneven:?}");
        let many: Vec<_> = (0..9).map(|_| claim(0..8, 0)).collect();
        let want = "cores 0-7 (NUMA nodes 0-1), shared with other ranks, 1 thread";
        assert!(lines(&many, Binding::Bind).iter().all(|line| line.contains(want)));
        // More processors than the kernel's mask tells.
        let nowhere = Topology::new(&[], &[], |cpu| vec![cpu]);
        let claims = [claim([], 0), claim([], 2)];
        let unknown = decide(&nowhere, &claims.each_ref(), 1, Binding::Bind);
        let line = unknown.line(1, "n1", &nowhere);
        assert_eq!(line, "rank 1 on host n1: cores unknown, shared with other ranks, 2 threads");
    }

    #[test]
    fn more_threads_than_cores_are_refused_with_the_remedy() {
        let checked = |claims: &[Claim]| {
            let ranks: Vec<_> = (4..4 + claims.len()).collect();
            let claims: Vec<_> = claims.iter().collect();
            check("n1", &ranks, &claims).map_err(|e| e.to_string())
        };
        assert_eq!(checked(&[claim(0..4, 2), claim(0..4, 2)]), Ok(()));
        assert_eq!(checked(&[claim(0..4, 3), claim(0..4, 1)]), Ok(()));
        assert_eq!(checked(&[claim(0..4, 0), claim(0..4, 0), claim(0..4, 0)]), Ok(()));
        assert_eq!(checked(&[claim(0..2, 2), claim(2..4, 0)]), Ok(()));
        assert_eq!(checked(&[claim([], 9)]), Ok(()));
        let error = checked(&[claim(0..4, 3), claim(0..4, 2)]).unwrap_err();
        assert!(error.starts_with("host n1: 5 threads of ranks 4, 5 on 4 cores"), "{error}");
        assert!(error.contains("parallel.oversubscribe=true"), "{error}");
        let error = checked(&[claim(0..1, 0), claim(0..1, 0)]).unwrap_err();
        assert!(error.contains("2 threads of ranks 4, 5 on 1 cores"), "{error}");
        let error = checked(&[claim(0..2, 2), claim(2..4, 3)]).unwrap_err();
        assert!(
            error.contains("3 threads of rank 5, which its launcher bound to core 2-3"),
            "{error}"
        );
    }

    /// What every rank of a job of two, on threads of this process, gets.
    fn bound(threads: usize, oversubscription: Oversubscription) -> Vec<Result<Bound, Error>> {
        let wish = Wish { threads, binding: Binding::Leave, oversubscription };
        let links = channels(2);
        std::thread::scope(|scope| {
            let rank = |link: Arc<dyn Link>| {
                move || {
                    let hosts = Hosts::gather(link.as_ref(), Duration::from_secs(60))?;
                    let world = group(link, hosts.numbers().to_vec())?;
                    bind(&Job { world, door: "channels".into(), hosts }, &wish)
                }
            };
            let ranks: Vec<_> = links.into_iter().map(|link| scope.spawn(rank(link))).collect();
            ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
        })
    }

    #[test]
    fn all_ranks_are_told_the_same() {
        for (rank, result) in bound(1, Oversubscription::Allow).into_iter().enumerate() {
            let Bound { line, threads } = result.unwrap();
            assert_eq!(threads, 1);
            assert!(line.starts_with(&format!("rank {rank} on host ")), "{line}");
        }
        for result in bound(1 << 20, Oversubscription::Refuse) {
            let text = result.unwrap_err().to_string();
            assert!(text.contains("2097152 threads of ranks 0, 1 on"), "{text}");
        }
    }
}
