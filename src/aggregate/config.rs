//! The `[aggregate]` table.

use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

use super::Error;
use super::MAX_PEERS;

/// `[aggregate]`: how updates become one; docs/AGGREGATION.md explains it. Part of the job: all
/// clusters must have the same.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// How the updates become one.
    pub rule: Rule,
    /// How many of the n updates may be lies (f). Default: `(n - 1) / 3`, rounded down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub faulty: Option<usize>,
    /// What becomes of norms before anything else.
    pub clip: Clip,
    /// What every update becomes before the rule.
    pub mix: Mix,
    /// Updates in a bucket of `mix = "buckets"`; 2 or more.
    pub bucket_size: usize,
    /// Seed of the buckets.
    pub seed: u64,
    /// Iterations of `geometric_median` and `centered_clipping`; 1 to 10000.
    pub iterations: usize,
    /// Distances below this part of the median distance count as that much in `geometric_median`.
    pub smoothing: f64,
    /// Updates that `multi_krum` averages; n - f at most. Default: n - f.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chosen: Option<usize>,
    /// Radius of `centered_clipping`, in the units of an update. Default: the median distance from
    /// the centre, anew in every iteration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tau: Option<f64>,
    /// How much of its score a peer keeps from round to round in `trust_weighted`; below 1.
    pub trust_decay: f64,
    /// Scores are divided by this before they become weights in `trust_weighted`.
    pub trust_temperature: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            rule: Rule::default(),
            faulty: None,
            clip: Clip::default(),
            mix: Mix::default(),
            bucket_size: 2,
            seed: 1,
            iterations: 64,
            smoothing: 1e-6,
            chosen: None,
            tau: None,
            trust_decay: 0.9,
            trust_temperature: 0.1,
        }
    }
}

/// A rule's name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// The mean: any single liar has it where he wants.
    Mean,
    /// The median of every element's voters.
    Median,
    /// The mean of every element's voters without the f lowest and the f highest.
    TrimmedMean,
    /// The one update whose neighbours are nearest.
    Krum,
    /// The mean of the updates whose neighbours are nearest.
    MultiKrum,
    /// The point with the smallest sum of distances.
    #[default]
    GeometricMedian,
    /// The previous aggregate, moved by all, by each no farther than a radius.
    CenteredClipping,
    /// A mean weighted by agreement with past aggregates.
    TrustWeighted,
}

/// What becomes of norms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Clip {
    /// Nothing.
    None,
    /// Long updates are shortened to the lower median of all norms.
    Median,
    /// The `floor(2 f (n - f) / n)` longest are shortened to the longest of the others.
    Adaptive,
    /// All get the lower median of all norms, so that distances are those of directions: a liar
    /// whose update is short is everybody's neighbour otherwise.
    #[default]
    Equal,
}

/// What every update becomes before the rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mix {
    /// Itself.
    None,
    /// The mean of the n - f nearest updates, itself included.
    #[default]
    Nearest,
    /// The mean of a bucket.
    Buckets,
}

impl Rule {
    /// Its name in a run file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::Median => "median",
            Self::TrimmedMean => "trimmed_mean",
            Self::Krum => "krum",
            Self::MultiKrum => "multi_krum",
            Self::GeometricMedian => "geometric_median",
            Self::CenteredClipping => "centered_clipping",
            Self::TrustWeighted => "trust_weighted",
        }
    }

    /// Whether it treats every element by itself.
    pub fn is_coordinate_wise(self) -> bool {
        matches!(self, Self::Median | Self::TrimmedMean)
    }
}

impl Config {
    /// The mean and nothing before it: what controls are measured with.
    pub fn plain_mean() -> Self {
        Self { rule: Rule::Mean, clip: Clip::None, mix: Mix::None, ..Self::default() }
    }

