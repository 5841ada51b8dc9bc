//! Clusters of several ranks: to the bit those of one rank, also across a save.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use neuroshard::backend;
use neuroshard::checkpoint;
use neuroshard::collective;
use neuroshard::collective::Communicator;
use neuroshard::crypto::{Hash, PeerId};
use neuroshard::diloco;
use neuroshard::diloco::{Cluster, Error, Exchange, InMemory, Resume, Settings, Turn};
use neuroshard::shard::Mesh;

use crate::federation::{Federation, Job, averaging};

const PEERS: u64 = 2;
const STEPS: u64 = 24;

/// What a rank does.
struct Rank<'a> {
    job: &'a Job,
    outer: &'a diloco::Config,
    peer: u64,
    world: Arc<dyn Communicator>,
}

impl Rank<'_> {
    fn mesh(&self) -> Mesh {
        Mesh::new(self.world.clone(), 1, self.job.plan.parallel.shards).unwrap()
    }

    fn begin(&self) -> Cluster {
        let kernels = backend::select(&self.job.device).unwrap();
        let trainer = self.job.trainer_on(&self.mesh(), &kernels);
        Cluster::new(self.job.setup_of(trainer, self.outer, self.peer, PEERS)).unwrap()
    }

    fn load_with(&self, path: &Path, settings: Settings) -> Result<Cluster, Error> {
        let resume = Resume {
            kernels: backend::select(&self.job.device).unwrap(),
            plan: &self.job.plan,
            mesh: &self.mesh(),
            settings,
            codec: self.job.codec.clone(),
            job: self.job.id,
            peer: PeerId::numbered(self.peer),
        };
        Cluster::load(path, &resume).map(|(cluster, _)| cluster)
    }

    fn load(&self, path: &Path) -> Result<Cluster, Error> {
        self.load_with(path, self.job.settings(self.outer, PEERS))
    }

    /// Turns until inner step `until`, or the end; then a save below `dir`, and the state.
    fn run(&self, mut cluster: Cluster, mut exchange: InMemory, until: u64, dir: &Path) -> Hash {
        let mut rules: Vec<_> = (0..cluster.fragments()).map(|_| self.job.aggregator()).collect();
        for (about, bytes) in (0..cluster.fragments()).filter_map(|p| cluster.update(p)) {
            exchange.publish(&about, &bytes).unwrap();
        }
        while until == STEPS || cluster.done() < until {
            let loader = &self.job.loader;
            let turn =
                diloco::turn(&mut cluster, STEPS, loader, &mut exchange, &mut rules, &mut |_| {});
            match turn {
                Ok(Turn::Done) => break,
                Ok(Turn::Waiting { .. }) => thread::sleep(Duration::from_millis(1)),
                Ok(_) => {}
                Err(error) => panic!("cluster {}, rank {}: {error}", self.peer, self.world.rank()),
            }
        }
        cluster.save(&dir.join(self.peer.to_string()), "# settings", &rules).unwrap();
        cluster.state_hash().unwrap()
    }
}

/// Calls `each` on every rank of every cluster at the same time; outcomes by cluster and rank.
fn on_ranks<T: Send>(
    job: &Job,
    outer: &diloco::Config,
    ranks: usize,
    each: impl Fn(Rank<'_>) -> T + Sync,
) -> Vec<Vec<T>> {
    let each = &each;
    thread::scope(|scope| {
        let spawn = |peer| {
            let rank = move |world| {
                let rank = Rank { job, outer, peer, world };
                scope.spawn(move || each(rank))
            };
            collective::threads(ranks).into_iter().map(rank).collect::<Vec<_>>()
        };
        let all: Vec<_> = (0..PEERS).map(spawn).collect();
        let join = |ranks: Vec<thread::ScopedJoinHandle<'_, T>>| {
            ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
        };
        all.into_iter().map(join).collect()
    })
}

/// Runs to step `until` from what is saved in `from`, and saves in `to`; the clusters' states.
fn run(
    job: &Job,
    outer: &diloco::Config,
    ranks: usize,
    from: Option<(&Path, u64)>,
    (to, until): (&Path, u64),
) -> Vec<Hash> {
    let peers: Vec<_> = (0..PEERS).map(PeerId::numbered).collect();
    let exchanges = InMemory::group(&peers);
    let states = on_ranks(job, outer, ranks, |rank| {
        let cluster = match from {
            None => rank.begin(),
            Some((dir, step)) => rank.load(&saved(dir, rank.peer, step)).unwrap(),
        };
        rank.run(cluster, exchanges[rank.peer as usize].clone(), until, to)
    });
    let one = |ranks: Vec<Hash>| {
        assert!(ranks.iter().all(|state| *state == ranks[0]));
        ranks[0]
    };
    states.into_iter().map(one).collect()
}

