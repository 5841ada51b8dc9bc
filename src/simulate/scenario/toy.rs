//! The `[toy]` table.

use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

/// `[toy]`: a function of few parameters in place of a model, by plain gradient descent: seconds
/// instead of hours, for the protocol's sake. Read with `scenario.objective = "toy"`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Toy {
    /// Which function.
    pub kind: ToyKind,
    /// How many parameters; 1 to 1048576.
    pub parameters: usize,
    /// Tensors that the parameters are divided into, 1 to 64; fragments are made of these.
    pub tensors: usize,
    /// Ratio of the largest to the smallest curvature of `quadratic`; 1 or more.
    pub condition: f64,
    /// Deviation of an inner step's gradient noise, on average over the parameters.
    pub noise: f64,
    /// Deviation of the clusters' optima (or labels' weights) from the common one.
    pub spread: f64,
    /// Inner learning rate.
    pub lr: f64,
}

/// Which function.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ToyKind {
    /// Half the squared distance from an optimum, each direction with its curvature.
    #[default]
    Quadratic,
    /// Logistic regression on random examples, labelled by hidden weights.
    Logistic,
}

impl Default for Toy {
    fn default() -> Self {
        Self {
            kind: ToyKind::default(),
            parameters: 256,
            tensors: 2,
            condition: 10.0,
            noise: 0.1,
            spread: 0.1,
            lr: 0.1,
        }
    }
}

impl Toy {
    /// What cannot be about the table, each as `key: why`.
    pub(super) fn complaints(&self) -> Vec<String> {
        let rules = [
            ((1..=1 << 20).contains(&self.parameters), "parameters: 1 to 1048576"),
            (
                (1..=64.min(self.parameters.max(1))).contains(&self.tensors),
                "tensors: 1 to 64, and no more than parameters",
            ),
            ((1.0..=1e6).contains(&self.condition), "condition: 1 to 1e6"),
            ((0.0..=1e6).contains(&self.noise), "noise: 0 to 1e6"),
            ((0.0..=1e6).contains(&self.spread), "spread: 0 to 1e6"),
            (self.lr > 0.0 && self.lr <= 1e6, "lr: above 0, and at most 1e6"),
        ];
        rules.iter().filter(|(holds, _)| !holds).map(|(_, why)| format!("toy.{why}")).collect()
    }
}
