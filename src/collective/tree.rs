//! Collectives over a link, in the order of the fixed tree.
//!
//! Sums of n = 2^k ranks go by recursive halving: at level l the rank keeps, of the parts it still
//! has, those whose index has bit l in common with its own, sends the others to the rank that
//! differs in bit l, and adds what comes. So after level l every kept element is the sum of an
//! aligned block of 2^(l+1) ranks, and part r ends at rank r. All-gather is its mirror image.
//! Bytes sent per rank: (1 - 1/n) of the buffer in each direction, which is the least possible.

use std::ops::Range;

use super::call::Call;
use super::wire::{Arrival, Turn, Wire};
use super::{Error, sum};

/// Where a sum stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Contributors {
    /// Ranks whose values every rank's buffer holds already.
    pub each: usize,
    /// Ranks of the whole sum.
    pub all: usize,
}

/// `data[ranges[r]]`, bytes of f32, become at rank r their sums over all ranks; the rest of `data`
/// is undefined.
pub(super) fn reduce_scatter(
    wire: &Wire,
    call: &Call,
    contributors: Contributors,
    data: &mut [u8],
    ranges: &[Range<usize>],
) -> Result<(), Error> {
    let (rank, size) = (wire.rank(), wire.size());
    if !size.is_power_of_two() {
        return reduce_by_gathering(wire, call, contributors, data, ranges);
    }
    let mut count = contributors.each;
    for level in 0..size.ilog2() {
        let partner = rank ^ (1 << level);
        let having = |of: usize| -> Vec<Range<usize>> {
            let parts = (0..size).filter(|part| low_bits(part ^ of, level + 1) == 0);
            parts.map(|part| ranges[part].clone()).collect()
        };
        let (give, keep) = (having(partner), having(rank));
        let turn =
            Turn { to: partner, from: partner, depth: level, contributors: count, expected: count };
        wire.exchange(call, turn, data, (&give, &keep), Arrival::Add)?;
        count *= 2;
    }
    check(contributors.all, count)
}

/// Every rank's `data[ranges[r]]` of rank r to all. Elements may be of any type.
pub(super) fn all_gather(
    wire: &Wire,
    call: &Call,
    bytes: &mut [u8],
    ranges: &[Range<usize>],
) -> Result<(), Error> {
    let (rank, size) = (wire.rank(), wire.size());
    if !size.is_power_of_two() {
        return gather_by_ring(wire, call, bytes, ranges);
    }
    for level in (0..size.ilog2()).rev() {
        let partner = rank ^ (1 << level);
        let within = |of: usize| -> Vec<Range<usize>> {
            let have = (0..size).filter(|part| low_bits(part ^ of, level + 1) == 0);
            have.map(|part| ranges[part].clone()).collect()
        };
        let depth = size.ilog2() - 1 - level;
        let turn = Turn { to: partner, from: partner, depth, contributors: 1, expected: 1 };
        let ranges = (&within(rank)[..], &within(partner)[..]);
        wire.exchange(call, turn, bytes, ranges, Arrival::Copy)?;
    }
    Ok(())
}

/// `bytes` of rank `root` to all, down a binomial tree.
pub(super) fn broadcast(
    wire: &Wire,
    call: &Call,
    root: usize,
    bytes: &mut [u8],
) -> Result<(), Error> {
    let size = wire.size();
    // Ranks counted from the root: the parent differs in the lowest set bit, children in lower ones.
    let place = (wire.rank() + size - root) % size;
    let rank_at = |place: usize| (place + root) % size;
    let reach = if place == 0 { size.next_power_of_two() } else { 1 << place.trailing_zeros() };
    if place > 0 {
        let parent = rank_at(place - reach);
        wire.receive_from(call, parent, place.count_ones() - 1, bytes)?;
    }
    let mut step = reach / 2;
    while step > 0 {
        if place + step < size {
            wire.send_to(call, rank_at(place + step), bytes)?;
        }
        step /= 2;
    }
    Ok(())
}

/// Returns when every rank has called it: in turn k everybody hears from the rank 2^k before it.
pub(super) fn barrier(wire: &Wire, call: &Call) -> Result<(), Error> {
    let (rank, size) = (wire.rank(), wire.size());
    let mut step = 1;
    while step < size {
        let (to, from) = ((rank + step) % size, (rank + size - step) % size);
        let turn = Turn { to, from, depth: step.ilog2(), contributors: 1, expected: 1 };
        wire.exchange(call, turn, &mut [], (&[], &[]), Arrival::Copy)?;
        step *= 2;
    }
    Ok(())
}

