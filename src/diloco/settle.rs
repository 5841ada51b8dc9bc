//! From the bytes of a round to its aggregate.

use super::Error;
use super::Received;
use crate::aggregate;
use crate::aggregate::Aggregator;
use crate::aggregate::Input;
use crate::aggregate::Outcome;
use crate::codec;
use crate::codec::About;
use crate::codec::Codec;
use crate::codec::Layout;
use crate::codec::Update;
use crate::crypto::PeerId;

/// A round's aggregate, and what became of every update.
#[derive(Clone, Debug, PartialEq)]
pub struct Settled {
    /// The aggregate, flat.
    pub aggregate: Vec<f32>,
    /// What the rule made of those that count.
    pub outcome: Outcome,
    /// Those that do not count, and why.
    pub rejected: Vec<(PeerId, Rejection)>,
}

/// Why an update does not count.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// It is not an update, or not of this round.
    #[error(transparent)]
    Update(#[from] codec::Error),
    /// The same cluster has sent several that differ; none of them counts.
    #[error("one cluster has sent several updates that differ")]
    Several,
}

/// The aggregate of what was `received` for a round of a fragment, in any order; `aggregator` must be
/// this fragment's own. An update that is
/// not valid is left out and told of; all clusters leave out the same ones.
pub fn settle(
    aggregator: &mut Aggregator,
    about: &About,
    (codec, layout): (&dyn Codec, &Layout),
    received: &[Received],
) -> Result<Settled, Error> {
    let mut received: Vec<_> = received.iter().collect();
    received.sort_by(|a, b| a.0.cmp(&b.0).then_with(|| a.1.cmp(&b.1)));
    received.dedup();
    let (mut updates, mut rejected) = (Vec::new(), Vec::new());
    for same in received.chunk_by(|a, b| a.0 == b.0) {
        match same {
            [(peer, bytes)] => match Update::parse(bytes, codec, layout, about) {
                Ok(update) => updates.push((*peer, update)),
                Err(error) => rejected.push((*peer, error.into())),
            },
            several => rejected.push((several[0].0, Rejection::Several)),
        }
    }
    let mut aggregate = vec![0.0; layout.elements()];
    loop {
        let inputs: Vec<_> =
            updates.iter().map(|(peer, update)| Input { peer: *peer, update }).collect();
        match aggregator.aggregate(about.round, layout, &inputs, &mut aggregate) {
            Ok(outcome) => return Ok(Settled { aggregate, outcome, rejected }),
            Err(aggregate::Error::Update { peer, source })
                if updates.iter().any(|(who, _)| *who == peer) =>
            {
                updates.retain(|(who, _)| *who != peer);
                rejected.push((peer, source.into()));
            }
            Err(source) => {
                let (round, rejected) = (about.round, rejected.len());
                return Err(Error::Aggregate { round, rejected, source });
            }
        }
    }
}
