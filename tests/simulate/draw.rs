//! Scenarios by number: any of them can be made again alone.

use neuroshard::aggregate;
use neuroshard::aggregate::{Clip, Mix, Rule};
use neuroshard::codec;
use neuroshard::diloco;
use neuroshard::rng::{Address, Purpose};
use neuroshard::simulate::attack;
use neuroshard::simulate::attack::Kind;
use neuroshard::simulate::{
    About, Faults, Group, Loses, Network, Round, Scenario, Topology, Toy, ToyKind, What,
};

/// Numbers of scenario `seed`, one after the other.
struct Draw {
    seed: u64,
    next: u64,
}

impl Draw {
    fn below(&mut self, n: u64) -> u64 {
        self.next += 1;
        let purpose = Purpose::Test;
        Address { seed: self.seed, purpose, step: 77, index: self.next }.below(n)
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }
}

/// A toy with any codec, rule, rhythm, network, faults, churn and attackers.
pub fn scenario(seed: u64) -> Scenario {
    let mut draw = Draw { seed, next: 0 };
    let draw = &mut draw;
    let tensors = 1 + draw.below(4) as usize;
    let steps = 2 + draw.below(5);
    let fragments = (1 + draw.below(tensors.min(2) as u64) as usize).min(steps as usize);
    let slot = steps / fragments as u64;
    let overlap_steps = if draw.one_in(3) { draw.below(slot) } else { 0 };
    let mut scenario = Scenario {
        scenario: About {
            name: format!("toy-{seed}"),
            seed,
            objective: What::Toy,
            replicas: draw.one_in(2),
            eval_every: draw.below(3),
            ..About::default()
        },
        toy: Toy {
            kind: if draw.one_in(6) { ToyKind::Logistic } else { ToyKind::Quadratic },
            parameters: 40 + draw.below(260) as usize,
            tensors,
            ..Toy::default()
        },
        outer: diloco::Config {
            inner_steps: steps,
            fragments,
            overlap_steps,
            blend: draw.of(&[0.0, 0.0, 0.5]),
            lr: draw.of(&[None, Some(0.7)]),
            momentum: draw.of(&[None, Some(0.0), Some(0.9)]),
            ..diloco::Config::default()
        },
        codec: codec(draw),
        network: network(draw),
        round: Round {
            deadline_s: draw.of(&[0.0, 0.0, 0.05, 0.5]),
            quorum: draw.of(&[0.3, 0.67, 1.0]),
        },
        clusters: groups(draw),
        ..Scenario::default()
    };
    scenario.train.steps = steps * (2 + draw.below(4));
    scenario.train.batch_sequences = 4;
    scenario.train.seq_len = 32;
    scenario.aggregate = rule(draw, scenario.members().count());
    scenario
}

fn codec(draw: &mut Draw) -> codec::Config {
    let kind = draw.of(&[codec::Kind::F32, codec::Kind::TopK]);
    codec::Config { kind, ..codec::Config::default() }
}

fn network(draw: &mut Draw) -> Network {
    Network {
        topology: draw.of(&[Topology::Direct, Topology::Tree, Topology::Store]),
        up_mbit: draw.of(&[0.05, 1.0, 100.0]),
        down_mbit: draw.of(&[0.05, 1.0, 100.0]),
        delay_ms: draw.of(&[0.0, 20.0]),
        loss: draw.of(&[0.0, 0.0, 0.1]),
        settle_ms: draw.of(&[0.0, 5.0]),
        ..Network::default()
    }
}

fn groups(draw: &mut Draw) -> Vec<Group> {
    let honest = Group { count: 1 + draw.below(3) as usize, jitter: 0.2, ..Group::default() };
    let mut all = vec![honest];
    if draw.one_in(2) {
        let faults = Faults {
            crashes_per_hour: draw.of(&[0.0, 20_000.0, 200_000.0]),
            recover_s: draw.of(&[0.0, 0.02]),
            loses: draw.of(&[Loses::Work, Loses::Residual, Loses::All]),
            slow_rate: draw.of(&[0.0, 0.3]),
            damage_rate: draw.of(&[0.0, 0.3]),
            ..Faults::default()
        };
        let tokens_per_s = draw.of(&[5_000.0, 100_000.0]);
        let count = 1 + draw.below(3) as usize;
        all.push(Group { count, tokens_per_s, faults, ..Group::default() });
    }
    if draw.one_in(2) {
        let join_round = draw.below(4);
        let leave_round = draw.of(&[None, Some(join_round + 1), Some(join_round + 2)]);
        all.push(Group { join_round, leave_round, ..Group::default() });
    }
    if draw.one_in(2) {
        let kind = draw.of(&Kind::ALL);
        let from_round = draw.below(2);
        let attack = Some(attack::Config { from_round, ..attack::Config::of(kind) });
        all.push(Group { count: 1 + draw.below(2) as usize, attack, ..Group::default() });
    }
    all
}

/// A rule that `n` clusters are enough for; fewer may be there.
fn rule(draw: &mut Draw, n: usize) -> aggregate::Config {
    loop {
        let config = aggregate::Config {
            rule: draw.of(&[
                Rule::Mean,
                Rule::Median,
                Rule::TrimmedMean,
                Rule::Krum,
                Rule::MultiKrum,
                Rule::GeometricMedian,
                Rule::CenteredClipping,
                Rule::TrustWeighted,
            ]),
            clip: draw.of(&[Clip::None, Clip::Median, Clip::Adaptive, Clip::Equal]),
            mix: draw.of(&[Mix::None, Mix::Nearest, Mix::Buckets]),
            faulty: draw.of(&[None, Some(0), Some(1)]),
            ..aggregate::Config::default()
        };
        if config.check(n).is_ok() && config.complaints().is_empty() {
            return config;
        }
    }
}
