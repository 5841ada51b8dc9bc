//! Placeholder, replaced by its owner.

use crate::ops::OpError;
#[allow(unused_imports)]
use crate::ops::cross_entropy::*;
#[allow(unused_imports)]
use crate::tensor::{View, ViewMut};

impl Kernel for super::Cpu {
    fn cross_entropy_forward(&self, _args: Forward<'_>) -> Result<(), OpError> {
        todo!()
    }
    fn cross_entropy_forward_backward(&self, _args: ForwardBackward<'_>) -> Result<(), OpError> {
        todo!()
    }
}
