//! A cluster and an exchange, turn by turn.

use super::Cluster;
use super::Error;
use super::Exchange;
use super::Next;
use super::Rejection;
use super::RoundRecord;
use super::settle;
use crate::aggregate::Aggregator;
use crate::crypto::PeerId;
use crate::data::Loader;
use crate::train::StepOutcome;

/// What a turn did.
#[derive(Clone, Debug, PartialEq)]
pub enum Turn {
    /// Inner steps.
    Trained {
        /// How many.
        steps: u64,
    },
    /// Published an update.
    Published {
        /// Of which fragment.
        fragment: usize,
    },
    /// Applied a round.
    Applied {
        /// What it did.
        record: RoundRecord,
        /// Updates that did not count, and why.
        rejected: Vec<(PeerId, Rejection)>,
    },
    /// Ended a round without an outer step: too few valid updates for the rule.
    Passed {
        /// The round; this cluster contributed nothing to it.
        record: RoundRecord,
        /// Why there is no aggregate, the rule's words included.
        why: String,
    },
    /// Nothing: the exchange has not settled the round of this fragment.
    Waiting {
        /// Which.
        fragment: usize,
    },
    /// Nothing: all is done.
    Done,
}

/// Does what comes next for a cluster in a training of `steps` inner steps: trains until something
/// is due, publishes, or applies. If its update does not count, what the update said is kept for the
/// next one. Where too few count for the rule, the round ends without
/// an outer step. There is one rule per fragment, `rules`, since rules remember what they have seen. `each`
/// is told of every inner step.
pub fn turn(
    cluster: &mut Cluster,
    steps: u64,
    loader: &Loader,
    exchange: &mut dyn Exchange,
    rules: &mut [Aggregator],
    each: &mut dyn FnMut(&StepOutcome),
) -> Result<Turn, Error> {
    match cluster.next(steps) {
        None => Ok(Turn::Done),
        Some(Next::Train { steps }) => {
            cluster.train(loader, steps, each)?;
            Ok(Turn::Trained { steps })
        }
        Some(Next::Contribute { fragment }) => {
            let (about, bytes) = cluster.contribute(fragment)?;
            exchange.publish(&about, &bytes)?;
            Ok(Turn::Published { fragment })
        }
        Some(Next::Apply { fragment }) => {
            let about = cluster.about(fragment);
            let Some(received) = exchange.collect(&about)? else {
                return Ok(Turn::Waiting { fragment });
            };
            let codec = cluster.codec().clone();
            let with = (codec.as_ref(), &cluster.fragment(fragment).layout);
            let settled = match settle(&mut rules[fragment], &about, with, &received) {
                Ok(settled) => settled,
                // All clusters have received the same, so all pass.
                Err(Error::Aggregate { rejected, source, .. }) => {
                    let why = format!("{source} ({rejected} updates were rejected)");
                    return Ok(Turn::Passed { record: cluster.pass(fragment)?, why });
                }
                Err(error) => return Err(error),
            };
            let me = cluster.peer();
            if !settled.outcome.peers.iter().any(|share| share.peer == me) {
                cluster.take_back(fragment)?;
            }
            let record = cluster.apply(fragment, &settled.aggregate)?;
            Ok(Turn::Applied { record, rejected: settled.rejected })
        }
    }
}
