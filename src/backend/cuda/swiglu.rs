//! SwiGLU.

use super::Cuda;
use super::unbuilt;
use crate::ops::OpError;
use crate::ops::swiglu::Backward;
use crate::ops::swiglu::Forward;
use crate::ops::swiglu::Kernel;

impl Kernel for Cuda {
    fn swiglu_forward(&self, _: Forward<'_>) -> Result<(), OpError> {
        unbuilt("swiglu::forward")
    }

    fn swiglu_backward(&self, _: Backward<'_>) -> Result<(), OpError> {
        unbuilt("swiglu::backward")
    }
}
