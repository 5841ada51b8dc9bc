//! Many updates to one, liars among them.
//!
//! Every peer aggregates the same set of updates by the same rule and gets the same bits: inner
//! products are exact integer sums of the updates' codes, the small systems that rules solve are
//! IEEE f64 in a fixed order, peers are sorted by identity first, and the combination is one chain
//! per element. So neither threads nor shards nor the order of arrival can show. docs/AGGREGATION.md
//! has the rules, their conditions and variants.

mod aggregator;
mod block;
mod combine;
mod config;
mod coordinate;
mod error;
mod exact_sum;
mod gram;
mod memory;
mod points;
mod products;
mod rules;
mod space;

pub use aggregator::Aggregator;
pub use aggregator::Solution;
pub use config::Clip;
pub use config::Config;
pub use config::Mix;
pub use config::Rule;
pub use coordinate::Votes;
pub use error::Error;
pub use exact_sum::ExactSum;
pub use gram::Gram;
pub use memory::Memory;

use crate::codec;
use crate::codec::Codes;
use crate::codec::Update;
use crate::crypto::PeerId;

/// Most updates of one aggregate: the Gram matrix of a thread is then 5 MB.
pub const MAX_PEERS: usize = 256;

/// What a peer contributes.
pub trait Contribution: Sync {
    /// The codes of block `index` of the layout.
    fn block(&self, index: usize, codes: &mut Codes) -> Result<(), codec::Error>;
}

impl Contribution for Update<'_> {
    fn block(&self, index: usize, codes: &mut Codes) -> Result<(), codec::Error> {
        Update::block(self, index, codes)
    }
}

/// An update and who sent it.
#[derive(Clone, Copy)]
pub struct Input<'a> {
    /// Who.
    pub peer: PeerId,
    /// What.
    pub update: &'a dyn Contribution,
}

/// What became of every update.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// By identity, ascending.
    pub peers: Vec<Share>,
    /// How many could have been lies (f).
    pub faulty: usize,
    /// Where the rule goes by single elements: how many were spoken of, and how many counted.
    pub votes: Option<Votes>,
}

/// What became of one update.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share {
    /// Whose.
    pub peer: PeerId,
    /// Its Euclidean norm, as it came.
    pub norm: f64,
    /// What it was multiplied with before the rule; 1 if it was not clipped.
    pub clip: f64,
    /// Its factor in the aggregate, clipping included, where the rule is a weighted sum.
    pub weight: Option<f64>,
    /// Distance of the update, as it came, to the aggregate. Of weighted sums before the aggregate
    /// is rounded to f32. For logs: in coordinate-wise rules sharding shows in the last bits.
    pub distance: f64,
}
