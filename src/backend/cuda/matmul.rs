//! Matrix products.

use super::Cuda;
use super::unbuilt;
use crate::ops::OpError;
use crate::ops::matmul::BackwardInput;
use crate::ops::matmul::BackwardWeight;
use crate::ops::matmul::Forward;
use crate::ops::matmul::Kernel;

impl Kernel for Cuda {
    fn matmul_forward(&self, _: Forward<'_>) -> Result<(), OpError> {
        unbuilt("matmul::forward")
    }

    fn matmul_backward_input(&self, _: BackwardInput<'_>) -> Result<(), OpError> {
        unbuilt("matmul::backward_input")
    }

    fn matmul_backward_weight(&self, _: BackwardWeight<'_>) -> Result<(), OpError> {
        unbuilt("matmul::backward_weight")
    }
}
