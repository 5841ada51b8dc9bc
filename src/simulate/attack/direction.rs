//! Attacks along a mean: backwards, a little backwards, or forwards too far.

use super::View;
use super::along::Family;
use super::along::Line;
use super::moments;

/// A factor times the mean of what is known.
///
/// ```text
/// x = strength * sign * mean(known)
/// ```
#[derive(Debug)]
pub(super) struct Scaled {
    /// 1 or -1.
    sign: f64,
    /// The strength that the attack's sources use.
    formula: f64,
}

impl Scaled {
    /// Sign flip: the update backwards. Known is the attacker's own; omniscient it is byzfl's
    /// SignFlip. Formula: 1. Published runs also use 10 (RoDiLoCo) and 1000 (BTARD, Gorbunov et al.
    /// 2022, arXiv:2106.11257), which any rule that looks at norms sees.
    pub const SIGN_FLIP: Self = Self { sign: -1.0, formula: 1.0 };

    /// Inner-product manipulation (Xie, Koyejo and Gupta 2019, arXiv:1903.03936, section 4): so little
    /// backwards that distances do not show it, yet the product of mean and aggregate turns negative
    /// where enough attackers are averaged. Formula: epsilon 0.1, as in the experiments of Karimireddy
    /// et al. 2021, arXiv:2012.10333. The authors also use up to 10.
    pub const INNER_PRODUCT: Self = Self { sign: -1.0, formula: 0.1 };

    /// Norm inflation: the right direction, far too long. Formula: 100.
    pub const NORM_INFLATION: Self = Self { sign: 1.0, formula: 100.0 };
}

impl Family for Scaled {
    fn line(&self, _view: &View<'_>, known: &[&[f32]], _colluder: usize) -> Line {
        let mut direction = moments::mean(known);
        direction.iter_mut().for_each(|d| *d *= self.sign);
        Line { base: Vec::new(), direction, formula: self.formula }
    }
}
