//! Placeholder, replaced by its owner.

use crate::ops::OpError;
#[allow(unused_imports)]
use crate::ops::adamw::*;
#[allow(unused_imports)]
use crate::tensor::{View, ViewMut};

impl Kernel for super::Cpu {
    fn adamw_step(&self, _args: Step<'_>) -> Result<(), OpError> {
        todo!()
    }
}
