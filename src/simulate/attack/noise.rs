//! Noise of the size of an update.
//!
//! ```text
//! x[i] = strength * median_norm(known) / sqrt(d) * N(0, 1)
//! ```
//!
//! so that strength 1 has the norm of an honest update. Formula: 1. Fresh noise differs between
//! attackers and rounds and averages out; the fixed direction (BTARD, Gorbunov et al. 2022,
//! arXiv:2106.11257, whose runs use 1000) is the same for all attackers and rounds, and adds up.

use super::View;
use super::along::Family;
use super::along::Line;
use super::along::Scope;
use super::moments;
use crate::rng;
use crate::rng::Address;
use crate::rng::Purpose;

/// How long noise stays the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Noise {
    /// Other numbers every round, for every attacker.
    Fresh,
    /// The same numbers every round, for all attackers.
    Fixed,
}

impl Family for Noise {
    fn line(&self, view: &View<'_>, known: &[&[f32]], colluder: usize) -> Line {
        let (round, cluster) = match self {
            Self::Fresh => (view.round, view.colluders[colluder].cluster as u64),
            Self::Fixed => (0, 0),
        };
        let elements = view.layout.elements();
        let std = moments::median_norm(known) / (elements.max(1) as f64).sqrt();
        let mut noise = vec![0.0f32; elements];
        rng::fill_normal(stream(view, round, cluster), 1.0, &mut noise);
        let direction = noise.into_iter().map(|z| std * f64::from(z)).collect();
        Line { base: Vec::new(), direction, formula: 1.0 }
    }

    fn scope(&self) -> Scope {
        match self {
            Self::Fresh => Scope::Apart,
            Self::Fixed => Scope::Shared,
        }
    }
}

/// Numbers for an update: apart for clusters below 2^20 and fragments below 2^8, of up to 2^36
/// elements.
pub(super) fn stream(view: &View<'_>, round: u64, cluster: u64) -> Address {
    let index = u64::from(view.fragment) << 56 | cluster << 36;
    Address { seed: view.seed, purpose: Purpose::Attack, step: round, index }
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::super::Kind;
    use super::super::Knowledge;
    use super::super::testing::Room;
    use super::*;

    #[test]
    fn noise_has_the_norm_of_an_honest_update() {
        let room = Room::of(5, 3, 20_000);
        let known: Vec<&[f32]> = room.honest.iter().map(Vec::as_slice).collect();
        let expected = moments::median_norm(&known);
        for kind in [Kind::Noise, Kind::FixedDirection] {
            let config = Config { knowledge: Some(Knowledge::All), ..Config::of(kind) };
            let sent = room.dense(&config);
            for x in &sent {
                // The norm of d normals is sqrt(d) to within 1 / sqrt(2 d).
                assert!((moments::norm(x) / expected - 1.0).abs() < 0.02, "{kind:?}");
            }
            assert_eq!(sent[0] == sent[1], kind == Kind::FixedDirection);
            let later = Room { round: 9, ..room.clone() }.dense(&config);
            assert_eq!(sent[0] == later[0], kind == Kind::FixedDirection);
        }
    }

    #[test]
    fn streams_of_clusters_and_fragments_do_not_meet() {
        let room = Room::of(1, 1, 1);
        room.view(|view| {
            let ends = |cluster, fragment| {
                let view = View { fragment, ..view };
                let first = stream(&view, 3, cluster).index;
                (first, first + (1 << 36) - 1)
            };
            assert!(ends(0, 0).1 < ends(1, 0).0 && ends(0xf_ffff, 0).1 < ends(0, 1).0);
        });
    }
}
