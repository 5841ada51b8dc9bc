//! Rows of a table.

use super::Cuda;
use super::unbuilt;
use crate::ops::OpError;
use crate::ops::embedding::Backward;
use crate::ops::embedding::Forward;
use crate::ops::embedding::Kernel;

impl Kernel for Cuda {
    fn embedding_forward(&self, _: Forward<'_>) -> Result<(), OpError> {
        unbuilt("embedding::forward")
    }

    fn embedding_backward(&self, _: Backward<'_>) -> Result<(), OpError> {
        unbuilt("embedding::backward")
    }
}
