//! Attention: plain FMAs in `f32` and `bf16`, tensor cores in `tc`.

mod backward;
mod plain;
mod tensor_cores;

use super::Cuda;
use crate::ops::OpError;
use crate::ops::Precision;
use crate::ops::attention::Append;
use crate::ops::attention::Backward;
use crate::ops::attention::Decode;
use crate::ops::attention::Forward;
use crate::ops::attention::Kernel;
use crate::tensor::DType;

impl Kernel for Cuda {
    fn attention_forward(&self, args: Forward<'_>) -> Result<(), OpError> {
        match args.precision {
            Precision::F32 | Precision::Bf16 => self.plain_forward(args),
            Precision::Tc(core) => {
                self.expect_core("attention::forward", core)?;
                self.tc_forward(args)
            }
        }
    }

    fn attention_backward(&self, args: Backward<'_>) -> Result<(), OpError> {
        match args.precision {
            Precision::F32 | Precision::Bf16 => self.plain_backward(args),
            Precision::Tc(core) => {
                self.expect_core("attention::backward", core)?;
                self.tc_backward(args)
            }
        }
    }

    fn attention_append(&self, mut args: Append<'_>) -> Result<(), OpError> {
        let t = self.activations("attention::append qkv", args.qkv.dtype())?;
        let [rows, width] = [args.cache.shape()[0], args.cache.shape()[1]];
        let row = args.qkv.shape()[1];
        let cache = self.at_mut("attention::append cache", &mut args.cache, t)?;
        let qkv = self.at("attention::append qkv", args.qkv, t)?;
        let kernel = match t {
            DType::Bf16 => "attention_append_bf16",
            _ => "attention_append_f32",
        };
        let call = self.kernel("attention::append", kernel).grid([rows, 1, 1]).block([256, 1, 1]);
        call.pointer(cache).pointer(qkv).extent(width).extent(row).launch()
    }

    fn attention_decode(&self, args: Decode<'_>) -> Result<(), OpError> {
        match args.precision {
            Precision::F32 | Precision::Bf16 => self.plain_decode(args),
            Precision::Tc(core) => {
                self.expect_core("attention::decode", core)?;
                self.tc_decode(args)
            }
        }
    }
}
