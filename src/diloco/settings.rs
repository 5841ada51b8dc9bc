//! The outer loop's settings with nothing left open.

use serde::Serialize;

use super::Config;
use super::Optimizer;
use crate::codec::CHUNK;
use crate::codec::Codec;
use crate::codec::Codes;
use crate::codec::Support;

/// Settings of the outer loop: valid, and everything decided. All clusters of a job must have the
/// same.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Settings {
    /// Inner steps of a round (H).
    pub inner_steps: u64,
    /// How outer weights move.
    pub optimizer: Optimizer,
    /// Outer learning rate (eta).
    pub lr: f64,
    /// Outer momentum (mu); 0 without one.
    pub momentum: f64,
    /// Bound of the norm of a fragment's outer step; 0: none.
    pub max_step_norm: f64,
    /// Decay of residuals.
    pub residual_decay: f64,
    /// Fragments (P).
    pub fragments: usize,
    /// Inner steps between update and outer step (tau).
    pub overlap_steps: u64,
    /// What stays of local weights (alpha).
    pub blend: f64,
    /// Whether correlations with the round before are logged. Changes no weight.
    pub correlation: bool,
}

impl Settings {
    /// The settings of `config` for `peers` clusters that write their updates by `codec`, and a
    /// model of `layers` blocks; or all that cannot be, each as `key: why`.
    ///
    /// What `config` leaves open is as published:
    ///
    /// | updates | H | optimizer | lr | momentum | source |
    /// |---|---|---|---|---|---|
    /// | sparse | any | `sgd` | 1 | 0 | SparseLoCo (arXiv:2508.15706) |
    /// | dense | below 30 | `sgd` | 1 | 0 | momentum costs loss at short H (see below) |
    /// | dense | 30 to 299 | `nesterov` | 0.5, 0.6, 0.8 for 1, 2 to 7, 8 or more clusters | 0.9 | scaling laws of DiLoCo (arXiv:2503.09799) |
    /// | dense | 300 and more | `nesterov` | 0.7 | 0.9 | DiLoCo (arXiv:2311.08105) |
    /// | dense, in fragments | 30 and more | `nesterov` | 0.4 | 0.9 | Streaming DiLoCo (arXiv:2501.18512) |
    ///
    /// With momentum mu and correlation rho of successive aggregates, steps gain a factor
    /// 1 + mu / (1 - mu·rho): at short H aggregates are alike, and 0.9 overshoots.
    pub fn new(
        config: &Config,
        peers: u64,
        codec: &dyn Codec,
        layers: usize,
    ) -> Result<Self, Vec<String>> {
        let published = published(config, peers, is_sparse(codec));
        let optimizer = match (config.optimizer, config.momentum) {
            (Some(optimizer), _) => optimizer,
            (None, Some(0.0)) => Optimizer::Sgd,
            (None, Some(_)) if published.0 == Optimizer::Sgd => Optimizer::Nesterov,
            (None, _) => published.0,
        };
        let momentum = match optimizer {
            Optimizer::Sgd => 0.0,
            _ if published.2 == 0.0 => 0.9,
            _ => published.2,
        };
        let settings = Self {
            inner_steps: config.inner_steps,
            optimizer,
            lr: config.lr.unwrap_or(published.1),
            momentum: config.momentum.unwrap_or(momentum),
            max_step_norm: config.max_step_norm,
            residual_decay: config.residual_decay,
            fragments: config.fragments,
            overlap_steps: config.overlap_steps,
            blend: config.blend,
            correlation: config.correlation,
        };
        let complaints = settings.complaints(layers);
        if complaints.is_empty() { Ok(settings) } else { Err(complaints) }
    }

    fn complaints(&self, layers: usize) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut check = |holds: bool, complaint: &dyn Fn() -> String| {
            if !holds {
                wrong.push(complaint());
            }
        };
        let (steps, parts, tau) = (self.inner_steps, self.fragments, self.overlap_steps);
        check((1..=MAX_INNER_STEPS).contains(&steps), &|| {
            format!("outer.inner_steps: {steps} is not within 1..={MAX_INNER_STEPS}")
        });
        let most = layers.max(1).min(steps.clamp(1, MAX_INNER_STEPS) as usize);
        check((1..=most).contains(&parts), &|| {
            format!(
                "outer.fragments: {parts} is not within 1..={most}: each needs a layer, and an \
                 inner step of its own"
            )
        });
        check(tau < steps.max(1), &|| {
            format!("outer.overlap_steps: {tau} is not below outer.inner_steps = {steps}")
        });
        check(self.lr.is_finite() && self.lr > 0.0, &|| {
            format!("outer.lr: {} is not a positive number", self.lr)
        });
        check((0.0..1.0).contains(&self.momentum), &|| {
            format!("outer.momentum: {} is not in [0, 1)", self.momentum)
        });
        check(self.optimizer != Optimizer::Sgd || self.momentum == 0.0, &|| {
            format!(
                "outer.momentum: sgd has none, but {} was asked for; take outer.optimizer = \
                 \"nesterov\" or \"heavy_ball\"",
                self.momentum
            )
        });
        check((0.0..1.0).contains(&self.blend), &|| {
            format!("outer.blend: {} is not in [0, 1)", self.blend)
        });
        check((0.0..=1.0).contains(&self.residual_decay), &|| {
            format!("outer.residual_decay: {} is not within 0 and 1", self.residual_decay)
        });
        check(self.max_step_norm.is_finite() && self.max_step_norm >= 0.0, &|| {
            format!("outer.max_step_norm: {} is no number from 0 (no bound) up", self.max_step_norm)
        });
        wrong
    }
}

