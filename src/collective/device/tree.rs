//! The schedule of `collective::tree`, on device memory: what is exchanged with whom, and what is
//! added to what.
//!
//! At level l a rank keeps, of the parts it still has, those whose index has bits 0 to l in common
//! with its own, sends the others to the rank that differs in bit l, and adds what comes; so after
//! it every kept element is the sum of an aligned block of 2^(l+1) ranks. IEEE addition is
//! commutative: that a rank adds what came to what it has, and its partner the other way round,
//! cannot show. All tensors of a call take each level together.

use std::ops::Range;

use super::{DeviceLink, Span, Turn};
use crate::backend::cuda::Beside;
use crate::backend::cuda::Sum;
use crate::backend::cuda::door::Address;
use crate::collective::Error;
use crate::ops::OpError;

/// A tensor: where it starts, and the bytes of every rank's part.
#[derive(Clone, Debug)]
pub(super) struct Placed {
    pub at: Address,
    pub ranges: Vec<Range<usize>>,
}

/// The parts of this rank, bytes of f32, become their sums over all ranks.
pub(super) fn reduce_scatter(
    link: &dyn DeviceLink,
    beside: &mut Beside,
    all: &[Placed],
) -> Result<(), Error> {
    let (rank, size) = (link.rank(), link.size());
    // Once, for all that comes: to make room waits for the stream, which then waits for nobody yet.
    // The first level is the largest.
    let bytes = laid_out(&alike(all, rank, 0)).1.min(ROOM_BYTES);
    let room = beside.room(bytes).map_err(|fault| failed(&fault))?;
    for level in 0..size.ilog2() {
        let partner = rank ^ (1 << level);
        let (give, keep) = (alike(all, partner, level), alike(all, rank, level));
        // Both sides cut alike: the spans that the one gives are those that the other keeps.
        let (give, keep) = (pieces(&give, ROOM_BYTES), pieces(&keep, ROOM_BYTES));
        for piece in 0..give.len().max(keep.len()) {
            let of = |pieces: &[Vec<Span>]| pieces.get(piece).cloned().unwrap_or_default();
            let (give, keep) = (of(&give), of(&keep));
            let (places, needed) = laid_out(&keep);
            debug_assert!(needed <= bytes, "{needed} bytes of a piece in a room of {bytes}");
            let came =
                |place: Range<usize>| Span { at: room.plus(place.start), bytes: place.len() };
            let take: Vec<Span> = places.into_iter().map(came).collect();
            exchange(link, beside, &Turn { peer: partner, give: &give, take: &take })?;
            let sums = keep.iter().zip(&take).map(|(sum, came)| {
                let (out, inp, count) = (sum.at, came.at, sum.bytes / size_of::<f32>());
                Sum { out, inp, count }
            });
            beside.add(&sums.collect::<Vec<_>>()).map_err(refused)?;
        }
    }
    Ok(())
}

/// Every rank's part to all; its mirror image.
pub(super) fn all_gather(
    link: &dyn DeviceLink,
    beside: &Beside,
    all: &[Placed],
) -> Result<(), Error> {
    let (rank, size) = (link.rank(), link.size());
    for level in (0..size.ilog2()).rev() {
        let partner = rank ^ (1 << level);
        let (give, take) = (alike(all, rank, level), alike(all, partner, level));
        exchange(link, beside, &Turn { peer: partner, give: &give, take: &take })?;
    }
    Ok(())
}

fn exchange(link: &dyn DeviceLink, beside: &Beside, turn: &Turn<'_>) -> Result<(), Error> {
    if turn.give.is_empty() && turn.take.is_empty() {
        return Ok(());
    }
    link.exchange(beside.door().as_ref(), turn)
}

/// The parts, of every tensor, whose index has bits 0 to `level` in common with `of`; none empty.
fn alike(all: &[Placed], of: usize, level: u32) -> Vec<Span> {
    let step = 1 << (level + 1);
    let parts = |tensor: &Placed| -> Vec<Span> {
        let ranges = tensor.ranges.iter().skip(of % step).step_by(step);
        let here = |r: &Range<usize>| Span { at: tensor.at.plus(r.start), bytes: r.len() };
        ranges.filter(|r| !r.is_empty()).map(here).collect()
    };
    all.iter().flat_map(parts).collect()
}

