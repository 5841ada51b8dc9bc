//! One block of all updates, decoded, chunk by chunk.

use std::ops::Range;

use super::Contribution;
use super::Error;
use super::Input;
use crate::codec;
use crate::codec::CHUNK;
use crate::codec::Chunk;
use crate::codec::Codes;
use crate::codec::Layout;

/// Buffers for a block of several vectors; a thread has one and reuses it.
pub(super) struct Block {
    codes: Vec<Codes>,
}

/// What is wrong with a block of a vector.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    pub vector: usize,
    pub block: usize,
    pub what: What,
}

/// What is wrong.
#[derive(Clone, Debug)]
pub(super) enum What {
    /// It does not decode.
    Codec(codec::Error),
    /// It decodes to other chunks than the layout has.
    Shape,
    /// It is sparse, and the rule of this name takes dense ones only.
    Sparse(&'static str),
}

impl Block {
    pub fn new(vectors: usize) -> Self {
        Self { codes: vec![Codes::default(); vectors] }
    }

    /// Decodes block `index` of every vector for which `wanted` holds; the others have no chunks.
    pub fn read(
        &mut self,
        vectors: &[&dyn Contribution],
        wanted: impl Fn(usize) -> bool,
        layout: &Layout,
        index: usize,
    ) -> Result<(), Fault> {
        let elements = layout.blocks()[index].len();
        for (vector, (codes, update)) in self.codes.iter_mut().zip(vectors).enumerate() {
            if !wanted(vector) {
                codes.clear();
                continue;
            }
            let fault = |what| Fault { vector, block: index, what };
            update.block(index, codes).map_err(|source| fault(What::Codec(source)))?;
            if !codes.chunks().map(|chunk| chunk.elements).eq(lengths(elements)) {
                return Err(fault(What::Shape));
            }
        }
        Ok(())
    }

    /// Calls `visit` with the place of every chunk in the block, and the chunk of every vector
    /// that was wanted, by number.
    pub fn for_each_chunk<'a>(
        &'a self,
        elements: usize,
        mut visit: impl FnMut(Range<usize>, &[(usize, Chunk<'a>)]),
    ) {
        let mut streams: Vec<_> = self.codes.iter().map(Codes::chunks).collect();
        let mut chunks = Vec::with_capacity(streams.len());
        let mut first = 0;
        for length in lengths(elements) {
            chunks.clear();
            for (vector, stream) in streams.iter_mut().enumerate() {
                chunks.extend(stream.next().map(|chunk| (vector, chunk)));
            }
            visit(first..first + length, &chunks);
            first += length;
        }
    }
}

impl Fault {
    /// The first in the order of vectors, then blocks: the same one whatever thread met it.
    pub fn first(a: Option<Self>, b: Option<Self>) -> Option<Self> {
        [a, b].into_iter().flatten().min_by_key(|fault| (fault.vector, fault.block))
    }

    /// As an error about the peer whose vector it is.
    pub fn named(self, inputs: &[Input<'_>]) -> Error {
        let peer = inputs[self.vector.min(inputs.len() - 1)].peer;
        match self.what {
            What::Codec(source) => Error::Update { peer, source },
            What::Shape => Error::Shape { peer, block: self.block },
            What::Sparse(rule) => Error::Sparse { peer, rule },
        }
    }
}

/// Lengths of the chunks of a block.
fn lengths(elements: usize) -> impl Iterator<Item = usize> {
    (0..elements).step_by(CHUNK).map(move |first| CHUNK.min(elements - first))
}
