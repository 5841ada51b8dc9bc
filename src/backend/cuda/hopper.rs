//! Kernels by Hopper's warp groups (kernels/*_wgmma.cu), once they have been seen to give the bits of
//! their twins by mma.sync on this device.
//!
//! Whether a GPU computes what the contract says is not taken on trust: before a kernel is first
//! used, it and its twin compute from the same numbers of many sizes. If one bit differs, the twin
//! stays in use, and a warning says so.

use std::collections::HashMap;
use std::ops::Range;
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
    /// By kernel, whether the probe was passed.
    admitted: [OnceLock<bool>; KERNELS],
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
        match self.admits(op, layout as usize, || self.probe(op, layout))? {
            true => self.maps_of(op, &product.operands()),
            false => Ok(None),
        }
    }

    /// Whether kernel `nth` of those by warp groups gives the bits of its twin here. `probe` runs
    /// both and tells whether they agree (none: the device makes no tensor maps); once, if it does
    /// not fail.
    pub(super) fn admits(
        &self,
        op: &'static str,
        nth: usize,
        probe: impl FnOnce() -> Result<Option<bool>, OpError>,
    ) -> Result<bool, OpError> {
        if self.door.compute_capability() != (9, 0) {
            return Ok(false);
        }
        let admitted = &self.hopper.admitted[nth];
        if let Some(admitted) = admitted.get() {
            return Ok(*admitted);
        }
        let passed = probe()?;
        if passed == Some(false) {
            tracing::warn!(
                "{op}: the warp groups of {} give other bits than mma.sync; they are not used",
                self.door.describe()
            );
        }
        Ok(*admitted.get_or_init(|| passed == Some(true)))
    }

    /// Where the maps of two matrices are on the device; none if it makes no maps.
    pub(super) fn maps_of(
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
    fn probe(&self, op: &'static str, layout: Layout) -> Result<Option<bool>, OpError> {
        let failed = |fault| self.failed(op, fault);
        let [m, n, k] = [200, 328, 1096];
        let memory = |bytes| -> Result<Buffer, OpError> {
            Ok(Buffer::new(self.door.clone(), self.door.alloc(bytes).map_err(failed)?))
        };
        let operand = |elements: usize, seed| -> Result<Buffer, OpError> {
            let buffer = memory(elements * 2)?;
            self.door
                .write(buffer.address(), &numbers(elements, 115..139, seed))
                .map_err(failed)?;
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
            return Ok(None);
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
        Ok(Some(results[0] == results[1]))
    }
}

/// bf16 numbers of both signs with exponent fields in `sizes`, some of them zeros, as bytes.
pub(super) fn numbers(count: usize, sizes: Range<u32>, seed: u32) -> Vec<u8> {
    let mut state = seed;
    let mut number = || {
        // A linear congruential generator (Knuth, TAOCP 2, 3.3.4): it need not be a good one.
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let bits = (state >> 8) as u16;
        let exponent = sizes.start + (state >> 24) % (sizes.end - sizes.start);
        if bits.is_multiple_of(37) { 0 } else { bits & 0x807f | (exponent << 7) as u16 }
    };
    (0..count).flat_map(|_| number().to_le_bytes()).collect()
}

/// Kernels by warp groups: three layouts of products; attention's forward pass with heads of 64 and of
/// 128, then its backward pass.
const KERNELS: usize = 7;
/// Bytes of a pair of maps.
const PAIR_BYTES: usize = 2 * 128;
/// Pairs kept: more than the products of the largest models.
const MAPS_AT_MOST: usize = 8192;
