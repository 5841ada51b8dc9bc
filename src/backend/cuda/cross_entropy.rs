//! Cross-entropy.

use super::Cuda;
use super::unbuilt;
use crate::ops::OpError;
use crate::ops::cross_entropy::Forward;
use crate::ops::cross_entropy::ForwardBackward;
use crate::ops::cross_entropy::Kernel;

impl Kernel for Cuda {
    fn cross_entropy_forward(&self, _: Forward<'_>) -> Result<(), OpError> {
        unbuilt("cross_entropy::forward")
    }

    fn cross_entropy_forward_backward(&self, _: ForwardBackward<'_>) -> Result<(), OpError> {
        unbuilt("cross_entropy::forward_backward")
    }
}