/// The spans in groups that fit into `most` bytes; long ones are cut.
fn pieces(spans: &[Span], most: usize) -> Vec<Vec<Span>> {
    let (mut groups, mut left) = (Vec::new(), 0);
    for &Span { mut at, mut bytes } in spans {
        while bytes > 0 {
            if left == 0 {
                groups.push(Vec::new());
                left = most;
            }
            let taken = bytes.min(left);
            if let Some(group) = groups.last_mut() {
                group.push(Span { at, bytes: taken });
            }
            (at, bytes) = (at.plus(taken), bytes - taken);
            left -= taken.next_multiple_of(ALIGNMENT).min(left);
        }
    }
    groups
}

/// Room for spans of these lengths, each aligned, and how much that is in bytes.
fn laid_out(spans: &[Span]) -> (Vec<Range<usize>>, usize) {
    let mut next = 0usize;
    let mut place = |span: &Span| {
        let start = next;
        next = (start + span.bytes).next_multiple_of(ALIGNMENT);
        start..start + span.bytes
    };
    let places = spans.iter().map(&mut place).collect();
    (places, next)
}

/// A failure of the device as one of the exchange.
pub(super) fn failed(fault: &dyn std::error::Error) -> Error {
    Error::Transport { what: "an exchange on the device".into(), cause: fault.to_string() }
}

fn refused(error: OpError) -> Error {
    failed(&error)
}

/// Of what arrives: more than the longest load of a kernel.
const ALIGNMENT: usize = 256;
/// What arrives at a time at most, a multiple of [`ALIGNMENT`]: enough to keep any link busy. Little in
/// tests, so that they cut.
const ROOM_BYTES: usize = if cfg!(test) { 2048 } else { 64 << 20 };

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(at: u64, ranges: &[Range<usize>]) -> Placed {
        Placed { at: Address(at), ranges: ranges.to_vec() }
    }

    fn span(at: u64, bytes: usize) -> Span {
        Span { at: Address(at), bytes }
    }

    #[test]
    fn a_level_exchanges_the_parts_that_differ_in_its_bit() {
        let all =
            [tensor(1000, &[0..8, 8..12, 12..12, 12..20]), tensor(9000, &[0..4, 4..4, 4..8, 8..8])];
        // Rank 0 at level 0 keeps parts 0 and 2, and gives 1 and 3 to rank 1.
        assert_eq!(alike(&all, 0, 0), [span(1000, 8), span(9000, 4), span(9004, 4)]);
        assert_eq!(alike(&all, 1, 0), [span(1008, 4), span(1012, 8)]);
        // At level 1 it keeps part 0, and gives 2 to rank 2.
        assert_eq!(alike(&all, 0, 1), [span(1000, 8), span(9000, 4)]);
        assert_eq!(alike(&all, 2, 1), [span(9004, 4)]);
    }

    #[test]
    fn pieces_cover_everything_in_order_and_fit() {
        let spans = [span(0, 700), span(4000, 4), span(5000, 252), span(8000, 1300)];
        let got = pieces(&spans, 1024);
        let want = vec![
            vec![span(0, 700), span(4000, 4)],
            vec![span(5000, 252), span(8000, 768)],
            vec![span(8768, 532)],
        ];
        assert_eq!(got, want);
        assert!(got.iter().all(|piece| laid_out(piece).1 <= 1024));
        assert_eq!(pieces(&[], 1024), Vec::<Vec<Span>>::new());
    }

    #[test]
    fn what_arrives_is_aligned_and_does_not_overlap() {
        let (places, bytes) = laid_out(&[span(0, 4), span(0, 256), span(0, 260)]);
        assert_eq!((places, bytes), (vec![0..4, 256..512, 512..772], 1024));
        assert_eq!(laid_out(&[]), (vec![], 0));
    }
}