    /// What is wrong with the table, however many peers there are; empty if nothing.
    pub fn complaints(&self) -> Vec<String> {
        let positive = |x: f64| x.is_finite() && x > 0.0;
        let rules = [
            (
                self.bucket_size < 2,
                "aggregate.bucket_size: 2 or more; no buckets are mix = \"none\"",
            ),
            (!(1..=MAX_ITERATIONS).contains(&self.iterations), "aggregate.iterations: 1 to 10000"),
            (!positive(self.smoothing), "aggregate.smoothing: a positive number, such as 1e-6"),
            (self.chosen == Some(0), "aggregate.chosen: 1 or more, or absent for n - f"),
            (self.tau.is_some_and(|t| !positive(t)), "aggregate.tau: a positive number, or absent"),
            (
                !(0.0..1.0).contains(&self.trust_decay),
                "aggregate.trust_decay: 0 or more, and below 1",
            ),
            (!positive(self.trust_temperature), "aggregate.trust_temperature: a positive number"),
            (
                self.rule == Rule::TrustWeighted && self.mix == Mix::Buckets,
                "aggregate.mix: trust_weighted follows single peers, and a bucket is another one \
                 each round; use \"nearest\" or \"none\"",
            ),
        ];
        rules.iter().filter(|(is_wrong, _)| *is_wrong).map(|(_, why)| (*why).to_owned()).collect()
    }

    /// How many of `n` updates may be lies.
    pub fn faulty_of(&self, n: usize) -> usize {
        self.faulty.unwrap_or(n.saturating_sub(1) / 3)
    }

    /// Whether the rule can be applied to the updates of `n` peers.
    pub fn check(&self, n: usize) -> Result<(), Error> {
        match n {
            0 => return Err(Error::NoUpdates),
            1..=MAX_PEERS => {}
            peers => return Err(Error::TooMany { peers }),
        }
        let f = self.faulty_of(n);
        let points = self.points(n);
        let rule = self.rule.name();
        if self.clip != Clip::None && n <= 2 * f {
            return Err(self.too_few("aggregate.clip", n, n, 1));
        }
        match (self.mix, self.rule) {
            (Mix::Nearest, _) if n <= 2 * f => {
                Err(self.too_few("aggregate.mix = \"nearest\"", n, n, 1))
            }
            (_, Rule::Mean) => Ok(()),
            (_, Rule::Krum | Rule::MultiKrum) if points < 2 * f + 3 => {
                Err(self.too_few(rule, n, points, 3))
            }
            (_, Rule::MultiKrum) if self.chosen.is_some_and(|m| m > points - f) => {
                let m = self.chosen.unwrap_or(0);
                Err(Error::Condition {
                    rule,
                    faulty: f,
                    needs: format!("aggregate.chosen <= {}", points - f),
                    found: format!("it is {m}"),
                    remedy: "leave aggregate.chosen out".to_owned(),
                })
            }
            _ if points <= 2 * f => Err(self.too_few(rule, n, points, 1)),
            _ => Ok(()),
        }
    }

    /// How many points a rule is given of `n` updates.
    pub(super) fn points(&self, n: usize) -> usize {
        match self.mix {
            Mix::Buckets => n.div_ceil(self.bucket_size.max(1)),
            Mix::None | Mix::Nearest => n,
        }
    }

    /// That `rule` needs `2 f + extra` points.
    fn too_few(&self, rule: &'static str, n: usize, points: usize, extra: usize) -> Error {
        let faulty = self.faulty_of(n);
        let mut remedies = Vec::new();
        if points >= extra {
            remedies.push(format!("set aggregate.faulty to {} or less", (points - extra) / 2));
        }
        if points < n {
            remedies.push("lower aggregate.bucket_size, or use aggregate.mix = \"nearest\"".into());
        }
        if extra > 1 {
            remedies.push("use geometric_median, which needs n >= 2f + 1".to_owned());
        }
        remedies.push("wait for more peers".to_owned());
        let what = if points < n { "buckets" } else { "updates" };
        Error::Condition {
            rule,
            faulty,
            needs: format!("2f + {extra} = {} {what}", 2 * faulty + extra),
            found: format!("there are {points}"),
            remedy: remedies.join("; or "),
        }
    }
}

