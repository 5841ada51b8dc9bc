//! What everybody sends.

use super::Entry;
use super::Slot;
use super::World;
use super::damage;
use crate::codec::Codes;
use crate::codec::Update;
use crate::simulate::Error;
use crate::simulate::objective::Objective;
use crate::simulate::results::Fate;

impl<O: Objective> World<'_, O> {
    /// The bytes of everybody's update: honest ones first, liars know them, and some are damaged on
    /// the way.
    pub(super) fn contribute(&mut self, slot: &Slot, entries: &mut [Entry]) -> Result<(), Error> {
        for entry in entries.iter_mut().filter(|entry| entry.has_work()) {
            if self.peers[entry.peer].is_honest() {
                self.say(slot, entry)?;
            }
        }
        let lies = |entry: &Entry| entry.has_work() && !self.peers[entry.peer].is_honest();
        if entries.iter().any(lies) {
            let honest = self.decoded(slot, entries)?;
            for group in 0..self.liars.len() {
                self.lie(group, slot, entries, &honest)?;
            }
        }
        for entry in entries.iter_mut() {
            let peer = &self.peers[entry.peer];
            if let Some(bytes) = &entry.bytes
                && let Some(damaged) = damage::of(peer.like, entry.peer, bytes, slot.dice)
            {
                entry.bytes = Some(damaged.into());
            }
            if let Some(bytes) = &entry.bytes {
                entry.record.bytes = Some(bytes.len() as u64);
                entry.record.ready_s = Some(crate::simulate::network::to_s(entry.ready));
            }
        }
        Ok(())
    }

    /// A cluster's own update.
    pub(super) fn say(&mut self, slot: &Slot, entry: &mut Entry) -> Result<(), Error> {
        let Some(cluster) = &mut self.peers[entry.peer].cluster else { return Ok(()) };
        match cluster.contribute(slot.fragment).map_err(Error::from) {
            Ok((_, bytes)) => {
                (entry.bytes, entry.is_own) = (Some(bytes), true);
                let said = cluster.contributed(slot.fragment);
                entry.record.lag1 = said.and_then(|said| said.pseudo_gradient_lag1);
                entry.record.residual_norm = said.map(|said| said.residual_norm);
                Ok(())
            }
            Err(error) if error.is_divergence() => {
                entry.record.fate = Fate::Diverged;
                entry.record.why = Some(error.to_string());
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// The honest updates as the others decode them, by cluster.
    fn decoded(&self, slot: &Slot, entries: &[Entry]) -> Result<Vec<(usize, Vec<f32>)>, Error> {
        let layout = &self.fragments[slot.fragment].layout;
        let about = self.about(slot);
        let (mut all, mut codes) = (Vec::new(), Codes::default());
        for entry in entries.iter().filter(|entry| entry.is_own) {
            let Some(bytes) = &entry.bytes else { continue };
            let failed = |source| crate::diloco::Error::Update {
                round: slot.round,
                fragment: slot.fragment,
                source,
            };
            let codec = self.codec.as_ref();
            let update = Update::parse(bytes, codec, layout, &about).map_err(failed)?;
            let mut values = vec![0.0; layout.elements()];
            for (i, block) in layout.blocks().iter().enumerate() {
                update.block(i, &mut codes).map_err(failed)?;
                codes.write_to(&mut values[block.clone()]);
            }
            all.push((entry.peer, values));
        }
        Ok(all)
    }
}
