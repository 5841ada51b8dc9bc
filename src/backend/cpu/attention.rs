//! Placeholder, replaced by its owner.

use crate::ops::OpError;
#[allow(unused_imports)]
use crate::ops::attention::*;
#[allow(unused_imports)]
use crate::tensor::{View, ViewMut};

impl Kernel for super::Cpu {
    fn attention_forward(&self, _args: Forward<'_>) -> Result<(), OpError> {
        todo!()
    }
    fn attention_backward(&self, _args: Backward<'_>) -> Result<(), OpError> {
        todo!()
    }
    fn attention_decode(&self, _args: Decode<'_>) -> Result<(), OpError> {
        todo!()
    }
}
