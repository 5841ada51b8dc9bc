//! A round to try attacks in: painted updates, a mean as the rule, the f32 codec.

use super::Config;
use super::Known;
use super::Rule;
use super::Sent;
use super::View;
use crate::codec;
use crate::codec::About;
use crate::codec::Layout;
use crate::crypto::Hash;

/// What the attackers of a round see.
#[derive(Clone, Debug)]
pub struct Room {
    pub round: u64,
    pub honest: Vec<Vec<f32>>,
    pub colluders: Vec<Vec<f32>>,
    pub tensors: Vec<(String, usize)>,
}

impl Room {
    /// One tensor of `elements`.
    pub fn of(honest: usize, colluders: usize, elements: usize) -> Self {
        Self::with_tensors(honest, colluders, &[("w", elements)])
    }

    /// Updates that share a direction and have each their own.
    pub fn with_tensors(honest: usize, colluders: usize, tensors: &[(&str, usize)]) -> Self {
        let tensors: Vec<_> = tensors.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect();
        let elements: usize = tensors.iter().map(|t| t.1).sum();
        let paint = |peer: usize| -> Vec<f32> {
            let value = |i: usize| {
                let (shared, own) = ((i * 7) % 31, (i * (peer + 2) + 13 * peer) % 29);
                (shared as f32 - 15.0) * 0.02 + (own as f32 - 14.0) * 0.01
            };
            (0..elements).map(value).collect()
        };
        Self {
            round: 0,
            honest: (0..honest).map(paint).collect(),
            colluders: (honest..honest + colluders).map(paint).collect(),
            tensors,
        }
    }

    pub fn layout(&self) -> Layout {
        Layout::new(self.tensors.iter().map(|(name, n)| (name.as_str(), *n)))
    }

    pub fn about(&self, round: u64) -> About {
        About { job: Hash([7; 32]), round, fragment: 0 }
    }

    pub fn encode(&self, values: &[f32], round: u64) -> Vec<u8> {
        let codec = codec::Config::default().codec().expect("the default codec");
        let mut values = values.to_vec();
        codec::encode(codec.as_ref(), &self.layout(), &self.about(round), &mut values)
            .expect("finite values")
    }

    /// With the mean as the rule.
    pub fn view<T>(&self, look: impl FnOnce(View<'_>) -> T) -> T {
        self.view_under(&mean, look)
    }

    /// With `rule` as the rule: of the honest updates, then the colluders'.
    pub fn view_under<T>(&self, rule: &Rule<'_>, look: impl FnOnce(View<'_>) -> T) -> T {
        let layout = self.layout();
        let known = |(cluster, update)| Known { cluster, update };
        let honest = self.honest.iter().map(Vec::as_slice).enumerate().map(known);
        let honest: Vec<Known<'_>> = honest.collect();
        let colluders = (self.honest.len()..).zip(self.colluders.iter().map(Vec::as_slice));
        let colluders: Vec<Known<'_>> = colluders.map(known).collect();
        let aggregate = |sent: &[&[f32]]| {
            assert_eq!(sent.len(), self.colluders.len());
            let honest = self.honest.iter().map(Vec::as_slice);
            rule(&honest.chain(sent.iter().copied()).collect::<Vec<_>>())
        };
        let encode = |values: &[f32], round: u64| self.encode(values, round);
        look(View {
            round: self.round,
            fragment: 0,
            seed: 11,
            layout: &layout,
            honest: &honest,
            colluders: &colluders,
            previous: None,
            aggregate: &aggregate,
            encode: &encode,
        })
    }

    /// What a fresh group of attackers sends, all of it values.
    pub fn dense(&self, config: &Config) -> Vec<Vec<f32>> {
        let mut attack = config.attack().expect("a valid table");
        let sent = self.view(|view| attack.round(&view));
        let values = |sent: Sent| match sent {
            Sent::Dense(values) => values,
            other => panic!("sent {other:?}"),
        };
        sent.into_iter().map(values).collect()
    }
}

/// The mean, in f64.
pub fn mean(updates: &[&[f32]]) -> Option<Vec<f32>> {
    let elements = updates.first()?.len();
    let of = |i: usize| updates.iter().map(|u| f64::from(u[i])).sum::<f64>();
    Some((0..elements).map(|i| (of(i) / updates.len() as f64) as f32).collect())
}
