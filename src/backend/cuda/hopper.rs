//! Products by Hopper's warp groups (kernels/matmul_wgmma.cu), once they have been seen to give the
//! bits of their twin by mma.sync on this device.
//!
//! Whether a GPU computes what the contract says is not taken on trust: before a layout is first
//! used, both kernels multiply the same numbers of many sizes. If one bit differs, the layout stays
//! with the twin, and a warning says so.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::OnceLock;

use super::Cuda;
use super::buffer::Buffer;
use super::door::Address;
use super::door::Matrix;
use super::matmul::Layout;
use super::matmul::Product;
use crate::ops::OpError;
use crate::ops::matmul::Start;

/// What is known of this device's warp groups.
#[derive(Debug, Default)]
pub(super) struct Hopper {
    maps: Mutex<Maps>,
    /// By layout, whether the probe was passed.
    admitted: [OnceLock<bool>; 3],
}

/// Pairs of tensor maps on the device, by the matrices they describe.
#[derive(Debug, Default)]
struct Maps {
    slab: Option<Buffer>,
    places: HashMap<[Matrix; 2], usize>,
}

impl Cuda {
    /// Tensor maps for `product`, if its kernel by warp groups is to be used.
    pub(super) fn warp_groups(
        &self,
        op: &'static str,
        layout: Layout,
        product: &Product,
    ) -> Result<Option<Address>, OpError> {
        if self.door.compute_capability() != (9, 0) {
            return Ok(None);
        }
        let admitted = &self.hopper.admitted[layout as usize];
        let admitted = match admitted.get() {
            Some(admitted) => *admitted,
            None => {
                let passed = self.probe(op, layout)?;
                *admitted.get_or_init(|| passed)
            }
        };
        if admitted { self.maps_of(op, &product.operands()) } else { Ok(None) }
    }

    /// Where the maps of two matrices are on the device; none if it makes no maps.
    fn maps_of(
        &self,
        op: &'static str,
        matrices: &[Matrix; 2],
    ) -> Result<Option<Address>, OpError> {
        let failed = |fault| self.failed(op, fault);
        let mut maps = self.hopper.maps.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let slab = match &maps.slab {
            Some(slab) => slab.address(),
            None => {
                let address = self.door.alloc(MAPS_AT_MOST * PAIR_BYTES).map_err(failed)?;
                maps.slab = Some(Buffer::new(self.door.clone(), address));
                address
            }
        };
        if let Some(place) = maps.places.get(matrices) {
            return Ok(Some(slab.plus(place * PAIR_BYTES)));
        }
        let mut pair = Vec::with_capacity(PAIR_BYTES);
        for matrix in matrices {
            match self.door.tensor_map(matrix).map_err(failed)? {
                Some(map) => pair.extend_from_slice(&map),
                None => return Ok(None),
            }
        }
        if maps.places.len() == MAPS_AT_MOST {
            // Nothing under way may see its maps change.
            self.door.synchronize().map_err(failed)?;
            maps.places.clear();
        }
        let place = maps.places.len();
        let address = slab.plus(place * PAIR_BYTES);
        self.door.write(address, &pair).map_err(failed)?;
        maps.places.insert(*matrices, place);
        Ok(Some(address))
    }

    /// Whether warp groups give the twin's bits in this layout, on extents with tails everywhere.
    fn probe(&self, op: &'static str, layout: Layout) -> Result<bool, OpError> {
        let failed = |fault| self.failed(op, fault);
        let [m, n, k] = [200, 328, 1096];
        let memory = |bytes| -> Result<Buffer, OpError> {
            Ok(Buffer::new(self.door.clone(), self.door.alloc(bytes).map_err(failed)?))
        };
        let operand = |elements: usize, seed| -> Result<Buffer, OpError> {
            let buffer = memory(elements * 2)?;
            self.door.write(buffer.address(), &wide_numbers(elements, seed)).map_err(failed)?;
            Ok(buffer)
        };
        let (a, b) = (operand(m * k, 1)?, operand(n * k, 2)?);
        let product = |out| Product {
            out,
            a: a.address(),
            b: b.address(),
            extents: [m, n, k],
            layout,
            start: Start::Zero,
        };
        let Some(maps) = self.maps_of(op, &product(Address::default()).operands())? else {
            return Ok(false);
        };
        let bytes = m * n * if layout == Layout::BackwardWeight { 4 } else { 2 };
        let mut results = [vec![0; bytes], vec![1; bytes]];
        for (warp_groups, result) in results.iter_mut().enumerate() {
            let out = memory(bytes)?;
            match warp_groups {
                0 => product(out.address()).by_mma(self, op, true)?,
                _ => product(out.address()).by_warp_groups(self, op, maps)?,
            }
            self.door.read(result, out.address()).map_err(failed)?;
        }
        let same = results[0] == results[1];
        if !same {
            tracing::warn!(
                "{op}: the warp groups of {} do not give the bits of mma.sync; they are not used",
                self.door.describe()
            );
        }
        Ok(same)
    }
}

/// bf16 numbers of both signs and sizes from 2^-12 to 2^11, some of them zeros, as bytes.
fn wide_numbers(count: usize, seed: u32) -> Vec<u8> {
    let mut state = seed;
    let mut number = || {
        // A linear congruential generator (Knuth, TAOCP 2, 3.3.4): it need not be a good one.
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let bits = (state >> 8) as u16;
        let exponent = 115 + (state >> 24) % 24;
        if bits.is_multiple_of(37) { 0 } else { bits & 0x807f | (exponent << 7) as u16 }
    };
    (0..count).flat_map(|_| number().to_le_bytes()).collect()
}

/// Bytes of a pair of maps.
const PAIR_BYTES: usize = 2 * 128;
/// Pairs kept: more than the products of the largest models.
const MAPS_AT_MOST: usize = 8192;
