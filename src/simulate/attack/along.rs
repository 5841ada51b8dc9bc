//! Attacks along a line: `base + strength * direction`, with the strength given, by formula, or tuned
//! against the real rule.

use super::Attack;
use super::Config;
use super::Knowledge;
use super::Known;
use super::Objective;
use super::Sent;
use super::Strength;
use super::View;
use super::config::Word;
use super::moments;
use super::search;

/// What makes one attack of this kind differ from another.
pub(super) trait Family: Send {
    /// The line of the round, from `known` updates (at least one), for the colluder of that number in
    /// `view.colluders`.
    fn line(&self, view: &View<'_>, known: &[&[f32]], colluder: usize) -> Line;

    /// Who has the same line.
    fn scope(&self) -> Scope {
        Scope::Shared
    }
}

/// Who has the same line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// All who know the same.
    Shared,
    /// Nobody.
    Apart,
}

/// Where an attack can go.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Line {
    /// Where it starts; empty for the origin.
    pub base: Vec<f64>,
    /// Where it leads.
    pub direction: Vec<f64>,
    /// The strength by the attack's formula.
    pub formula: f64,
}

impl Line {
    /// The point at `strength`.
    pub fn at(&self, strength: f64) -> Vec<f32> {
        let from = |i: usize| self.base.get(i).copied().unwrap_or(0.0);
        let at = |(i, d): (usize, &f64)| moments::narrow(from(i) + strength * d);
        self.direction.iter().enumerate().map(at).collect()
    }
}

/// An attack along a line.
#[derive(Debug)]
pub(super) struct Along<F> {
    family: F,
    knowledge: Knowledge,
    strength: Strength,
    objective: Objective,
    /// The strength that the last search found.
    found: Option<f64>,
}

impl<F: Family> Along<F> {
    /// With the knowledge, strength and objective of `config`.
    pub fn new(config: &Config, family: F) -> Self {
        Self {
            family,
            knowledge: config.known().unwrap_or(Knowledge::Own),
            strength: config.strength.unwrap_or(Strength::Word(Word::Formula)),
            objective: config.objective.unwrap_or_default(),
            found: None,
        }
    }

    /// The lines of the colluders: one for all, or one for each.
    fn lines(&self, view: &View<'_>) -> Vec<Line> {
        let of = |known: &[Known<'_>]| -> Vec<Line> {
            let known: Vec<&[f32]> = known.iter().map(|k| k.update).collect();
            let lines = if self.family.scope() == Scope::Shared { 1 } else { view.colluders.len() };
            (0..lines).map(|i| self.family.line(view, &known, i)).collect()
        };
        match self.knowledge {
            Knowledge::All if !view.honest.is_empty() => of(view.honest),
            Knowledge::All | Knowledge::Colluders => of(view.colluders),
            Knowledge::Own => {
                let own = view.colluders.iter().enumerate();
                own.map(|(i, k)| self.family.line(view, &[k.update], i)).collect()
            }
        }
    }

    /// What each colluder sends at a strength that is a function of its line.
    fn points(view: &View<'_>, lines: &[Line], strength: impl Fn(&Line) -> f64) -> Vec<Vec<f32>> {
        let points: Vec<_> = lines.iter().map(|line| line.at(strength(line))).collect();
        match points.len() {
            1 => vec![points[0].clone(); view.colluders.len()],
            _ => points,
        }
    }

    fn tuned(&self, view: &View<'_>, lines: &[Line]) -> f64 {
        let honest: Vec<&[f32]> = view.honest.iter().map(|k| k.update).collect();
        let mean = moments::mean(&honest);
        let score = |strength: f64| {
            let points = Self::points(view, lines, |_| strength);
            let points: Vec<&[f32]> = points.iter().map(Vec::as_slice).collect();
            let Some(aggregate) = (view.aggregate)(&points) else { return f64::NAN };
            let of = |i: usize| (f64::from(aggregate[i]), mean[i]);
            match self.objective {
                Objective::Distance => moments::sum(mean.len(), |i| {
                    let (a, m) = of(i);
                    (a - m) * (a - m)
                }),
                Objective::Backward => moments::sum(mean.len(), |i| {
                    let (a, m) = of(i);
                    -a * m
                }),
            }
        };
        search::maximize(self.found, score).0
    }
}