fn saved(dir: &Path, peer: u64, step: u64) -> PathBuf {
    checkpoint::path_of(&dir.join(peer.to_string()), step)
}

/// All files below `dir` with their bytes.
fn files(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => all.extend(files(&path)),
            false => all.push((path.clone(), fs::read(&path).unwrap())),
        }
    }
    all.sort();
    all
}

fn streaming() -> diloco::Config {
    diloco::Config { fragments: 2, overlap_steps: 2, blend: 0.5, ..averaging(8) }
}

#[test]
fn two_ranks_are_one_to_the_bit_and_go_on_from_each_other() {
    for (sets, outer, cut) in [
        (&["parallel.zero=0"][..], averaging(6), 12),
        (&["parallel.zero=1", "numerics.profile=bf16"], averaging(6), 12),
        // With a fragment in flight.
        (&["parallel.zero=2"], streaming(), 17),
    ] {
        let job = Job::new(sets);
        let mut whole = Federation::new(&job, &outer, PEERS);
        whole.run(STEPS, STEPS);
        let want = whole.state_hashes();
        let temp = tempfile::tempdir().unwrap();
        let [one, two, end] = ["one", "two", "end"].map(|name| temp.path().join(name));
        let states = run(&job, &outer, 1, None, (&one, cut));
        assert_eq!(run(&job, &outer, 2, None, (&two, cut)), states, "{sets:?}");
        for peer in 0..PEERS {
            let step = checkpoint::list(&one.join(peer.to_string())).unwrap()[0];
            let of = |dir| {
                let at = saved(dir, peer, step);
                let strip = |(path, bytes): (PathBuf, _)| {
                    (path.strip_prefix(&at).unwrap().to_owned(), bytes)
                };
                files(&at).into_iter().map(strip).collect::<Vec<_>>()
            };
            assert_eq!(of(&one), of(&two), "{sets:?} {peer}");
        }
        let step = checkpoint::list(&one.join("0")).unwrap()[0];
        let ends = run(&job, &outer, 2, Some((&one, step)), (&end, STEPS));
        assert_eq!(ends, want, "{sets:?} one, then two");
        let ends = run(&job, &outer, 1, Some((&two, step)), (&end, STEPS));
        assert_eq!(ends, want, "{sets:?} two, then one");
    }
}

#[test]
fn a_rank_that_fails_fails_all() {
    let (job, outer) = (Job::new(&[]), averaging(6));
    let temp = tempfile::tempdir().unwrap();
    run(&job, &outer, 2, None, (temp.path(), 6));
    let fail = |what: &str, attempt: &(dyn Fn(Rank<'_>) -> Result<(), Error> + Sync)| {
        let told = on_ranks(&job, &outer, 2, |rank| attempt(rank).expect_err(what).to_string());
        told.into_iter().next().unwrap()
    };
    // The second rank was started with another learning rate.
    let told = fail("settings", &|rank| {
        let mut settings = job.settings(&outer, PEERS);
        settings.lr = if rank.world.rank() == 1 { 0.25 } else { settings.lr };
        rank.load_with(&saved(temp.path(), rank.peer, 6), settings).map(|_| ())
    });
    assert!(told[1].contains("outer.lr was 1.0, is 0.25"), "{told:?}");
    assert!(told[0].contains("rank 1") && told[0].contains("outer.lr"), "{told:?}");
    // Damage is found by all; a folder that nobody can make, by the first.
    let whole = fs::read(saved(temp.path(), 0, 6).join("outer.safetensors")).unwrap();
    for peer in 0..PEERS {
        fs::write(saved(temp.path(), peer, 6).join("outer.safetensors"), &whole[1..]).unwrap();
    }
    let told = fail("damage", &|rank| rank.load(&saved(temp.path(), rank.peer, 6)).map(|_| ()));
    assert!(told.iter().all(|text| text.contains("outer.safetensors")), "{told:?}");
    let blocked = temp.path().join("blocked");
    fs::write(&blocked, "a file").unwrap();
    let told =
        fail("blocked", &|rank| rank.begin().save(&blocked, "", &[job.aggregator()]).map(|_| ()));
    assert!(told[1].contains("rank 0"), "{told:?}");
    assert!(told.iter().all(|text| text.contains("blocked")), "{told:?}");
}
