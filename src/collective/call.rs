//! What every rank of a group must agree on before a byte of a collective counts.

use std::ops::Range;

use bytemuck::{Pod, Zeroable};

use super::Error;

/// One collective call, as every rank must make it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Call {
    /// Calls of this group before this one.
    pub sequence: u64,
    /// An [`Operation`].
    pub operation: u32,
    /// Of a broadcast: its root.
    pub root: u32,
    /// Elements of the whole buffer.
    pub len: u64,
    /// A digest of who owns what.
    pub shape: u64,
}

/// The collectives, by the number that goes over the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Operation {
    Barrier = 1,
    Broadcast = 2,
    AllGather = 3,
    ReduceScatter = 4,
    AllGatherParts = 5,
    AllReduce = 6,
    Form = 7,
}

impl Operation {
    fn name(number: u32) -> &'static str {
        let names = [
            (Self::Barrier, "barrier"),
            (Self::Broadcast, "broadcast"),
            (Self::AllGather, "all-gather"),
            (Self::ReduceScatter, "reduce-scatter"),
            (Self::AllGatherParts, "all-gather of parts"),
            (Self::AllReduce, "all-reduce"),
            (Self::Form, "the forming of a group"),
        ];
        names.iter().find(|(op, _)| *op as u32 == number).map_or("unknown", |(_, name)| name)
    }
}

impl Call {
    /// A call of `len` elements; `sequence` is still to be given.
    pub fn new(operation: Operation, len: usize) -> Self {
        Self { sequence: 0, operation: operation as u32, root: 0, len: len as u64, shape: 0 }
    }

    /// With the digest of `ranges`, which are the parts of the ranks.
    pub fn shaped(self, ranges: impl Iterator<Item = Range<usize>>) -> Self {
        // FNV-1a over the bounds: it must tell parts apart that differ by accident, no more.
        let bounds = ranges.flat_map(|r| [r.start as u64, r.end as u64]);
        let mix =
            |hash: u64, x: u64| (hash ^ x).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23);
        Self { shape: bounds.fold(0xcbf2_9ce4_8422_2325, mix), ..self }
    }

    /// An error that names `rank` if its call `theirs` is not this one.
    pub fn check(&self, rank: usize, theirs: &Self) -> Result<(), Error> {
        if self == theirs {
            return Ok(());
        }
        let what = format!("it is in {}, the others in {}", theirs.tell(), self.tell());
        Err(Error::OutOfStep { rank, what })
    }

    fn tell(&self) -> String {
        let name = Operation::name(self.operation);
        let Self { sequence, root, len, shape, .. } = self;
        format!("call {sequence}, {name} of {len} elements (root {root}, parts {shape:016x})")
    }
}
