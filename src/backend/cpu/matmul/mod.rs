//! Matrix products: both operands packed into panels, a register tile run over them.
//!
//! The bf16 profile uses the kernel of the f32 one: packing rounds to bf16 (kept as f32), and the
//! chain takes the odd element of each pair first, with subnormal numbers flushed to zero. At the
//! level `avx512bf16` packing keeps pairs of bf16, and `vdpbf16ps` continues chains by two elements
//! at once: the same bits, twice the speed or half of it, by the CPU (see `pairs`). Products of the
//! `tc` profile are `tc`'s.

mod kernel;
mod pack;
#[cfg(target_arch = "x86_64")]
pub(super) mod pairs;
mod product;

use super::tc;
use crate::ops::OpError;
use crate::ops::Precision;
use crate::ops::host;
use crate::ops::host_mut;
use crate::ops::matmul::BackwardInput;
use crate::ops::matmul::BackwardWeight;
use crate::ops::matmul::Forward;
use crate::ops::matmul::Kernel;
use crate::ops::matmul::Start;
use product::Operand;
use product::Product;

impl Kernel for super::Cpu {
    fn matmul_forward(&self, args: Forward<'_>) -> Result<(), OpError> {
        if let Precision::Tc(core) = args.precision {
            return tc::forward(self, core, args);
        }
        let (inner, outer) = (args.weight.shape()[1], args.weight.shape()[0]);
        let a = Operand::rows_by_k(host("matmul::forward inp", args.inp)?, inner);
        let b = Operand::rows_by_k(host("matmul::forward weight", args.weight)?, inner);
        let out = host_mut("matmul::forward out", args.out)?;
        let product = Product { a, b, k: inner, precision: args.precision, start: Start::Zero };
        self.run(|| product.run(self.level(), out, outer));
        Ok(())
    }

    fn matmul_backward_input(&self, args: BackwardInput<'_>) -> Result<(), OpError> {
        if let Precision::Tc(core) = args.precision {
            return tc::backward_input(self, core, args);
        }
        let (inner, outer) = (args.weight.shape()[1], args.weight.shape()[0]);
        let a = Operand::rows_by_k(host("matmul::backward_input dout", args.dout)?, outer);
        let b = Operand::k_by_rows(host("matmul::backward_input weight", args.weight)?, inner);
        let out = host_mut("matmul::backward_input dinp", args.dinp)?;
        let product = Product { a, b, k: outer, precision: args.precision, start: Start::Zero };
        self.run(|| product.run(self.level(), out, inner));
        Ok(())
    }

    fn matmul_backward_weight(&self, args: BackwardWeight<'_>) -> Result<(), OpError> {
        if let Precision::Tc(core) = args.precision {
            return tc::backward_weight(self, core, args);
        }
        let (inner, outer) = (args.inp.shape()[1], args.dout.shape()[1]);
        let n = args.inp.shape()[0];
        let a = Operand::k_by_rows(host("matmul::backward_weight dout", args.dout)?, outer);
        let b = Operand::k_by_rows(host("matmul::backward_weight inp", args.inp)?, inner);
        let out = host_mut("matmul::backward_weight dweight", args.dweight)?;
        let product = Product { a, b, k: n, precision: args.precision, start: args.start };
        self.run(|| product.run(self.level(), out, inner));
        Ok(())
    }
}
