//! Which way the bytes of a group go: over the link, through shared memory, or, where hosts hold
//! equal aligned blocks of ranks, the lower levels of the tree in memory and the upper ones over the
//! link between ranks of the same place in their hosts.

use std::ops::Range;
use std::sync::Arc;

use bytemuck::{Pod, Zeroable};

use super::Error;
use super::call::{Call, Operation};
use super::shared_memory::{Address, Host};
use super::tree::{self, Contributors};
use super::wire::{Wire, World};

/// The ways of one group.
#[derive(Debug)]
pub(super) struct Layers {
    /// All ranks, over the link.
    wire: Wire,
    way: Way,
    /// Why memory is not shared although hosts would allow it.
    warning: Option<String>,
}

#[derive(Debug)]
enum Way {
    Link,
    Host(Host),
    /// The host of this rank, and the ranks of the same place in all hosts.
    Both(Host, Wire),
}

/// The tags that a group's layers use.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tags {
    /// Of all ranks.
    pub whole: u32,
    /// Of ranks of the same place in their hosts.
    pub across: u32,
}

/// What ranks tell each other before they share memory.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Offer {
    address: Address,
    /// 1 if this rank can.
    ready: u64,
}

impl Layers {
    /// The layers of `members`, of which this rank is number `rank`; collective.
    pub fn form(
        world: &Arc<World>,
        members: &[usize],
        rank: usize,
        tags: Tags,
        context: u64,
    ) -> Result<Self, Error> {
        let wire = Wire::new(world.clone(), members.to_vec(), rank, tags.whole, context, 0);
        let hosts: Vec<u64> = members.iter().map(|member| world.hosts[*member]).collect();
        let local = block_of(&hosts);
        if members.len() == 1 {
            return Ok(Self { wire, way: Way::Link, warning: None });
        }
        let shared = share_memory(world, &wire, &hosts, members, local)?;
        let (way, warning) = match shared {
            Ok(None) => (Way::Link, None),
            Ok(Some(host)) if local == members.len() => (Way::Host(host), None),
            Ok(Some(host)) => {
                let place = rank % local;
                let column = members.iter().skip(place).step_by(local).copied().collect();
                let (world, number) = (world.clone(), rank / local);
                let across = Wire::new(world, column, number, tags.across, context, 1);
                (Way::Both(host, across), None)
            }
            Err(why) => (Way::Link, Some(why)),
        };
        Ok(Self { wire, way, warning })
    }

    /// For logs.
    pub fn describe(&self, link: &str) -> String {
        let way = match &self.way {
            Way::Link => link.to_owned(),
            Way::Host(_) => format!("{link}, shared memory"),
            Way::Both(..) => format!("{link}, shared memory inside a host"),
        };
        match &self.warning {
            Some(why) => format!("{way} (warning: no shared memory: {why})"),
            None => way,
        }
    }

    /// Tells the others that this rank gave up in `call`.
    pub fn give_up(&self, call: &Call, error: &Error) {
        match &self.way {
            Way::Link => {}
            Way::Host(host) => host.give_up(call, error),
            Way::Both(host, across) => {
                host.give_up(call, error);
                across.give_up(call, error);
            }
        }
        self.wire.give_up(call, error);
    }

    pub fn barrier(&self, call: &Call) -> Result<(), Error> {
        match &self.way {
            Way::Link => tree::barrier(&self.wire, call),
            Way::Host(host) => host.barrier(call, 0),
            Way::Both(host, across) => {
                host.barrier(call, 0)?;
                tree::barrier(across, call)?;
                host.barrier(call, above(across))
            }
        }
    }

    pub fn broadcast(&self, call: &Call, root: usize, data: &mut [u8]) -> Result<(), Error> {
        match &self.way {
            Way::Link => tree::broadcast(&self.wire, call, root, data),
            Way::Host(host) => host.broadcast(call, 0, root, data),
            Way::Both(host, across) => {
                // Down the root's column first, then from there inside every host.
                let local = self.local(across);
                if self.wire.rank() % local == root % local {
                    tree::broadcast(across, call, root / local, data)?;
                }
                host.broadcast(call, above(across), root % local, data)
            }
        }
    }

    /// Of f32 in `data`, `ranges[r]` of rank r (in bytes) become sums at rank r.
    pub fn reduce_scatter(
        &self,
        call: &Call,
        data: &mut [u8],
        ranges: &[Range<usize>],
    ) -> Result<(), Error> {
        let all = ranges.len();
        match &self.way {
            Way::Link => {
                let contributors = Contributors { each: 1, all };
                tree::reduce_scatter(&self.wire, call, contributors, data, ranges)
            }
            Way::Host(host) => host.reduce_scatter(call, data, &[ranges.to_vec()]),
            Way::Both(host, across) => {
                let local = self.local(across);
                host.reduce_scatter(call, data, &blocks(ranges, local))?;
                let contributors = Contributors { each: local, all };
                let column = self.column(ranges, local);
                tree::reduce_scatter(across, call, contributors, data, &column)
            }
        }
    }

    /// `ranges[r]` (in bytes) of rank r to all.
    pub fn all_gather(
        &self,
        call: &Call,
        data: &mut [u8],
        ranges: &[Range<usize>],
    ) -> Result<(), Error> {
        match &self.way {
            Way::Link => tree::all_gather(&self.wire, call, data, ranges),
            Way::Host(host) => host.all_gather(call, 0, data, &[ranges.to_vec()]),
            Way::Both(host, across) => {
                let local = self.local(across);
                tree::all_gather(across, call, data, &self.column(ranges, local))?;
                host.all_gather(call, above(across), data, &blocks(ranges, local))
            }
        }
    }

