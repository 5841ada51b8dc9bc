//! The table of a group of attackers.

use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

use super::Attack;
use super::Error;
use super::Fault;
use super::Kind;
use super::Sent;
use super::View;
use super::alie::Alie;
use super::along::Along;
use super::burst::Burst;
use super::direction::Scaled;
use super::labels::OwnWork;
use super::lazy::Copy;
use super::lazy::FreeRider;
use super::lazy::Omission;
use super::lazy::Zero;
use super::mimic::Mimic;
use super::min_max::Bound;
use super::min_max::MinMax;
use super::noise::Noise;
use super::replay::Replay;
use super::support::OneTensor;
use super::support::Unselected;
use super::wire::Wire;
use crate::codec::Layout;

/// What a group of attackers does; docs/ATTACKERS.md has formulas and sources. A key that the
/// attack does not read is an error.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The attack.
    pub kind: Kind,
    /// First round of the attack, from 0; before it the attackers are honest.
    pub from_round: u64,
    /// Whose updates the attack is computed from. Default: `"all"` for attacks that papers call
    /// omniscient, else `"own"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub knowledge: Option<Knowledge>,
    /// How far the attack goes: a number, or a word for how it is found. Default: `"formula"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strength: Option<Strength>,
    /// What a tuned attack makes as large as it can. Default: `"distance"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub objective: Option<Objective>,
    /// A number of rounds, 1 to 1000; each attack that has one says which. Default: the attack's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rounds: Option<u64>,
    /// How likely an attacker withholds its update in a round; 0 to 1. Default: `1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probability: Option<f64>,
    /// Along what `min_max` and `min_sum` leave the mean. Default: `"std"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deviation: Option<Deviation>,
    /// Which part of the elements of a chunk colluders choose, above 0 and up to 1. Default:
    /// `1/64`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub density: Option<f64>,
    /// The tensor that gets all the mass, by its name in `neuroshard model`. Default: that in which
    /// the honest mean is largest per element.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tensor: Option<String>,
    /// What is wrong with the bytes. Default: `"garbage"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<Fault>,
}

/// Whose updates an attack is computed from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Knowledge {
    /// Each attacker's own.
    Own,
    /// Those of the group, which it trained honestly and shares.
    Colluders,
    /// Those of all honest clusters (an omniscient attack).
    All,
}

/// How far an attack goes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Strength {
    /// So far.
    Given(f64),
    /// As said by a word.
    Word(Word),
}

/// How the strength of an attack is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Word {
    /// By the formula of the attack's paper.
    Formula,
    /// By a search against the scenario's own codec and rule, every round.
    Tuned,
}

/// What a tuned attack makes as large as it can.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Objective {
    /// The distance of the aggregate from the mean of the honest updates (as byzfl's optimal attacks).
    #[default]
    Distance,
    /// What the aggregate goes against the mean of the honest updates: `-<aggregate, mean>`.
    Backward,
}

/// Along what an attack leaves the mean of the honest updates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Deviation {
    /// The deviation of each element.
    #[default]
    Std,
    /// The unit vector along the mean.
    Unit,
    /// The sign of each element of the mean.
    Sign,
}

/// What an attacker trains before it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Training {
    /// As an honest cluster does.
    Honest,
    /// As an honest cluster does, on the targets that [`super::flip_targets`] makes.
    FlippedTargets,
    /// Nothing: its update is zeros, and its time goes into nothing.
    None,
}

impl Config {
    /// An attack with nothing but its defaults.
    pub fn of(kind: Kind) -> Self {
        Self { kind, ..Self::default() }
    }

    /// The group's behaviour, or what cannot be about the table.
    pub fn attack(&self) -> Result<Box<dyn Attack>, Error> {
        self.check()?;
        let attack = self.attack_at_once();
        Ok(match self.from_round {
            0 => attack,
            from_round => Box::new(Later { from_round, attack }),
        })
    }

