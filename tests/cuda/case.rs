//! One operation on two devices: the same inputs, and outputs that must be the same bits.

use half::bf16;
use neuroshard::backend::cpu::Cpu;
use neuroshard::backend::cpu::Level;
use neuroshard::ops::Kernels;
use neuroshard::ops::Precision;
use neuroshard::ops::TensorCore;
use neuroshard::ops::elementwise;
use neuroshard::tensor::DType;
use neuroshard::tensor::Tensor;
use neuroshard::tensor::View;
use neuroshard::tensor::ViewMut;

use crate::core_of;
use crate::each_door;

/// Rows by columns, each for a reason.
pub const SHAPES: &[(usize, usize)] = &[
    (0, 8),    // nothing
    (1, 1),    // one
    (3, 7),    // below a run of 16 bytes
    (5, 8),    // at it
    (2, 17),   // above it, with a tail greater than one
    (4, 129),  // a turn of the f32 row sum's partials and one
    (3, 256),  // a turn of the bf16 row sum's
    (65, 264), // a group of rows of the weight's gradient and one; a row that is half a turn more
    (9, 768),  // a model's
];

/// Makes tensors on a device, and reads them.
pub struct Device<'a>(pub &'a dyn Kernels, pub TensorCore);

/// The profiles; `tc` as the device's cores compute it.
#[derive(Clone, Copy, Debug)]
pub enum Profile {
    F32,
    Bf16,
    Tc,
}

/// Bits of every element of some outputs.
pub type Bits = Vec<(&'static str, Vec<u32>)>;

impl Device<'_> {
    /// How products of a profile round here.
    pub fn precision(&self, profile: Profile) -> Precision {
        match profile {
            Profile::F32 => Precision::F32,
            Profile::Bf16 => Precision::Bf16,
            Profile::Tc => Precision::Tc(self.1),
        }
    }

    /// A tensor of `values`, rounded where `dtype` is bf16.
    pub fn put(&self, dtype: DType, shape: &[usize], values: &[f32]) -> Tensor {
        let mut tensor = self.0.zeros(dtype, shape).unwrap();
        let rounded: Vec<bf16> = values.iter().map(|&x| bf16::from_f32(x)).collect();
        let host = match dtype {
            DType::Bf16 => View::of(&rounded, shape),
            _ => View::of(values, shape),
        };
        elementwise::copy(self.0, tensor.view_mut(), host).unwrap();
        tensor
    }

    /// A tensor of tokens.
    pub fn tokens(&self, tokens: &[u32]) -> Tensor {
        let mut tensor = self.0.zeros(DType::U32, &[tokens.len()]).unwrap();
        elementwise::copy(self.0, tensor.view_mut(), View::of(tokens, &[tokens.len()])).unwrap();
        tensor
    }

    /// A tensor of NaN: an output that is to be overwritten.
    pub fn nans(&self, dtype: DType, shape: &[usize]) -> Tensor {
        self.put(dtype, shape, &vec![f32::NAN; shape.iter().product()])
    }

    /// The bits of every element.
    pub fn bits(&self, tensor: &Tensor) -> Vec<u32> {
        let (shape, len) = (tensor.shape(), tensor.shape().len());
        if tensor.dtype() == DType::Bf16 {
            let mut host = vec![bf16::ZERO; len];
            elementwise::copy(self.0, ViewMut::of(&mut host, &shape), tensor.view()).unwrap();
            return host.iter().map(|x| x.to_bits().into()).collect();
        }
        let mut host = vec![0.0f32; len];
        elementwise::copy(self.0, ViewMut::of(&mut host, &shape), tensor.view()).unwrap();
        host.iter().map(|x| x.to_bits()).collect()
    }
}

/// Runs `run` on the canonical CPU and on every CUDA device there is, and compares all outputs.
pub fn same(what: &str, run: impl Fn(&Device<'_>) -> Bits) {
    let cpu = Cpu::new(Level::PORTABLE, 1).unwrap();
    each_door(|cuda, door| {
        let core = core_of(cuda);
        let want = run(&Device(&cpu, core));
        for ((name, want), (_, got)) in want.iter().zip(run(&Device(cuda, core))) {
            let wrong = want.iter().zip(&got).position(|(want, got)| want != got);
            if let Some(i) = wrong {
                let count = want.iter().zip(&got).filter(|(want, got)| want != got).count();
                panic!(
                    "{door}: {what}: {name}[{i}] is {:08x}, the CPU has {:08x}; {count} of {} \
                     elements differ",
                    got[i],
                    want[i],
                    want.len()
                );
            }
            assert_eq!(want.len(), got.len(), "{door}: {what}: {name}");
        }
    });
}

/// `n` numbers of a prime period, of size up to 1, with some subnormal ones and zeros of both signs.
pub fn paint(n: usize, period: usize) -> Vec<f32> {
    let number = |i: usize| {
        let x = ((i * 7919 % period) as f32 + 0.5) / period as f32 * 2.0 - 1.0;
        match i * 31 % period {
            3 => x * 1e-39,
            5 => -0.0,
            7 => 0.0,
            11 => x * 1e-20,
            _ => x,
        }
    };
    (0..n).map(number).collect()
}

/// [`paint`] of normal size only: for operations whose sums a few tiny values do not matter to.
pub fn smooth(n: usize, period: usize) -> Vec<f32> {
    (0..n).map(|i| ((i * 7919 % period) as f32 + 0.5) / period as f32 * 2.0 - 1.0).collect()
}
