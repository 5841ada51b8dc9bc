//! Attention.

use super::Cuda;
use super::unbuilt;
use crate::ops::OpError;
use crate::ops::attention::Append;
use crate::ops::attention::Backward;
use crate::ops::attention::Decode;
use crate::ops::attention::Forward;
use crate::ops::attention::Kernel;

impl Kernel for Cuda {
    fn attention_forward(&self, _: Forward<'_>) -> Result<(), OpError> {
        unbuilt("attention::forward")
    }

    fn attention_backward(&self, _: Backward<'_>) -> Result<(), OpError> {
        unbuilt("attention::backward")
    }

    fn attention_append(&self, _: Append<'_>) -> Result<(), OpError> {
        unbuilt("attention::append")
    }

    fn attention_decode(&self, _: Decode<'_>) -> Result<(), OpError> {
        unbuilt("attention::decode")
    }
}
