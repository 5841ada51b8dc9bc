//! `attack = { kind = "…" }` of a group of clusters.

use serde::Deserialize;
use serde::Serialize;

use super::Attack;
use super::sign_flip::SignFlip;

/// What a group of clusters does instead of working honestly.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Config {
    /// Its own update with the sign turned, times `scale`.
    SignFlip {
        /// Factor. Default 1.
        #[serde(default = "one")]
        scale: f32,
    },
}

impl Config {
    /// The strategy of one attacker.
    pub fn attack(&self) -> Box<dyn Attack> {
        match *self {
            Self::SignFlip { scale } => Box::new(SignFlip { scale }),
        }
    }

    /// Whether the attackers train on wrong targets (and send what comes of it).
    pub fn permutes_targets(&self) -> bool {
        match self {
            Self::SignFlip { .. } => false,
        }
    }

    /// What cannot be about the parameters, each as `key: why`.
    pub fn complaints(&self) -> Vec<String> {
        match self {
            Self::SignFlip { scale } if !scale.is_finite() => {
                vec![format!("scale: {scale} is no number")]
            }
            Self::SignFlip { .. } => Vec::new(),
        }
    }
}

fn one() -> f32 {
    1.0
}
