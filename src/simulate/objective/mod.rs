//! What simulated clusters train: a NeuroLLM, or a toy that drives the same protocol in microseconds.

mod neurollm;
mod toy;

pub use neurollm::NeuroLlm;
pub use toy::Quick;

use super::Error;
use super::attack::Training;
use crate::diloco::Cluster;
use crate::diloco::Inner;

/// What clusters train. Everything it does is decided by the scenario: threads do not show.
pub trait Objective {
    /// The state of one cluster's inner training.
    type Inner: Inner;

    /// The inner training of cluster `cluster`, from its beginning. All begin with the same weights.
    fn inner(&self, cluster: usize) -> Result<Self::Inner, Error>;

    /// `steps` inner steps of a cluster; their mean loss.
    fn train(
        &self,
        cluster: &mut Cluster<Self::Inner>,
        steps: u64,
        training: Training,
    ) -> Result<f64, Error>;

    /// The loss of a cluster's outer weights on data that nobody trains on; none where there is no
    /// such data.
    fn evaluate(&self, cluster: &mut Cluster<Self::Inner>) -> Result<Option<f64>, Error>;
}