/// An all-gather for any number of ranks: everything goes once around.
fn gather_by_ring(
    wire: &Wire,
    call: &Call,
    bytes: &mut [u8],
    ranges: &[Range<usize>],
) -> Result<(), Error> {
    let (rank, size) = (wire.rank(), wire.size());
    let (to, from) = ((rank + 1) % size, (rank + size - 1) % size);
    for step in 0..size - 1 {
        let mine = (rank + size - step) % size;
        let next = (mine + size - 1) % size;
        let turn = Turn { to, from, depth: step as u32, contributors: 1, expected: 1 };
        let ranges = (&ranges[mine..=mine], &ranges[next..=next]);
        wire.exchange(call, turn, bytes, ranges, Arrival::Copy)?;
    }
    Ok(())
}

/// A sum for a number of ranks that is no power of two: all terms come here, and are added here.
fn reduce_by_gathering(
    wire: &Wire,
    call: &Call,
    contributors: Contributors,
    data: &mut [u8],
    ranges: &[Range<usize>],
) -> Result<(), Error> {
    let (rank, size) = (wire.rank(), wire.size());
    let own = ranges[rank].clone();
    let len = own.len() / 4;
    // Terms of rank r at r; what goes out stands behind them.
    let mut terms = vec![0.0f32; size * len];
    terms[rank * len..][..len].copy_from_slice(bytemuck::cast_slice(&data[own.clone()]));
    for step in 1..size {
        let (to, from) = ((rank + step) % size, (rank + size - step) % size);
        let place = terms.len();
        terms.extend_from_slice(bytemuck::cast_slice(&data[ranges[to].clone()]));
        let (each, depth) = (contributors.each, step as u32 - 1);
        let turn = Turn { to, from, depth, contributors: each, expected: each };
        let out = place * 4..terms.len() * 4;
        let into = from * len * 4..(from + 1) * len * 4;
        let bytes = bytemuck::cast_slice_mut(&mut terms);
        wire.exchange(call, turn, bytes, (&[out], &[into]), Arrival::Copy)?;
        terms.truncate(place);
    }
    let slices: Vec<&[f32]> = (0..size).map(|r| &terms[r * len..][..len]).collect();
    sum::tree(bytemuck::cast_slice_mut(&mut data[own]), &slices);
    check(contributors.all, contributors.each * size)
}

/// Refuses a sum that lacks somebody.
pub(super) fn check(want: usize, got: usize) -> Result<(), Error> {
    if want == got { Ok(()) } else { Err(Error::Contributors { want, got }) }
}

fn low_bits(number: usize, bits: u32) -> usize {
    number & ((1 << bits) - 1)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::collective::call::Operation;
    use crate::collective::frame::{FRAME, Frame};
    use crate::collective::{Error, Link, Request, channels, group};

    /// A link whose headers count one contributor more than there are.
    #[derive(Debug)]
    struct Miscounting(Arc<dyn Link>);

    impl Link for Miscounting {
        fn rank(&self) -> usize {
            self.0.rank()
        }

        fn size(&self) -> usize {
            self.0.size()
        }

        fn describe(&self) -> String {
            self.0.describe()
        }

        fn send(&self, to: usize, tag: u32, mut bytes: Vec<u8>) -> Request {
            if bytes.len() == FRAME {
                let mut frame: Frame = bytemuck::pod_read_unaligned(&bytes);
                let sum = frame.call.operation == Operation::AllReduce as u32;
                frame.contributors += u64::from(sum);
                bytes.copy_from_slice(bytemuck::bytes_of(&frame));
            }
            self.0.send(to, tag, bytes)
        }

        fn receive(&self, from: usize, tag: u32, len: usize) -> Request {
            self.0.receive(from, tag, len)
        }

        fn abort(&self, code: i32) -> ! {
            self.0.abort(code)
        }
    }

    #[test]
    fn a_sum_with_a_wrong_count_is_refused() {
        std::thread::scope(|scope| {
            for link in channels(2) {
                scope.spawn(|| {
                    let link = Arc::new(Miscounting(link));
                    let comm = group(link, vec![1, 2]).unwrap();
                    let refused = comm.all_reduce(&mut [1.0; 9]);
                    let want = matches!(refused, Err(Error::Contributors { want: 1, got: 2 }));
                    assert!(want, "{refused:?}");
                });
            }
        });
    }
}
