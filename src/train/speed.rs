//! What the device can do, for the `mfu` column.

use std::time::Instant;

use crate::ops::Kernels;
use crate::ops::OpError;
use crate::ops::Precision;
use crate::ops::matmul;
use crate::tensor::DType;

/// FLOP/s of the fastest of a few matrix products that fit the cache: the yardstick of `mfu`.
/// Takes some 30 ms.
pub fn matmul_peak(kernels: &dyn Kernels, precision: Precision) -> Result<f64, OpError> {
    let shape = [EXTENT, EXTENT];
    let mut out = kernels.zeros(DType::F32, &shape)?;
    let inp = kernels.zeros(DType::F32, &shape)?;
    let weight = kernels.zeros(DType::F32, &shape)?;
    let started = Instant::now();
    let mut best = f64::INFINITY;
    while started.elapsed().as_secs_f64() < SECONDS || best == f64::INFINITY {
        let once = Instant::now();
        let (out, inp, weight) = (out.view_mut(), inp.view(), weight.view());
        matmul::forward(kernels, matmul::Forward { out, inp, weight, precision })?;
        best = best.min(once.elapsed().as_secs_f64());
    }
    Ok(2.0 * (EXTENT as f64).powi(3) / best)
}

const EXTENT: usize = 512;
const SECONDS: f64 = 0.03;
