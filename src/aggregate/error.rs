//! Why there is no aggregate.

use thiserror::Error;

use super::MAX_PEERS;
use crate::codec;
use crate::crypto::PeerId;

/// Why updates cannot be aggregated.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Error {
    /// Nobody contributed.
    #[error("there is no update to aggregate")]
    NoUpdates,
    /// More peers than rules are made for.
    #[error("there are {peers} updates; at most {MAX_PEERS} are aggregated")]
    TooMany {
        /// How many.
        peers: usize,
    },
    /// A peer contributed more than once.
    #[error("there are two updates of peer {peer}")]
    Duplicate {
        /// Who.
        peer: PeerId,
    },
    /// A peer's update cannot be decoded.
    #[error("the update of peer {peer}")]
    Update {
        /// Whose.
        peer: PeerId,
        /// What is wrong with it.
        #[source]
        source: codec::Error,
    },
    /// A peer's update has chunks of another layout.
    #[error("block {block} of the update of peer {peer} has not the chunks of the layout")]
    Shape {
        /// Whose.
        peer: PeerId,
        /// Which block.
        block: usize,
    },
    /// An update that does not speak of all elements, before a rule that needs all.
    #[error(
        "peer {peer} sent a sparse update, and {rule} after aggregate.mix = \"nearest\" needs \
         dense ones: set aggregate.mix = \"none\", or aggregate.rule = \"geometric_median\""
    )]
    Sparse {
        /// Whose.
        peer: PeerId,
        /// The rule's name.
        rule: &'static str,
    },
    /// Too few updates for the rule.
    #[error("{rule} with f = {faulty} needs {needs}, and {found}: {remedy}")]
    Condition {
        /// The rule's name, or that of what comes before it.
        rule: &'static str,
        /// How many may lie.
        faulty: usize,
        /// The condition, with its number.
        needs: String,
        /// What there is.
        found: String,
        /// What would be right.
        remedy: String,
    },
    /// Parameters that no rule has.
    #[error("{}", .complaints.join("; "))]
    Config {
        /// All that is wrong, each with its key.
        complaints: Vec<String>,
    },
    /// The aggregate does not fit f32.
    #[error("element {element} of the aggregate does not fit f32")]
    Overflow {
        /// Where in the flat vector (of the blocks asked for).
        element: usize,
    },
    /// Bytes of another program, version or rank.
    #[error("not what aggregation writes: {what}")]
    Bytes {
        /// What is wrong.
        what: &'static str,
    },
}
