//! AdamW.

use super::Cuda;
use super::unbuilt;
use crate::ops::OpError;
use crate::ops::adamw::Kernel;
use crate::ops::adamw::Scalars;
use crate::ops::adamw::Tensors;

impl Kernel for Cuda {
    fn adamw_update(&self, _: &mut [Tensors<'_>], _: &Scalars) -> Result<(), OpError> {
        unbuilt("adamw::update")
    }
}