    fn attack_at_once(&self) -> Box<dyn Attack> {
        let deviation = self.deviation.unwrap_or_default();
        let rounds = |default| self.rounds.unwrap_or(default);
        match self.kind {
            Kind::SignFlip => Box::new(Along::new(self, Scaled::SIGN_FLIP)),
            Kind::Noise => Box::new(Along::new(self, Noise::Fresh)),
            Kind::FixedDirection => Box::new(Along::new(self, Noise::Fixed)),
            Kind::InnerProduct => Box::new(Along::new(self, Scaled::INNER_PRODUCT)),
            Kind::Alie => Box::new(Along::new(self, Alie)),
            Kind::MinMax => {
                Box::new(Along::new(self, MinMax { bound: Bound::Farthest, deviation }))
            }
            Kind::MinSum => Box::new(Along::new(self, MinMax { bound: Bound::Sum, deviation })),
            Kind::Mimic => Box::new(Mimic::new(rounds(5))),
            Kind::LabelFlip => Box::new(OwnWork),
            Kind::NormInflation => Box::new(Along::new(self, Scaled::NORM_INFLATION)),
            Kind::Zero => Box::new(Zero),
            Kind::FreeRider => Box::new(FreeRider),
            Kind::Copy => Box::new(Copy),
            Kind::StaleReplay => Box::new(Replay::new(rounds(5))),
            Kind::Omission => Box::new(Omission { probability: self.probability.unwrap_or(1.0) }),
            Kind::Unselected => {
                let density = self.density.unwrap_or(1.0 / 64.0);
                Box::new(Along::new(self, Unselected { density }))
            }
            Kind::OneTensor => {
                Box::new(Along::new(self, OneTensor { tensor: self.tensor.clone() }))
            }
            Kind::Burst => {
                let strength = match self.strength {
                    Some(Strength::Given(strength)) => strength,
                    _ => 1.0,
                };
                Box::new(Burst::new(rounds(4), strength))
            }
            Kind::Wire => Box::new(Wire { fault: self.fault.unwrap_or_default() }),
        }
    }

    /// What the members train in a round.
    pub fn training(&self, round: u64) -> Training {
        match self.kind {
            _ if round < self.from_round => Training::Honest,
            Kind::LabelFlip => Training::FlippedTargets,
            Kind::Zero | Kind::FreeRider | Kind::Copy | Kind::Mimic => Training::None,
            _ if self.known() == Some(Knowledge::All) => Training::None,
            _ => Training::Honest,
        }
    }

    /// Whose updates the attack is computed from, where that is a question.
    pub(super) fn known(&self) -> Option<Knowledge> {
        self.knowledge.or(self.kind.knowledge())
    }

    /// Whether the table is one of an attack; says what is wrong first.
    pub fn check(&self) -> Result<(), Error> {
        let allowed = self.kind.reads();
        let given = [
            ("knowledge", self.knowledge.is_some()),
            ("strength", self.strength.is_some()),
            ("objective", self.objective.is_some()),
            ("rounds", self.rounds.is_some()),
            ("probability", self.probability.is_some()),
            ("deviation", self.deviation.is_some()),
            ("density", self.density.is_some()),
            ("tensor", self.tensor.is_some()),
            ("fault", self.fault.is_some()),
        ];
        for (field, given) in given {
            if given && !allowed.contains(&field) {
                let allowed = allowed.to_vec();
                return Err(Error::Unread { field, kind: self.kind.name(), allowed });
            }
        }
        let searched = self.strength == Some(Strength::Word(Word::Tuned));
        if self.objective.is_some() && !searched {
            let value = "without strength = \"tuned\"".to_owned();
            return Err(Error::OutOfRange {
                field: "objective",
                value,
                bounds: "only a search has one",
            });
        }
        if self.kind == Kind::Burst && searched {
            let (value, bounds) = ("tuned".to_owned(), "of a burst it is a number");
            return Err(Error::OutOfRange { field: "strength", value, bounds });
        }
        self.check_numbers()
    }

    fn check_numbers(&self) -> Result<(), Error> {
        let strength = match self.strength {
            Some(Strength::Given(strength)) => Some(strength),
            _ => None,
        };
        let within = [
            ("strength", strength, f64::MIN..=f64::MAX, "it is a finite number"),
            ("probability", self.probability, 0.0..=1.0, "it lies within 0 and 1"),
            ("density", self.density, f64::MIN_POSITIVE..=1.0, "it lies above 0 and up to 1"),
        ];
        for (field, value, range, bounds) in within {
            if let Some(value) = value
                && !range.contains(&value)
            {
                return Err(Error::OutOfRange { field, value: value.to_string(), bounds });
            }
        }
        match self.rounds {
            Some(rounds) if !(1..=1000).contains(&rounds) => Err(Error::OutOfRange {
                field: "rounds",
                value: rounds.to_string(),
                bounds: "it lies within 1 and 1000",
            }),
            _ => Ok(()),
        }
    }