    /// A sum of f32 to all.
    pub fn all_reduce(
        &self,
        call: &Call,
        data: &mut [u8],
        ranges: &[Range<usize>],
    ) -> Result<(), Error> {
        if let Way::Host(host) = &self.way {
            return host.all_reduce(call, data, &[ranges.to_vec()]);
        }
        self.reduce_scatter(call, data, ranges)?;
        self.all_gather(call, data, ranges)
    }

    /// Ranks of one host.
    fn local(&self, across: &Wire) -> usize {
        self.wire.size() / across.size()
    }

    /// The ranges of ranks of this rank's place.
    fn column(&self, ranges: &[Range<usize>], local: usize) -> Vec<Range<usize>> {
        ranges.iter().skip(self.wire.rank() % local).step_by(local).cloned().collect()
    }
}

/// By host, the ranges of its ranks.
fn blocks(ranges: &[Range<usize>], local: usize) -> Vec<Vec<Range<usize>>> {
    ranges.chunks(local).map(<[_]>::to_vec).collect()
}

/// How many turns may come before what follows the exchange between hosts.
fn above(across: &Wire) -> u32 {
    2 + across.size().ilog2()
}

/// How many ranks share memory: the largest power of two such that every aligned block of so many
/// is on one host, so that its sums are whole subtrees of the tree; or all, on one host.
fn block_of(hosts: &[u64]) -> usize {
    let one_host = |block: &[u64]| block.iter().all(|host| *host == block[0]);
    if one_host(hosts) {
        return hosts.len();
    }
    let fits =
        |local: &usize| hosts.len().is_multiple_of(*local) && hosts.chunks(*local).all(one_host);
    (0..usize::BITS - 1).map(|bits| 1 << bits).take_while(fits).last().unwrap_or(1)
}

/// This host's memory, if `local` ranks share some, or why they cannot. All ranks agree on which:
/// the tree must be the same everywhere.
fn share_memory(
    world: &Arc<World>,
    wire: &Wire,
    hosts: &[u64],
    members: &[usize],
    local: usize,
) -> Result<Result<Option<Host>, String>, Error> {
    let rank = wire.rank();
    // Whether all believe in the same hosts is compared in every message.
    let layout = hosts.iter().map(|host| 0..*host as usize);
    let call = Call::new(Operation::Form, members.len()).shaped(layout);
    if local == 1 {
        tree::barrier(wire, &call)?;
        return Ok(Ok(None));
    }
    let first = rank / local * local;
    let ranks = || members[first..first + local].to_vec();
    let founded = (rank == first).then(|| Host::found(world.clone(), ranks()));
    let offer = match &founded {
        Some(Ok((_, address, _))) => Offer { address: *address, ready: 1 },
        Some(Err(_)) => Offer::zeroed(),
        None => Offer { ready: 1, ..Offer::zeroed() },
    };
    let offers = tell(wire, &call, offer)?;
    let failed = |error: std::io::Error| format!("rank {}: {error}", members[rank]);
    let mut founder = None;
    let joined = match founded {
        Some(Ok((host, _, held))) => {
            founder = Some(held);
            Ok(host)
        }
        Some(Err(error)) => Err(failed(error)),
        None if offers[first].ready == 0 => Err(format!("rank {} has none", members[first])),
        None => {
            Host::join(world.clone(), ranks(), rank - first, offers[first].address).map_err(failed)
        }
    };
    let ready = Offer { ready: u64::from(joined.is_ok()), ..Offer::zeroed() };
    let answers = tell(wire, &Call { sequence: 1, ..call }, ready)?;
    // All have the file open, or never will.
    drop(founder);
    match answers.iter().position(|answer| answer.ready == 0) {
        None => Ok(joined.map(Some)),
        Some(other) => Ok(Err(joined.err().unwrap_or_else(|| {
            format!("rank {} cannot map the memory of its host; it says why", members[other])
        }))),
    }
}

fn tell(wire: &Wire, call: &Call, mine: Offer) -> Result<Vec<Offer>, Error> {
    const LEN: usize = size_of::<Offer>();
    let mut all = vec![Offer::zeroed(); wire.size()];
    all[wire.rank()] = mine;
    let ranges: Vec<_> = (0..wire.size()).map(|r| r * LEN..(r + 1) * LEN).collect();
    tree::all_gather(wire, call, bytemuck::cast_slice_mut(&mut all), &ranges)?;
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_whole_subtrees() {
        let cases: &[(&[u64], usize)] = &[
            (&[5], 1),
            (&[5, 5], 2),
            (&[5, 5, 5], 3),
            (&[1, 1, 2, 2], 2),
            (&[1, 2, 1, 2], 1),
            (&[1, 1, 1, 2], 1),
            (&[1, 1, 1, 1, 2, 2], 2),
            (&[1, 1, 1, 2, 2, 2], 1),
            (&[1, 1, 1, 1, 2, 2, 2, 2], 4),
        ];
        for (hosts, local) in cases {
            assert_eq!(block_of(hosts), *local, "{hosts:?}");
        }
    }
}
