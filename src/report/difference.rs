//! In what settings of several runs differ.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use toml::Table;
use toml::Value;

/// Settings by dotted key, as text.
pub(super) type Flat = BTreeMap<String, String>;

/// All values of a table.
pub(super) fn flat(table: &Table) -> Flat {
    let mut out = Flat::new();
    for (key, value) in table {
        add(key, value, 0, &mut out);
    }
    out
}

fn add(key: &str, value: &Value, depth: usize, out: &mut Flat) {
    let below = |name: &str| format!("{key}.{name}");
    match value {
        Value::Table(table) if depth < MAX_DEPTH => {
            table.iter().for_each(|(name, value)| add(&below(name), value, depth + 1, out));
        }
        Value::Array(all) if depth < MAX_DEPTH && all.iter().any(Value::is_table) => {
            let numbered = all.iter().enumerate();
            numbered.for_each(|(i, value)| add(&below(&i.to_string()), value, depth + 1, out));
        }
        Value::String(text) => {
            out.insert(key.to_owned(), text.clone());
        }
        other => {
            out.insert(key.to_owned(), other.to_string());
        }
    }
}

/// Keys that have not the same value in all of `runs`; a key that a run lacks has the value [`NONE`].
pub(super) fn varying(runs: &[&Flat]) -> Vec<String> {
    let keys: BTreeSet<&String> = runs.iter().flat_map(|run| run.keys()).collect();
    let varies = |key: &&String| {
        let first = runs.first().and_then(|run| run.get(*key));
        runs.iter().any(|run| run.get(*key) != first)
    };
    keys.into_iter().filter(varies).cloned().collect()
}

/// The value of a key.
pub(super) fn value<'a>(run: &'a Flat, key: &str) -> &'a str {
    run.get(key).map_or(NONE, String::as_str)
}

/// `a=1 b=2` for the given keys, by the last part of each that tells them apart.
pub(super) fn label(run: &Flat, keys: &[String]) -> String {
    let name = |key: &String| {
        let last = short(key);
        let same = keys.iter().filter(|k| short(k) == last).count();
        if same > 1 { key.clone() } else { last.to_owned() }
    };
    let all: Vec<_> = keys.iter().map(|k| format!("{}={}", name(k), value(run, k))).collect();
    all.join(" ")
}

/// The last part of a key, or the table where that is what the key says the kind of.
pub(super) fn short(key: &str) -> &str {
    let key = key.strip_suffix(".kind").unwrap_or(key);
    key.rsplit('.').next().unwrap_or(key)
}

/// No value first, then numbers by their size, then text.
pub(super) fn order(a: &str, b: &str) -> std::cmp::Ordering {
    let of = |text: &str| match text.parse::<f64>() {
        _ if [NONE, "none"].contains(&text) => (0, 0.0),
        Ok(number) => (1, number),
        Err(_) => (2, 0.0),
    };
    let (of_a, of_b) = (of(a), of(b));
    of_a.0.cmp(&of_b.0).then(of_a.1.total_cmp(&of_b.1)).then_with(|| a.cmp(b))
}

/// What stands for a value that a run lacks.
pub(super) const NONE: &str = "–";

/// Deeper tables are shown as text.
const MAX_DEPTH: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Flat {
        flat(&text.parse().unwrap())
    }

    #[test]
    fn only_what_differs_is_named() {
        let a = of("[run]\nseed = 1\ndir = \"x\"\n[[c]]\nn = 2\n[[c]]\nn = 3\n");
        let b = of("[run]\nseed = 2\ndir = \"x\"\n[[c]]\nn = 2\n[[c]]\nn = 4\nk.z = true\n");
        let keys = varying(&[&a, &b]);
        assert_eq!(keys, ["c.1.k.z", "c.1.n", "run.seed"]);
        assert_eq!(label(&a, &keys), "z=– n=3 seed=1");
        assert_eq!(label(&b, &["c.0.n".into(), "c.1.n".into()]), "c.0.n=2 c.1.n=4");
        assert_eq!((short("codec.kind"), short("seed")), ("codec", "seed"));
        let mut all = ["b", "10", "5a", "9", "none", "a"];
        all.sort_by(|a, b| order(a, b));
        assert_eq!(all, ["none", "9", "10", "5a", "a", "b"]);
        assert!(varying(&[&a]).is_empty() && varying(&[]).is_empty());
    }
}
