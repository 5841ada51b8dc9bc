//! Clipping by the global norm (Pascanu et al. 2013, arXiv:1211.5063, algorithm 1).

use crate::ops::norm;

/// The square root of the sum of squares of all gradients.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Norm(pub f64);

impl Norm {
    /// From the sums of squares of all blocks (`ops::norm`), tensors in canonical order.
    pub fn of_blocks<'a>(sums: impl IntoIterator<Item = &'a [f32]>) -> Self {
        Self(sums.into_iter().fold(0.0, norm::chain).sqrt())
    }
}

/// The factor that brings a gradient of norm `norm` to at most `clip` (0: none), rounded once.
pub fn clip_scale(norm: Norm, clip: f64) -> f32 {
    if clip > 0.0 && norm.0 > clip { (clip / norm.0) as f32 } else { 1.0 }
}
