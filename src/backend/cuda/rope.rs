//! Rotary positions.

use super::Cuda;
use super::unbuilt;
use crate::ops::OpError;
use crate::ops::rope::Kernel;
use crate::ops::rope::Rotate;

impl Kernel for Cuda {
    fn rope_rotate(&self, _: Rotate<'_>) -> Result<(), OpError> {
        unbuilt("rope::rotate")
    }
}