/// More iterations do not change an aggregate; they only stop the round.
const MAX_ITERATIONS: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn config(rule: Rule, mix: Mix, faulty: usize) -> Config {
        Config { rule, mix, clip: Clip::None, faulty: Some(faulty), ..Config::default() }
    }

    #[test]
    fn conditions_are_those_of_the_rules() {
        // (rule, mix, f, the smallest n that will do)
        let cases = [
            (Rule::Mean, Mix::None, 3, 1),
            (Rule::Mean, Mix::Nearest, 3, 7),
            (Rule::Median, Mix::None, 3, 7),
            (Rule::TrimmedMean, Mix::None, 2, 5),
            (Rule::Krum, Mix::None, 2, 7),
            (Rule::Krum, Mix::None, 0, 3),
            (Rule::MultiKrum, Mix::Nearest, 2, 7),
            (Rule::Krum, Mix::Buckets, 1, 9),
            (Rule::GeometricMedian, Mix::Nearest, 5, 11),
            (Rule::GeometricMedian, Mix::Buckets, 2, 9),
            (Rule::CenteredClipping, Mix::None, 1, 3),
            (Rule::TrustWeighted, Mix::None, 1, 3),
        ];
        for (rule, mix, f, least) in cases {
            let config = config(rule, mix, f);
            assert_eq!(config.check(0), Err(Error::NoUpdates));
            for n in 1..least {
                let error = config.check(n).expect_err("too few");
                assert!(matches!(error, Error::Condition { .. }), "{rule:?} {mix:?} {n}: {error}");
            }
            for n in least..least + 5 {
                assert_eq!(config.check(n), Ok(()), "{rule:?} {mix:?} {f} {n}");
            }
        }
        let clipped = Config { clip: Clip::Median, ..config(Rule::Mean, Mix::None, 2) };
        assert!(clipped.check(4).is_err() && clipped.check(5).is_ok());
        assert_eq!(
            Config::default().check(MAX_PEERS + 1),
            Err(Error::TooMany { peers: MAX_PEERS + 1 })
        );
    }

    #[test]
    fn errors_say_the_condition_and_the_remedy() {
        let text = config(Rule::Krum, Mix::None, 2).check(6).expect_err("too few").to_string();
        assert_eq!(
            text,
            "krum with f = 2 needs 2f + 3 = 7 updates, and there are 6: set aggregate.faulty to 1 or \
             less; or use geometric_median, which needs n >= 2f + 1; or wait for more peers"
        );
        let many = Config { chosen: Some(7), ..config(Rule::MultiKrum, Mix::None, 2) };
        assert!(many.check(8).expect_err("too many").to_string().contains("aggregate.chosen <= 6"));
    }

    #[test]
    fn without_a_number_a_third_may_lie_and_the_default_always_applies() {
        let config = Config::default();
        for (n, f) in [(1, 0), (3, 0), (4, 1), (7, 2), (8, 2), (16, 5), (64, 21)] {
            assert_eq!(config.faulty_of(n), f, "{n}");
            assert_eq!(config.check(n), Ok(()));
        }
    }

    #[test]
    fn all_complaints_come_at_once() {
        assert_eq!(Config::default().complaints(), Vec::<String>::new());
        let wrong = Config {
            bucket_size: 1,
            iterations: 0,
            smoothing: f64::NAN,
            chosen: Some(0),
            tau: Some(-1.0),
            trust_decay: 1.0,
            trust_temperature: 0.0,
            rule: Rule::TrustWeighted,
            mix: Mix::Buckets,
            ..Config::default()
        };
        assert_eq!(wrong.complaints().len(), 8, "{:?}", wrong.complaints());
    }

    #[test]
    fn tables_come_back_from_text() {
        let config = Config { tau: Some(0.5), faulty: Some(3), ..Config::plain_mean() };
        let text = toml::to_string(&config).expect("text");
        assert_eq!(toml::from_str::<Config>(&text), Ok(config));
        assert_eq!(toml::from_str::<Config>(""), Ok(Config::default()));
        assert!(toml::from_str::<Config>("rule = \"bulyan\"").is_err());
        assert!(toml::from_str::<Config>("rules = \"mean\"").is_err());
    }
}
