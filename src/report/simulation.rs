//! A result folder of `neuroshard simulate`.

use std::fs;
use std::path::Path;

use serde_json::Value;
use toml::Table;

use super::Error;
use super::difference;
use super::difference::Flat;
use super::rounds::Rounds;

/// A result folder.
#[derive(Debug)]
pub(super) struct Run {
    /// What its folder is called on the page.
    pub name: String,
    /// Its exchanges.
    pub rounds: Rounds,
    /// Text of `scenario.toml`.
    pub text: Option<String>,
    /// Its settings, but those of the clusters, with `attack` and `clusters` in their place.
    pub settings: Flat,
    /// Clusters, and attackers among them.
    pub peers: [u64; 2],
    /// What `summary.json` says.
    pub summary: serde_json::Map<String, Value>,
    /// What is missing or cannot be read.
    pub complaints: Vec<String>,
}

impl Run {
    /// Reads what is in the folder, which the page calls `name`.
    pub fn read(path: &Path, name: String) -> Result<Self, Error> {
        let rounds = Rounds::read(&path.join("rounds.jsonl"))?;
        let mut complaints = rounds.complaints.clone();
        let text = fs::read_to_string(path.join("scenario.toml"));
        let table = text.as_ref().map_err(ToString::to_string);
        let table = table.and_then(|t| t.parse::<Table>().map_err(|e| e.message().to_owned()));
        let table = table.unwrap_or_else(|why| {
            complaints.push(format!("scenario.toml: {why}"));
            Table::new()
        });
        let summary = fs::read(path.join("summary.json")).map_err(|e| e.to_string());
        let summary = summary.and_then(|t| serde_json::from_slice(&t).map_err(|e| e.to_string()));
        let summary = summary.unwrap_or_else(|why: String| {
            complaints.push(format!("summary.json: {why} (the run may not be finished)"));
            serde_json::Map::new()
        });
        complaints.iter_mut().for_each(|why| *why = format!("{name}: {why}"));
        let (settings, peers) = settings(&table);
        Ok(Self { name, rounds, text: text.ok(), settings, peers, summary, complaints })
    }

    /// Held-out loss at the end (training loss where none was measured): infinite where the run
    /// diverged, none where it says nothing.
    pub fn final_loss(&self) -> Option<f64> {
        let given = |key: &str| self.summary.get(key).and_then(Value::as_f64);
        let ending = self.summary.get("ending").and_then(Value::as_str);
        let exchanges = &self.rounds.exchanges;
        // Without a summary: no number at the end, but before.
        let lost =
            exchanges.last().is_some_and(|e| e.train_loss.is_none() && e.eval_loss.is_none())
                && exchanges.iter().any(|e| e.train_loss.is_some());
        match ending {
            Some("diverged") => return Some(f64::INFINITY),
            None if lost => return Some(f64::INFINITY),
            _ => {}
        }
        given("eval_loss")
            .or_else(|| exchanges.iter().rev().find_map(|e| e.eval_loss))
            .or_else(|| given("train_loss"))
            .or_else(|| exchanges.iter().rev().find_map(|e| e.train_loss))
    }

    /// Identity of the scenario.
    pub fn hash(&self) -> Option<String> {
        let given = self.summary.get("scenario").and_then(Value::as_str);
        let made = || Some(blake3::hash(self.text.as_ref()?.as_bytes()).to_string());
        given.map(str::to_owned).or_else(made)
    }

    /// The seed.
    pub fn seed(&self) -> &str {
        difference::value(&self.settings, SEED)
    }
}