impl<F: Family> Attack for Along<F> {
    fn round(&mut self, view: &View<'_>) -> Vec<Sent> {
        if view.colluders.is_empty() {
            return Vec::new();
        }
        let lines = self.lines(view);
        let points = match self.strength {
            Strength::Given(strength) => Self::points(view, &lines, |_| strength),
            // With nobody to lie to there is nothing to search.
            Strength::Word(Word::Tuned) if !view.honest.is_empty() => {
                let found = self.tuned(view, &lines);
                self.found = Some(found);
                Self::points(view, &lines, |_| found)
            }
            Strength::Word(_) => Self::points(view, &lines, |line| line.formula),
        };
        points.into_iter().map(Sent::Dense).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Kind;
    use super::super::Rule;
    use super::super::testing::Room;
    use super::super::testing::mean;
    use super::*;

    fn sent(room: &Room, config: &Config, rule: &Rule<'_>) -> Vec<Vec<f32>> {
        let mut attack = config.attack().expect("valid");
        let sent = room.view_under(rule, |view| attack.round(&view));
        let values = |sent| if let Sent::Dense(x) = sent { x } else { panic!("{sent:?}") };
        sent.into_iter().map(values).collect()
    }

    /// An element by the attacker's place and its own.
    type Expected<'a> = &'a dyn Fn(usize, usize) -> f64;

    fn tuned(kind: Kind) -> Config {
        Config { strength: Some(Strength::Word(Word::Tuned)), ..Config::of(kind) }
    }

    /// What a rule with a clip makes: updates longer than twice the first are left out.
    fn clipped(updates: &[&[f32]]) -> Option<Vec<f32>> {
        let limit = 2.0 * moments::norm(updates[0]);
        let kept: Vec<&[f32]> =
            updates.iter().copied().filter(|u| moments::norm(u) <= limit).collect();
        mean(&kept)
    }

    #[test]
    fn formulas_are_those_of_plain_loops() {
        let room = Room::of(5, 2, 300);
        let honest = |i: usize| room.honest.iter().map(|u| f64::from(u[i])).sum::<f64>() / 5.0;
        let own = |c: usize, i: usize| f64::from(room.colluders[c][i]);
        let cases: [(Config, Expected<'_>); 5] = [
            (Config::of(Kind::SignFlip), &|c, i| -own(c, i)),
            (Config { knowledge: Some(Knowledge::All), ..Config::of(Kind::SignFlip) }, &|_, i| {
                -honest(i)
            }),
            (
                Config {
                    knowledge: Some(Knowledge::Colluders),
                    strength: Some(Strength::Given(10.0)),
                    ..Config::of(Kind::SignFlip)
                },
                &|_, i| -10.0 * (own(0, i) + own(1, i)) / 2.0,
            ),
            (Config::of(Kind::InnerProduct), &|_, i| -0.1 * honest(i)),
            (Config::of(Kind::NormInflation), &|c, i| 100.0 * own(c, i)),
        ];
        for (config, expected) in cases {
            for (c, x) in sent(&room, &config, &mean).iter().enumerate() {
                for (i, x) in x.iter().enumerate() {
                    let expected = expected(c, i);
                    let error = (f64::from(*x) - expected).abs();
                    assert!(error <= 1e-6 * expected.abs() + 1e-12, "{config:?} {i}");
                }
            }
        }
    }

    #[test]
    fn a_tuned_attack_harms_more_than_its_formula_and_is_not_thrown_out() {
        let room = Room::of(6, 2, 500);
        let honest: Vec<&[f32]> = room.honest.iter().map(Vec::as_slice).collect();
        let target = moments::mean(&honest);
        let harm = |config: &Config| {
            let sent = sent(&room, config, &clipped);
            let all: Vec<&[f32]> =
                honest.iter().copied().chain(sent.iter().map(Vec::as_slice)).collect();
            let aggregate = clipped(&all).expect("some");
            moments::sum(500, |i| (f64::from(aggregate[i]) - target[i]).powi(2))
        };
        for kind in [Kind::SignFlip, Kind::InnerProduct, Kind::Alie, Kind::MinMax, Kind::Noise] {
            let (formula, tuned) = (harm(&Config::of(kind)), harm(&tuned(kind)));
            assert!(tuned > 1.05 * formula, "{kind:?}: {tuned} {formula}");
        }
        // Inflation by 100 is thrown out; tuned it stays below the clip.
        assert!(harm(&Config::of(Kind::NormInflation)) < 1e-9);
        let inflated = sent(&room, &tuned(Kind::NormInflation), &clipped);
        let limit = 2.0 * moments::norm(&room.honest[0]);
        assert!((0.8 * limit..=limit).contains(&moments::norm(&inflated[0])));
    }

    #[test]
    fn backward_turns_the_aggregate_around() {
        let room = Room::of(6, 2, 500);
        let config = Config { objective: Some(Objective::Backward), ..tuned(Kind::InnerProduct) };
        let sent = sent(&room, &config, &clipped);
        let honest: Vec<&[f32]> = room.honest.iter().map(Vec::as_slice).collect();
        let mean = moments::mean(&honest);
        let product = moments::sum(500, |i| f64::from(sent[0][i]) * mean[i]);
        assert!(product < 0.0);
    }

    #[test]
    fn a_rule_that_refuses_and_rooms_without_people_do_no_harm() {
        let room = Room::of(4, 2, 9);
        let refused = sent(&room, &tuned(Kind::SignFlip), &|_| None);
        assert!(refused.iter().flatten().all(|x| *x == 0.0));
        for kind in Kind::ALL {
            for (honest, colluders, elements) in [(0, 2, 9), (3, 0, 9), (1, 1, 0), (1, 1, 1)] {
                let mut room = Room::of(honest, colluders, elements);
                for tune in [false, true] {
                    let config = match tune {
                        true if !kind.reads().contains(&"objective") => continue,
                        true => tuned(kind),
                        false => Config::of(kind),
                    };
                    let mut attack = config.attack().expect("valid");
                    for round in 0..7 {
                        room.round = round;
                        let sent = room.view(|view| attack.round(&view));
                        assert_eq!(sent.len(), colluders, "{kind:?}");
                        for sent in sent {
                            if let Sent::Dense(x) = sent {
                                assert_eq!(x.len(), elements);
                                assert!(x.iter().all(|x| x.is_finite()), "{kind:?}");
                            }
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn extreme_updates_stay_finite() {
        let mut room = Room::of(3, 2, 50);
        for u in room.honest.iter_mut().chain(&mut room.colluders) {
            u.iter_mut().enumerate().for_each(|(i, x)| {
                *x = [f32::MAX / 2.0, f32::MIN / 2.0, f32::MIN_POSITIVE / 8.0, 0.0][i % 4];
            });
        }
        for kind in Kind::ALL {
            let mut attack = Config::of(kind).attack().expect("valid");
            for sent in room.view(|view| attack.round(&view)) {
                if let Sent::Dense(x) = sent {
                    assert!(x.iter().all(|x| x.is_finite()), "{kind:?}");
                }
            }
        }
    }
}
