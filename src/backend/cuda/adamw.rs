//! AdamW.

use super::Cuda;
use super::unbuilt;
use crate::ops::OpError;
use crate::ops::adamw::Kernel;
use crate::ops::adamw::Step;

impl Kernel for Cuda {
    fn adamw_step(&self, _: Step<'_>) -> Result<(), OpError> {
        unbuilt("adamw::step")
    }
}
