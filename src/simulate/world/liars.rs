//! Groups of attackers: what they know, and what becomes of what they say.

use std::fmt;

use super::Entry;
use super::Slot;
use super::World;
use crate::aggregate::Aggregator;
use crate::codec;
use crate::codec::About;
use crate::codec::Codec;
use crate::codec::Layout;
use crate::crypto::PeerId;
use crate::diloco::Fragment;
use crate::diloco::Received;
use crate::diloco::settle;
use crate::simulate::Error;
use crate::simulate::attack::Attack;
use crate::simulate::attack::Known;
use crate::simulate::attack::Sent;
use crate::simulate::attack::Training;
use crate::simulate::attack::View;
use crate::simulate::objective::Objective;
use crate::simulate::results::Fate;
use crate::simulate::scenario::Scenario;

/// The attackers of one group, with what each fragment's attack remembers.
pub struct Liars {
    group: usize,
    /// By fragment.
    attacks: Vec<Box<dyn Attack>>,
}

impl fmt::Debug for Liars {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Liars").field("group", &self.group).finish_non_exhaustive()
    }
}

/// All groups of attackers of a scenario.
pub fn all(scenario: &Scenario, fragments: &[Fragment]) -> Result<Vec<Liars>, Error> {
    let mut liars = Vec::new();
    for (group, like) in scenario.clusters.iter().enumerate() {
        let Some(config) = &like.attack else { continue };
        let wrong = |error: crate::simulate::attack::Error| Error::Scenario {
            complaints: vec![format!("clusters.{group}.{error}")],
        };
        let mut attacks = Vec::new();
        for fragment in fragments {
            config.check_layout(&fragment.layout).map_err(wrong)?;
            attacks.push(config.attack().map_err(wrong)?);
        }
        liars.push(Liars { group, attacks });
    }
    Ok(liars)
}

/// The real rule, to be tried out.
struct Trial<'a> {
    aggregator: &'a Aggregator,
    codec: &'a dyn Codec,
    layout: &'a Layout,
    about: About,
    /// Honest updates, encoded.
    honest: Vec<Received>,
    colluders: Vec<PeerId>,
}

impl Trial<'_> {
    fn encode(&self, values: &[f32], round: u64) -> Vec<u8> {
        let about = About { round, ..self.about };
        // What is not finite has no encoding: nobody would take it.
        codec::encode(self.codec, self.layout, &about, &mut values.to_vec()).unwrap_or_default()
    }

    /// What becomes of the honest updates and these.
    fn aggregate(&self, updates: &[&[f32]]) -> Option<Vec<f32>> {
        let mut received = self.honest.clone();
        for (peer, values) in self.colluders.iter().zip(updates) {
            received.push((*peer, self.encode(values, self.about.round).into()));
        }
        let mut aggregator = self.aggregator.clone();
        let with = (self.codec, self.layout);
        settle(&mut aggregator, &self.about, with, &received).ok().map(|settled| settled.aggregate)
    }
}

impl<O: Objective> World<'_, O> {
    /// What the members of a group of attackers send.
    pub(super) fn lie(
        &mut self,
        group: usize,
        slot: &Slot,
        entries: &mut [Entry],
        honest: &[(usize, Vec<f32>)],
    ) -> Result<(), Error> {
        let of = self.liars[group].group;
        let is_member = |entry: &Entry| entry.has_work() && self.peers[entry.peer].group == of;
        let members: Vec<usize> = (0..entries.len()).filter(|i| is_member(&entries[*i])).collect();
        if members.is_empty() {
            return Ok(());
        }
        let mut own = Vec::new();
        for &i in &members {
            own.push((entries[i].peer, self.own(entries[i].peer, slot)?));
        }
        let fragment = slot.fragment;
        let trial = Trial {
            aggregator: &self.aggregators[fragment],
            codec: self.codec.as_ref(),
            layout: &self.fragments[fragment].layout,
            about: self.about(slot),
            honest: entries.iter().filter(|entry| entry.is_own).filter_map(received).collect(),
            colluders: own.iter().map(|(cluster, _)| PeerId::numbered(*cluster as u64)).collect(),
        };
        let view = View {
            round: slot.round,
            fragment: fragment as u32,
            seed: self.scenario.scenario.seed,
            layout: trial.layout,
            honest: &honest.iter().map(as_known).collect::<Vec<_>>(),
            colluders: &own.iter().map(as_known).collect::<Vec<_>>(),
            previous: self.previous[fragment].as_deref(),
            aggregate: &|updates| trial.aggregate(updates),
            encode: &|values, round| trial.encode(values, round),
        };
        let sent = self.liars[group].attacks[fragment].round(&view);
        let about = trial.about;
        for (i, sent) in members.into_iter().zip(sent) {
            self.send(slot, &mut entries[i], sent, &about)?;
        }
        Ok(())
    }

    /// What an attacker would send if it were honest, before encoding.
    fn own(&self, number: usize, slot: &Slot) -> Result<Vec<f32>, Error> {
        let peer = &self.peers[number];
        let trains = peer.like.attack.as_ref().map(|attack| attack.training(slot.round));
        let elements = self.fragments[slot.fragment].layout.elements();
        let (Some(cluster), true) = (&peer.cluster, trains != Some(Training::None)) else {
            return Ok(vec![0.0; elements]);
        };
        let mut own = cluster.pseudo_gradient(slot.fragment)?;
        let decay = self.settings.residual_decay as f32;
        let residual = cluster.residual(slot.fragment).values();
        own.iter_mut().zip(residual).for_each(|(u, e)| *u += decay * e);
        Ok(own)
    }

    fn send(
        &mut self,
        slot: &Slot,
        entry: &mut Entry,
        sent: Sent,
        about: &About,
    ) -> Result<(), Error> {
        match sent {
            Sent::Own => self.say(slot, entry)?,
            Sent::Bytes(bytes) => entry.bytes = Some(bytes.into()),
            Sent::Nothing => entry.record.fate = Fate::Silent,
            Sent::Dense(mut values) => {
                let layout = &self.fragments[slot.fragment].layout;
                match codec::encode(self.codec.as_ref(), layout, about, &mut values) {
                    Ok(bytes) => entry.bytes = Some(bytes.into()),
                    Err(error) => {
                        entry.record.fate = Fate::Silent;
                        entry.record.why = Some(error.to_string());
                    }
                }
            }
        }
        Ok(())
    }
}

fn as_known((cluster, update): &(usize, Vec<f32>)) -> Known<'_> {
    Known { cluster: *cluster, update }
}

/// An update as the others get it.
pub fn received(entry: &Entry) -> Option<Received> {
    Some((PeerId::numbered(entry.peer as u64), entry.bytes.clone()?))
}
