//! Everything that cannot be about a scenario, at once.

use super::Objective;
use super::Scenario;
use crate::diloco::Settings;
use crate::shard;
use crate::train;

/// Each as `key: why`.
pub(super) fn of(scenario: &Scenario) -> Vec<String> {
    let mut wrong = about(scenario);
    wrong.extend(train::complaints(&scenario.parts(&scenario.run())));
    wrong.extend(parallel(&scenario.parallel));
    wrong.extend(scenario.toy.complaints());
    wrong.extend(scenario.network.complaints());
    wrong.extend(scenario.round.complaints());
    wrong.extend(scenario.aggregate.complaints());
    for (index, group) in scenario.clusters.iter().enumerate() {
        wrong.extend(group.complaints(index));
    }
    wrong.extend(outer(scenario));
    wrong.extend(clusters(scenario));
    wrong
}

fn about(scenario: &Scenario) -> Vec<String> {
    let (about, mut wrong) = (&scenario.scenario, Vec::new());
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let named = (1..=MAX_NAME).contains(&about.name.len()) && about.name.chars().all(plain);
    if !named || about.name.starts_with('.') {
        wrong.push(format!(
            "scenario.name: `{}` cannot name a folder; use 1 to {MAX_NAME} letters, digits, - _ .",
            about.name
        ));
    }
    if about.seed >= 1 << 63 {
        wrong.push(format!("scenario.seed: {} is not below 2^63", about.seed));
    }
    if about.control && about.objective == Objective::Toy {
        wrong.push("scenario.control: only with scenario.objective = \"neurollm\"".into());
    }
    wrong
}

/// A simulated cluster is one rank.
fn parallel(config: &shard::Config) -> Option<String> {
    let expected = shard::Config { shards: config.shards, ..Default::default() };
    (*config != expected).then(|| {
        "parallel: of this table a scenario takes `shards` only; a simulated cluster is one rank, \
         whose number changes no result"
            .into()
    })
}

fn outer(scenario: &Scenario) -> Vec<String> {
    let codec = match scenario.codec.codec() {
        Ok(codec) => codec,
        Err(error) => return vec![error.to_string()],
    };
    let layers = match scenario.scenario.objective {
        Objective::Toy => scenario.toy.tensors,
        Objective::NeuroLlm => scenario.model.dims().map_or(usize::MAX, |dims| dims.layers),
    };
    let peers = scenario.members().take(MAX_CLUSTERS).count() as u64;
    let settings = Settings::new(&scenario.outer, peers, codec.as_ref(), layers);
    let mut wrong = settings.err().unwrap_or_default();
    let (steps, parts) = (scenario.outer.inner_steps, scenario.outer.fragments as u64);
    let tau = scenario.outer.overlap_steps;
    let all = scenario.steps();
    if !scenario.scenario.control && steps > 0 && !all.is_multiple_of(steps) {
        wrong.push(format!(
            "train.steps: {all} steps are no whole number of rounds of outer.inner_steps = {steps}; \
             take {}",
            all.div_ceil(steps) * steps
        ));
    }
    // An exchange ends before the next begins: what the clock of a simulation assumes.
    if parts > 0 && tau > 0 && tau >= steps / parts {
        wrong.push(format!(
            "outer.overlap_steps: {tau} is not below inner_steps / fragments = {}, as a simulation \
             needs",
            steps / parts
        ));
    }
    wrong
}

fn clusters(scenario: &Scenario) -> Vec<String> {
    let mut wrong = Vec::new();
    let count = scenario.clusters.iter().fold(0usize, |n, group| n.saturating_add(group.count));
    if count == 0 {
        return vec!["clusters: nobody takes part; write [[clusters]] with a count".into()];
    }
    if count > MAX_CLUSTERS {
        return vec![format!("clusters: {count} are too many; at most {MAX_CLUSTERS}")];
    }
    let first = scenario.clusters.iter().filter(|group| group.join_round == 0);
    let first: usize = first.map(|group| group.count).sum();
    if first == 0 {
        wrong.push("clusters: nobody is there in round 0; one group needs join_round = 0".into());
    }
    if !scenario.scenario.control
        && let Err(error) = scenario.aggregate.check(count)
    {
        wrong.push(format!("aggregate.rule: {error}"));
    }
    wrong
}

const MAX_NAME: usize = 64;
/// More do not fit one process, and addresses of random numbers have room for no more.
const MAX_CLUSTERS: usize = 1000;