    /// Whether the attack can be on updates of `layout`.
    pub fn check_layout(&self, layout: &Layout) -> Result<(), Error> {
        match &self.tensor {
            Some(name) if !layout.sections().iter().any(|s| s.name == *name) => {
                let bounds = "the model has no such tensor; `neuroshard model` lists them";
                Err(Error::OutOfRange { field: "tensor", value: name.clone(), bounds })
            }
            _ => Ok(()),
        }
    }
}

/// An attack that begins later.
struct Later {
    from_round: u64,
    attack: Box<dyn Attack>,
}

impl Attack for Later {
    fn round(&mut self, view: &View<'_>) -> Vec<Sent> {
        match view.round < self.from_round {
            true => vec![Sent::Own; view.colluders.len()],
            false => self.attack.round(view),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Room;
    use super::*;

    #[test]
    fn before_its_round_an_attack_is_honest() {
        let config = Config { from_round: 2, ..Config::of(Kind::SignFlip) };
        let mut attack = config.attack().expect("valid");
        for round in 0..4 {
            let room = Room { round, ..Room::of(2, 2, 3) };
            let sent = room.view(|view| attack.round(&view));
            assert_eq!(sent == vec![Sent::Own; 2], round < 2, "{round}");
        }
    }

    #[test]
    fn every_name_is_read_and_written_alike() {
        for kind in Kind::ALL {
            let text = format!("kind = \"{}\"\n", kind.name());
            let config: Config = toml::from_str(&text).expect("a name");
            assert_eq!(config, Config::of(kind));
            assert!(toml::to_string(&config).expect("writes").contains(&text));
            assert!(config.attack().is_ok());
            assert_eq!(kind.reads().contains(&"knowledge"), kind.knowledge().is_some());
        }
        for strength in ["2.5", "3", "\"tuned\"", "\"formula\""] {
            let text = format!("kind = \"alie\"\nstrength = {strength}\n");
            let config: Config = toml::from_str(&text).expect("a strength");
            let again: Config =
                toml::from_str(&toml::to_string(&config).expect("writes")).expect("reads");
            assert_eq!(again, config);
        }
    }

    #[test]
    fn what_cannot_be_is_named_with_what_can() {
        let of = |text: &str| -> String {
            let config: Config = toml::from_str(text).expect("a table");
            config.attack().err().map(|e| e.to_string()).unwrap_or_default()
        };
        let cases = [
            ("kind = \"zero\"\nstrength = 2", "attack.strength: zero does not read it"),
            ("kind = \"omission\"\nprobability = 1.5", "attack.probability: 1.5 cannot be"),
            ("kind = \"omission\"\nprobability = nan", "attack.probability: NaN cannot be"),
            ("kind = \"alie\"\nstrength = inf", "attack.strength: inf cannot be"),
            ("kind = \"mimic\"\nrounds = 0", "attack.rounds: 0 cannot be"),
            ("kind = \"unselected\"\ndensity = 0.0", "attack.density: 0 cannot be"),
            ("kind = \"burst\"\nstrength = \"tuned\"", "attack.strength: tuned cannot be"),
            ("kind = \"alie\"\nobjective = \"backward\"", "attack.objective"),
        ];
        for (text, expected) in cases {
            assert!(of(text).starts_with(expected), "{text}: {}", of(text));
        }
        for text in ["kind = \"nothing\"", "kinds = \"zero\"", "kind = \"alie\"\nstrength = \"x\""]
        {
            assert!(toml::from_str::<Config>(text).is_err(), "{text}");
        }
        let config = Config { tensor: Some("c".to_owned()), ..Config::of(Kind::OneTensor) };
        assert!(config.check_layout(&Layout::new([("a", 1)])).is_err());
        assert!(config.check_layout(&Layout::new([("c", 1)])).is_ok());
    }

    #[test]
    fn only_who_needs_an_own_update_trains() {
        use Training::{FlippedTargets, Honest, None};
        let of = |text: &str| toml::from_str::<Config>(text).expect("a table").training(2);
        assert_eq!(of("kind = \"sign_flip\""), Honest);
        assert_eq!(of("kind = \"sign_flip\"\nknowledge = \"all\""), None);
        assert_eq!(of("kind = \"alie\""), None);
        assert_eq!(of("kind = \"alie\"\nfrom_round = 3"), Honest);
        assert_eq!(of("kind = \"label_flip\"\nfrom_round = 3"), Honest);
        assert_eq!(of("kind = \"alie\"\nfrom_round = 2"), None);
        assert_eq!(of("kind = \"alie\"\nknowledge = \"colluders\""), Honest);
        assert_eq!(of("kind = \"label_flip\""), FlippedTargets);
        assert_eq!(of("kind = \"wire\""), Honest);
    }
}