/// Optimizer, learning rate and momentum as published.
fn published(config: &Config, peers: u64, is_sparse: bool) -> (Optimizer, f64, f64) {
    match (config.inner_steps, config.fragments) {
        _ if is_sparse => (Optimizer::Sgd, 1.0, 0.0),
        (..30, _) => (Optimizer::Sgd, 1.0, 0.0),
        (_, 2..) => (Optimizer::Nesterov, 0.4, 0.9),
        (30..300, _) => match peers {
            ..=1 => (Optimizer::Nesterov, 0.5, 0.9),
            2..8 => (Optimizer::Nesterov, 0.6, 0.9),
            8.. => (Optimizer::Nesterov, 0.8, 0.9),
        },
        (300.., _) => (Optimizer::Nesterov, 0.7, 0.9),
    }
}

/// Whether the updates of a codec leave elements out: what it makes of a chunk of values that
/// are all different says so.
fn is_sparse(codec: &dyn Codec) -> bool {
    let probe: Vec<f32> = (1..=CHUNK).map(|i| i as f32).collect();
    let mut codes = Codes::default();
    codec.encode(&probe, &mut codes, &mut Vec::new());
    codes.chunks().any(|chunk| matches!(chunk.support, Support::Sparse(_)))
}

/// More is a typing error.
const MAX_INNER_STEPS: u64 = 1 << 32;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec;

    fn settings(change: impl FnOnce(&mut Config), peers: u64) -> Result<Settings, Vec<String>> {
        let mut config = Config::default();
        change(&mut config);
        let codec = codec::Config { kind: codec::Kind::F32, ..Default::default() };
        Settings::new(&config, peers, codec.codec().expect("a codec").as_ref(), 4)
    }

    #[test]
    fn what_is_left_open_is_as_published() {
        let of = |steps, peers| {
            let s = settings(|c| c.inner_steps = steps, peers).expect("valid");
            (s.optimizer, s.lr, s.momentum)
        };
        assert_eq!(of(1, 4), (Optimizer::Sgd, 1.0, 0.0));
        assert_eq!(of(50, 1), (Optimizer::Nesterov, 0.5, 0.9));
        assert_eq!(of(50, 4), (Optimizer::Nesterov, 0.6, 0.9));
        assert_eq!(of(50, 8), (Optimizer::Nesterov, 0.8, 0.9));
        assert_eq!(of(500, 8), (Optimizer::Nesterov, 0.7, 0.9));
        let streaming = settings(|c| c.fragments = 2, 4).expect("valid");
        assert_eq!((streaming.lr, streaming.momentum), (0.4, 0.9));
    }

    #[test]
    fn what_is_set_wins() {
        let s = settings(|c| c.momentum = Some(0.0), 4).expect("valid");
        assert_eq!((s.optimizer, s.lr), (Optimizer::Sgd, 0.6));
        let s = settings(|c| c.optimizer = Some(Optimizer::Sgd), 4).expect("valid");
        assert_eq!(s.momentum, 0.0);
        let momentum = |c: &mut Config| (c.inner_steps, c.momentum) = (5, Some(0.5));
        let s = settings(momentum, 4).expect("valid");
        assert_eq!((s.optimizer, s.momentum, s.lr), (Optimizer::Nesterov, 0.5, 1.0));
    }

    #[test]
    fn every_complaint_comes_at_once() {
        let wrong = settings(
            |c| {
                (c.inner_steps, c.lr, c.momentum) = (0, Some(f64::NAN), Some(1.0));
                (c.fragments, c.overlap_steps, c.blend) = (5, 9, 1.0);
                (c.residual_decay, c.max_step_norm) = (1.5, -1.0);
            },
            4,
        );
        let wrong = wrong.expect_err("all of it is wrong");
        assert_eq!(wrong.len(), 8, "{wrong:?}");
        assert!(wrong.iter().all(|w| w.starts_with("outer.")), "{wrong:?}");
        let both = |c: &mut Config| (c.optimizer, c.momentum) = (Some(Optimizer::Sgd), Some(0.5));
        assert!(settings(both, 4).is_err());
    }
}
