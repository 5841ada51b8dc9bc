//! What the outer loop needs of a network.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use super::Error;
use crate::codec::About;
use crate::crypto::PeerId;

/// A cluster's update as it came.
pub type Received = (PeerId, Arc<[u8]>);

/// What a network must offer. Nothing of it needs to be trusted but one thing: for a round and
/// fragment it gives *the same* updates to every cluster, once it gives any.
pub trait Exchange {
    /// Publishes this cluster's update. Publishing the same again changes nothing.
    fn publish(&mut self, about: &About, bytes: &Arc<[u8]>) -> Result<(), Error>;

    /// The updates that count in a round of a fragment, in any order, one per cluster; none as long
    /// as that is not settled.
    fn collect(&mut self, about: &About) -> Result<Option<Vec<Received>>, Error>;
}

/// An exchange between clusters of one process: a round is settled when all of a fixed set of
/// clusters have published.
#[derive(Clone, Debug)]
pub struct InMemory {
    peer: PeerId,
    members: Arc<BTreeSet<PeerId>>,
    table: Arc<Mutex<Table>>,
}

/// Updates by round, fragment and cluster.
type Table = BTreeMap<(u64, u32), BTreeMap<PeerId, Arc<[u8]>>>;

impl InMemory {
    /// One for each of `members`, in their order.
    pub fn group(members: &[PeerId]) -> Vec<Self> {
        let (all, table) = (Arc::new(members.iter().copied().collect()), Arc::default());
        let member = |&peer: &PeerId| {
            let (members, table) = (Arc::clone(&all), Arc::clone(&table));
            Self { peer, members, table }
        };
        members.iter().map(member).collect()
    }
}

impl Exchange for InMemory {
    fn publish(&mut self, about: &About, bytes: &Arc<[u8]>) -> Result<(), Error> {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let round = table.entry((about.round, about.fragment)).or_default();
        round.entry(self.peer).or_insert_with(|| bytes.clone());
        Ok(())
    }

    fn collect(&mut self, about: &About) -> Result<Option<Vec<Received>>, Error> {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(round) = table.get(&(about.round, about.fragment)) else { return Ok(None) };
        if !self.members.iter().all(|member| round.contains_key(member)) {
            return Ok(None);
        }
        let received = round.iter().map(|(peer, bytes)| (*peer, bytes.clone())).collect();
        // Who has published this round has applied the one before.
        if let Some(before) = about.round.checked_sub(1) {
            table.remove(&(before, about.fragment));
        }
        Ok(Some(received))
    }
}