/// Settings with the attack in a word, and how many clusters there are, and attackers among them.
fn settings(table: &Table) -> (Flat, [u64; 2]) {
    let (mut out, mut peers) = (difference::flat(table), [0, 0]);
    let mut attacks = Vec::new();
    let groups = table.get("clusters").and_then(toml::Value::as_array);
    for (i, group) in groups.into_iter().flatten().enumerate() {
        let count = group.get("count").and_then(toml::Value::as_integer).unwrap_or(1).max(0) as u64;
        peers[0] += count;
        out.remove(&format!("clusters.{i}.count"));
        if let Some(attack) = group.get("attack").and_then(toml::Value::as_table)
            && count > 0
        {
            peers[1] += count;
            attacks.push(words(attack));
        }
    }
    out.retain(|key, _| !(key.starts_with("clusters.") && key.contains(".attack.")));
    if !table.is_empty() {
        let attack = if attacks.is_empty() { HONEST.to_owned() } else { attacks.join(" + ") };
        out.insert(ATTACK.to_owned(), attack);
        out.insert(LIARS.to_owned(), peers[1].to_string());
        out.insert(PEERS.to_owned(), peers[0].to_string());
    }
    (out, peers)
}

/// `alie tuned`, `omission probability=0.5`.
fn words(attack: &Table) -> String {
    let flat = difference::flat(attack);
    let mut all = vec![flat.get("kind").cloned().unwrap_or_else(|| "sign_flip".to_owned())];
    for (key, value) in &flat {
        match key.as_str() {
            "kind" => {}
            "from_round" if value == "0" => {}
            "strength" | "knowledge" | "fault" | "deviation" => all.push(value.clone()),
            _ => all.push(format!("{key}={value}")),
        }
    }
    all.join(" ")
}

/// Key of the attacks' names.
pub(super) const ATTACK: &str = "attack";
/// Key of how many attack.
pub(super) const LIARS: &str = "attackers";
/// Key of how many take part.
pub(super) const PEERS: &str = "clusters";
/// Key of the seed.
pub(super) const SEED: &str = "scenario.seed";
/// The attack of a scenario without attackers.
pub(super) const HONEST: &str = "none";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attacks_are_told_in_words() {
        let table: Table =
            "[scenario]\nseed = 3\n[[clusters]]\ncount = 6\n[[clusters]]\ncount = 2\n\
             attack = { kind = \"alie\", strength = \"tuned\" }\n[[clusters]]\ncount = 0\n\
             attack = { kind = \"zero\" }\n"
                .parse()
                .unwrap();
        let (settings, peers) = settings(&table);
        assert_eq!(peers, [8, 2]);
        assert_eq!(settings[ATTACK], "alie tuned");
        assert_eq!((settings[PEERS].as_str(), settings[LIARS].as_str()), ("8", "2"));
        assert_eq!(settings.keys().filter(|k| k.starts_with("clusters.")).count(), 0);
    }

    #[test]
    fn a_folder_with_nothing_but_rounds_says_what_is_missing() {
        let dir = tempfile::tempdir().unwrap();
        let row =
            |loss: &str| format!("{{\"time_s\":1,\"train_loss\":{loss},\"eval_loss\":{loss}}}\n");
        let write = |text: &str| fs::write(dir.path().join("rounds.jsonl"), text).unwrap();
        write(&(row("4.5") + &row("4.0")));
        let run = Run::read(dir.path(), "run".into()).unwrap();
        assert_eq!((run.final_loss(), run.hash()), (Some(4.0), None));
        let all = run.complaints.join("\n");
        for word in ["scenario.toml", "summary.json", "tokens", "bytes_up", "utilization"] {
            assert!(all.contains(word), "{word}: {all}");
        }
        write(&(row("4.5") + &row("null")));
        assert_eq!(Run::read(dir.path(), "run".into()).unwrap().final_loss(), Some(f64::INFINITY));
        fs::write(dir.path().join("summary.json"), "{\"ending\":\"finished\",\"eval_loss\":3.5}")
            .unwrap();
        write(&row("4.5"));
        assert_eq!(Run::read(dir.path(), "run".into()).unwrap().final_loss(), Some(3.5));
        fs::write(dir.path().join("summary.json"), "{\"ending\":\"diverged\"}").unwrap();
        assert_eq!(Run::read(dir.path(), "run".into()).unwrap().final_loss(), Some(f64::INFINITY));
    }
}
