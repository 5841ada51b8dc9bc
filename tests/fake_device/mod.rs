//! A device that hides host memory: kernels of the CPU behind buffers that only they can open.
//!
//! What works with it takes no tensor for host memory. Operations refuse tensors of the host, as a
//! GPU would fault on them; only a copy may have one end there. Copies use no threads of the kernels,
//! because they may come from other threads.

mod link;

pub use link::Linked;

use std::any::Any;

use neuroshard::backend::cpu::Cpu;
use neuroshard::ops::{Kernels, OpError, Precision};
use neuroshard::ops::{adamw, attention, cross_entropy, digest, elementwise, embedding};
use neuroshard::ops::{matmul, norm, rmsnorm, rope, swiglu};
use neuroshard::tensor::{DType, DeviceBuffer, HostBuffer, Mem, MemMut, Tensor, View, ViewMut};

/// The device.
#[derive(Debug)]
pub struct FakeDevice(pub Cpu);

/// Memory of it.
#[derive(Debug)]
struct Hidden(HostBuffer);

impl DeviceBuffer for Hidden {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}

/// What a view of the device shows, for the CPU.
fn open(view: View<'_>) -> View<'_> {
    let Mem::Device { buffer, offset } = view.mem() else { panic!("an operation on host memory") };
    let Hidden(bytes) = buffer.as_any().downcast_ref().expect("this device's memory");
    let bytes = &bytes.bytes()[offset..offset + view.size_bytes()];
    View::new(Mem::Host(bytes), view.dtype(), view.shape())
}

/// As [`open`], to write.
fn open_mut(view: ViewMut<'_>) -> ViewMut<'_> {
    let (dtype, shape) = (view.dtype(), view.shape());
    let MemMut::Device { buffer, offset } = view.into_mem() else {
        panic!("an operation on host memory")
    };
    let Hidden(bytes) = buffer.as_any_mut().downcast_mut().expect("this device's memory");
    let bytes = &mut bytes.bytes_mut()[offset..offset + shape.len() * dtype.size_bytes()];
    ViewMut::new(MemMut::Host(bytes), dtype, shape)
}

impl Kernels for FakeDevice {
    fn describe(&self) -> String {
        "a fake device".into()
    }
    fn zeros(&self, dtype: DType, shape: &[usize]) -> Result<Tensor, OpError> {
        let size_bytes = shape.iter().product::<usize>() * dtype.size_bytes();
        Ok(Tensor::from_device(Box::new(Hidden(HostBuffer::zeroed(size_bytes))), dtype, shape))
    }
    fn peak_flops(&self, precision: Precision) -> f64 {
        self.0.peak_flops(precision)
    }
    fn enter(&self, work: &mut (dyn FnMut() + Send)) {
        self.0.enter(work);
    }
}

impl elementwise::Kernel for FakeDevice {
    fn elementwise_fill(&self, out: ViewMut<'_>, value: f32) -> Result<(), OpError> {
        self.0.elementwise_fill(open_mut(out), value)
    }
    fn elementwise_copy(&self, out: ViewMut<'_>, inp: View<'_>) -> Result<(), OpError> {
        let there = |mem: &Mem<'_>| matches!(mem, Mem::Device { .. });
        assert!(there(&out.as_view().mem()) || there(&inp.mem()), "a copy from host to host");
        let inp = if there(&inp.mem()) { open(inp) } else { inp };
        let out = if there(&out.as_view().mem()) { open_mut(out) } else { out };
        let (Mem::Host(from), MemMut::Host(to)) = (inp.mem(), out.into_mem()) else {
            unreachable!("opened")
        };
        to.copy_from_slice(from);
        Ok(())
    }
    fn elementwise_add(&self, out: ViewMut<'_>, inp: View<'_>) -> Result<(), OpError> {
        self.0.elementwise_add(open_mut(out), open(inp))
    }
    fn elementwise_round(&self, out: ViewMut<'_>, inp: View<'_>) -> Result<(), OpError> {
        self.0.elementwise_round(open_mut(out), open(inp))
    }
    fn elementwise_widen(&self, out: ViewMut<'_>, inp: View<'_>) -> Result<(), OpError> {
        self.0.elementwise_widen(open_mut(out), open(inp))
    }
    fn elementwise_first_non_finite(&self, inp: View<'_>) -> Result<Option<usize>, OpError> {
        self.0.elementwise_first_non_finite(open(inp))
    }
}

impl digest::Kernel for FakeDevice {
    fn digest_subtrees(&self, args: digest::Subtrees<'_>) -> Result<(), OpError> {
        self.0.digest_subtrees(digest::Subtrees { inp: open(args.inp), ..args })
    }
}

impl norm::Kernel for FakeDevice {
    fn norm_block_sums_of(&self, sums: &mut [f32], tensors: &[View<'_>]) -> Result<(), OpError> {
        let tensors: Vec<_> = tensors.iter().map(|&tensor| open(tensor)).collect();
        self.0.norm_block_sums_of(sums, &tensors)
    }
}

impl adamw::Kernel for FakeDevice {
    fn adamw_update(
        &self,
        tensors: &mut [adamw::Tensors<'_>],
        scalars: &adamw::Scalars,
    ) -> Result<(), OpError> {
        let opened = tensors.iter_mut().map(|tensor| adamw::Tensors {
            param: open_mut(tensor.param.reborrow()),
            m: open_mut(tensor.m.reborrow()),
            v: open_mut(tensor.v.reborrow()),
            grad: open(tensor.grad),
            copy: tensor.copy.as_mut().map(|copy| open_mut(copy.reborrow())),
            decay: tensor.decay,
        });
        self.0.adamw_update(&mut opened.collect::<Vec<_>>(), scalars)
    }
}

impl embedding::Kernel for FakeDevice {
    fn embedding_forward(&self, args: embedding::Forward<'_>) -> Result<(), OpError> {
        let embedding::Forward { out, tokens, table } = args;
        let (out, tokens, table) = (open_mut(out), open(tokens), open(table));
        self.0.embedding_forward(embedding::Forward { out, tokens, table })
    }
    fn embedding_backward(&self, args: embedding::Backward<'_>) -> Result<(), OpError> {
        let embedding::Backward { dtable, tokens, dout } = args;
        let (dtable, tokens, dout) = (open_mut(dtable), open(tokens), open(dout));
        self.0.embedding_backward(embedding::Backward { dtable, tokens, dout })
    }
}

impl rmsnorm::Kernel for FakeDevice {
    fn rmsnorm_forward(&self, args: rmsnorm::Forward<'_>) -> Result<(), OpError> {
        let rmsnorm::Forward { out, rstd, inp, weight, eps } = args;
        let (out, rstd, inp, weight) = (open_mut(out), open_mut(rstd), open(inp), open(weight));
        self.0.rmsnorm_forward(rmsnorm::Forward { out, rstd, inp, weight, eps })
    }
    fn rmsnorm_forward_residual(&self, args: rmsnorm::ForwardResidual<'_>) -> Result<(), OpError> {
        self.0.rmsnorm_forward_residual(rmsnorm::ForwardResidual {
            out: open_mut(args.out),
            rstd: open_mut(args.rstd),
            sum: open_mut(args.sum),
            residual: open(args.residual),
            inp: open(args.inp),
            weight: open(args.weight),
            eps: args.eps,
        })
    }
    fn rmsnorm_backward(&self, args: rmsnorm::Backward<'_>) -> Result<(), OpError> {
        self.0.rmsnorm_backward(rmsnorm::Backward {
            dinp: open_mut(args.dinp),
            dweight: open_mut(args.dweight),
            dout: open(args.dout),
            inp: open(args.inp),
            weight: open(args.weight),
            rstd: open(args.rstd),
        })
    }
}

impl rope::Kernel for FakeDevice {
    fn rope_rotate(&self, args: rope::Rotate<'_>) -> Result<(), OpError> {
        let (x, cos, sin) = (open_mut(args.x), open(args.cos), open(args.sin));
        self.0.rope_rotate(rope::Rotate { x, cos, sin, ..args })
    }
}

impl swiglu::Kernel for FakeDevice {
    fn swiglu_forward(&self, args: swiglu::Forward<'_>) -> Result<(), OpError> {
        let (out, inp) = (open_mut(args.out), open(args.inp));
        self.0.swiglu_forward(swiglu::Forward { out, inp })
    }
    fn swiglu_backward(&self, args: swiglu::Backward<'_>) -> Result<(), OpError> {
        let (dinp, dout, inp) = (open_mut(args.dinp), open(args.dout), open(args.inp));
        self.0.swiglu_backward(swiglu::Backward { dinp, dout, inp })
    }
}

impl cross_entropy::Kernel for FakeDevice {
    fn cross_entropy_forward(&self, args: cross_entropy::Forward<'_>) -> Result<(), OpError> {
        let cross_entropy::Forward { losses, logits, targets } = args;
        let (losses, logits, targets) = (open_mut(losses), open(logits), open(targets));
        self.0.cross_entropy_forward(cross_entropy::Forward { losses, logits, targets })
    }
    fn cross_entropy_forward_backward(
        &self,
        args: cross_entropy::ForwardBackward<'_>,
    ) -> Result<(), OpError> {
        self.0.cross_entropy_forward_backward(cross_entropy::ForwardBackward {
            losses: open_mut(args.losses),
            logits: open_mut(args.logits),
            targets: open(args.targets),
            scale: args.scale,
        })
    }
}

impl matmul::Kernel for FakeDevice {
    fn matmul_forward(&self, args: matmul::Forward<'_>) -> Result<(), OpError> {
        let (out, inp, weight) = (open_mut(args.out), open(args.inp), open(args.weight));
        self.0.matmul_forward(matmul::Forward { out, inp, weight, ..args })
    }
    fn matmul_backward_input(&self, args: matmul::BackwardInput<'_>) -> Result<(), OpError> {
        let (dinp, dout, weight) = (open_mut(args.dinp), open(args.dout), open(args.weight));
        self.0.matmul_backward_input(matmul::BackwardInput { dinp, dout, weight, ..args })
    }
    fn matmul_backward_weight(&self, args: matmul::BackwardWeight<'_>) -> Result<(), OpError> {
        let (dweight, dout, inp) = (open_mut(args.dweight), open(args.dout), open(args.inp));
        self.0.matmul_backward_weight(matmul::BackwardWeight { dweight, dout, inp, ..args })
    }
}

impl attention::Kernel for FakeDevice {
    fn attention_forward(&self, args: attention::Forward<'_>) -> Result<(), OpError> {
        let (out, lse, qkv) = (open_mut(args.out), open_mut(args.lse), open(args.qkv));
        self.0.attention_forward(attention::Forward { out, lse, qkv, ..args })
    }
    fn attention_backward(&self, args: attention::Backward<'_>) -> Result<(), OpError> {
        self.0.attention_backward(attention::Backward {
            dqkv: open_mut(args.dqkv),
            dout: open(args.dout),
            out: open(args.out),
            lse: open(args.lse),
            qkv: open(args.qkv),
            ..args
        })
    }
    fn attention_append(&self, args: attention::Append<'_>) -> Result<(), OpError> {
        let (cache, qkv) = (open_mut(args.cache), open(args.qkv));
        self.0.attention_append(attention::Append { cache, qkv })
    }
    fn attention_decode(&self, args: attention::Decode<'_>) -> Result<(), OpError> {
        let (out, qkv, cache) = (open_mut(args.out), open(args.qkv), open(args.cache));
        self.0.attention_decode(attention::Decode { out, qkv, cache, ..args })
    }
}
