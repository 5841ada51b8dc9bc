//! The attacks by name: who trains, who knows what, which parameters are read.

use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

use super::Knowledge;

/// An attack's name.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The update backwards. Formula: times 1.
    #[default]
    SignFlip,
    /// Noise with the norm of an update, fresh every round. Formula: times 1.
    Noise,
    /// Noise with the norm of an update, always the same, shared by all. Formula: times 1.
    FixedDirection,
    /// Inner-product manipulation: the honest mean a little backwards. Formula: epsilon 0.1.
    InnerProduct,
    /// A little is enough: z deviations beside the honest mean. Formula: the paper's z.
    Alie,
    /// As far along `deviation` as the largest distance between honest updates. Formula: that far.
    MinMax,
    /// As far along `deviation` as the largest sum of squared distances. Formula: that far.
    MinSum,
    /// All send the update of one honest cluster, chosen in the first `rounds` (default 5) rounds as
    /// the one that differs most.
    Mimic,
    /// Honest training on false targets: token `y` becomes `V - 1 - y`.
    LabelFlip,
    /// The right direction, far too long. Formula: times 100.
    NormInflation,
    /// Zeros: presence without work.
    Zero,
    /// The last aggregate sent back: presence without work that looks like work.
    FreeRider,
    /// The update of an honest cluster.
    Copy,
    /// The own update of `rounds` (default 5) rounds ago.
    StaleReplay,
    /// Nothing is sent, with `probability`.
    Omission,
    /// All mass on elements that no honest update speaks of. Formula: the norm of an honest update.
    Unselected,
    /// All mass in one `tensor`. Formula: the norm of an honest update.
    OneTensor,
    /// Zeros, and every `rounds` (default 4) rounds all that was withheld, backwards. Formula: times 1.
    Burst,
    /// Bytes with a `fault`.
    Wire,
}

impl Kind {
    /// All attacks, in the order in which tables list them.
    pub const ALL: [Self; 19] = [
        Self::SignFlip,
        Self::Noise,
        Self::FixedDirection,
        Self::InnerProduct,
        Self::Alie,
        Self::MinMax,
        Self::MinSum,
        Self::Mimic,
        Self::LabelFlip,
        Self::NormInflation,
        Self::Zero,
        Self::FreeRider,
        Self::Copy,
        Self::StaleReplay,
        Self::Omission,
        Self::Unselected,
        Self::OneTensor,
        Self::Burst,
        Self::Wire,
    ];

    /// As a scenario file spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::SignFlip => "sign_flip",
            Self::Noise => "noise",
            Self::FixedDirection => "fixed_direction",
            Self::InnerProduct => "inner_product",
            Self::Alie => "alie",
            Self::MinMax => "min_max",
            Self::MinSum => "min_sum",
            Self::Mimic => "mimic",
            Self::LabelFlip => "label_flip",
            Self::NormInflation => "norm_inflation",
            Self::Zero => "zero",
            Self::FreeRider => "free_rider",
            Self::Copy => "copy",
            Self::StaleReplay => "stale_replay",
            Self::Omission => "omission",
            Self::Unselected => "unselected",
            Self::OneTensor => "one_tensor",
            Self::Burst => "burst",
            Self::Wire => "wire",
        }
    }

    /// Whose updates the attack is computed from unless the scenario says otherwise; none where that is
    /// no question.
    pub(super) fn knowledge(self) -> Option<Knowledge> {
        match self {
            Self::SignFlip | Self::Noise | Self::FixedDirection | Self::NormInflation => {
                Some(Knowledge::Own)
            }
            Self::InnerProduct | Self::Alie | Self::MinMax | Self::MinSum => Some(Knowledge::All),
            Self::Unselected | Self::OneTensor => Some(Knowledge::All),
            _ => None,
        }
    }

    /// The parameters that the attack reads, beside `kind` and `from_round`.
    pub fn reads(self) -> &'static [&'static str] {
        match self {
            Self::SignFlip
            | Self::Noise
            | Self::FixedDirection
            | Self::NormInflation
            | Self::InnerProduct
            | Self::Alie => &["knowledge", "strength", "objective"],
            Self::MinMax | Self::MinSum => &["knowledge", "strength", "objective", "deviation"],
            Self::Unselected => &["knowledge", "strength", "objective", "density"],
            Self::OneTensor => &["knowledge", "strength", "objective", "tensor"],
            Self::Mimic | Self::StaleReplay => &["rounds"],
            Self::Burst => &["rounds", "strength"],
            Self::Omission => &["probability"],
            Self::Wire => &["fault"],
            Self::LabelFlip | Self::Zero | Self::FreeRider | Self::Copy => &[],
        }
    }
}
