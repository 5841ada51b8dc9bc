//! Placeholder, replaced by its owner.

use crate::ops::OpError;
#[allow(unused_imports)]
use crate::ops::matmul::*;
#[allow(unused_imports)]
use crate::tensor::{View, ViewMut};

impl Kernel for super::Cpu {
    fn matmul_forward(&self, _args: Forward<'_>) -> Result<(), OpError> {
        todo!()
    }
    fn matmul_backward_input(&self, _args: BackwardInput<'_>) -> Result<(), OpError> {
        todo!()
    }
    fn matmul_backward_weight(&self, _args: BackwardWeight<'_>) -> Result<(), OpError> {
        todo!()
    }
}
