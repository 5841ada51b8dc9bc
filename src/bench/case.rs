//! One call of an operation at one shape: its tensors, and what it cannot do without.

use std::fmt;

use half::bf16;

use crate::crypto::Domain;
use crate::crypto::Hash;
use crate::crypto::Hasher;
use crate::ops::Kernels;
use crate::ops::OpError;
use crate::ops::Precision;
use crate::ops::elementwise;
use crate::tensor::DType;
use crate::tensor::HostBuffer;
use crate::tensor::Shape;
use crate::tensor::Tensor;

/// Calls the operation once on the case's tensors.
type Call = Box<dyn Fn(&dyn Kernels, &mut [Tensor]) -> Result<(), OpError>>;

/// One call of an operation at one shape.
pub struct Case {
    /// The operation, as its file is called.
    pub op: &'static str,
    /// `forward`, `backward`, or another of its functions.
    pub pass: &'static str,
    /// The profile it runs in. Row operations of `bf16` are those of `f32`.
    pub precision: Precision,
    /// Extents, as `--shape` takes them.
    pub shape: String,
    /// Where a model has it: `125m qkv`; empty for shapes that were asked for.
    pub place: String,
    /// FLOPs of one call.
    pub flops: u64,
    /// What limits it.
    pub bound: Bound,
    /// Its tensors.
    pub tensors: Vec<Spec>,
    /// Runs once before the first call, where inputs must fit together.
    setup: Option<Call>,
    call: Call,
}

/// What limits an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Bound {
    /// Memory: measured against a copy.
    Copy,
    /// Arithmetic: measured against multiply-adds of this precision.
    Products(Precision),
}

/// A tensor of a case.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Type of its elements.
    pub dtype: DType,
    /// Its extents.
    pub shape: Vec<usize>,
    /// What it holds before the first call.
    pub fill: Fill,
    /// What of it moves in a call.
    pub traffic: Traffic,
}

/// What a tensor holds before the first call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// Numbers in -1..1, of a prime period.
    Numbers,
    /// Their absolute values.
    Positive,
    /// Cosines of angles, to belong to [`Fill::Sines`].
    Cosines,
    /// Their sines.
    Sines,
    /// Tokens below this, in no order, some of them often, as text has them.
    Tokens(usize),
}

/// What of a tensor a call moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    /// All of it is read.
    Read,
    /// All of it is written.
    Written,
    /// All of it is read and written.
    Both,
    /// So many bytes.
    Bytes(usize),
}

/// A tensor that a call reads.
pub(super) fn read(dtype: DType, shape: &[usize]) -> Spec {
    Spec { dtype, shape: shape.to_vec(), fill: Fill::Numbers, traffic: Traffic::Read }
}

/// A tensor that a call overwrites.
pub(super) fn written(dtype: DType, shape: &[usize]) -> Spec {
    Spec { traffic: Traffic::Written, ..read(dtype, shape) }
}

/// A tensor that a call changes.
pub(super) fn both(dtype: DType, shape: &[usize]) -> Spec {
    Spec { traffic: Traffic::Both, ..read(dtype, shape) }
}

impl Spec {
    pub(super) fn filled(self, fill: Fill) -> Self {
        Self { fill, ..self }
    }

    pub(super) fn moving(self, bytes: usize) -> Self {
        Self { traffic: Traffic::Bytes(bytes), ..self }
    }

    /// Bytes that a call moves.
    pub fn bytes(&self) -> u64 {
        let all = self.shape.iter().product::<usize>() * self.dtype.size_bytes();
        let moved = match self.traffic {
            Traffic::Read | Traffic::Written => all,
            Traffic::Both => 2 * all,
            Traffic::Bytes(bytes) => bytes,
        };
        moved as u64
    }

    /// The tensor in the memory of `kernels`; `nth` tells tensors of one case apart.
    fn make(&self, kernels: &dyn Kernels, nth: usize) -> Result<Tensor, OpError> {
        let host = self.on_host(nth);
        let mut tensor = kernels.zeros(self.dtype, &self.shape)?;
        elementwise::copy(kernels, tensor.view_mut(), host.view())?;
        Ok(tensor)
    }

    fn on_host(&self, nth: usize) -> Tensor {
        let mut tensor = Tensor::zeros(self.dtype, &self.shape);
        let number = |i: usize| {
            let x = ((i + 31 * nth) % PERIOD * 7919 % PERIOD) as f32 / 510.5 - 0.999;
            match self.fill {
                Fill::Positive => x.abs(),
                Fill::Cosines => libm::cosf(i as f32),
                Fill::Sines => libm::sinf(i as f32),
                Fill::Numbers | Fill::Tokens(_) => x,
            }
        };
        // Only the first period is computed: some tensors have a thousand million elements.
        let numbers: Vec<f32> = (0..PERIOD).map(number).collect();
        match (self.dtype, self.fill) {
            (DType::U32, Fill::Tokens(vocab)) => {
                let vocab = vocab.max(1);
                for (i, token) in tensor.host_mut::<u32>().iter_mut().enumerate() {
                    *token = ((i * i + 13 * i) * 7919 % vocab) as u32;
                }
            }
            (DType::U32, _) => {}
            (DType::F32, _) => repeat(tensor.host_mut(), &numbers),
            (DType::Bf16, _) => {
                let numbers: Vec<bf16> = numbers.into_iter().map(bf16::from_f32).collect();
                repeat(tensor.host_mut(), &numbers);
            }
        }
        tensor
    }
}

fn repeat<T: Copy>(to: &mut [T], from: &[T]) {
    to.chunks_mut(from.len()).for_each(|chunk| chunk.copy_from_slice(&from[..chunk.len()]));
}

impl Case {
    /// A case of `tensors`, which `call` gets in this order. It has no place, and copies bound it.
    pub fn new<const N: usize>(
        (op, pass): (&'static str, &'static str),
        precision: Precision,
        shape: &[usize],
        tensors: [Spec; N],
        call: impl Fn(&dyn Kernels, [&mut Tensor; N]) -> Result<(), OpError> + 'static,
    ) -> Self {
        Self::of_many((op, pass), precision, shape, tensors.into(), named(call))
    }

    /// As [`Self::new`], of any number of tensors.
    pub fn of_many(
        (op, pass): (&'static str, &'static str),
        precision: Precision,
        shape: &[usize],
        tensors: Vec<Spec>,
        call: impl Fn(&dyn Kernels, &mut [Tensor]) -> Result<(), OpError> + 'static,
    ) -> Self {
        let extents: Vec<_> = shape.iter().map(usize::to_string).collect();
        let (shape, place, bound) = (extents.join("x"), String::new(), Bound::Copy);
        let call = Box::new(call);
        Self { op, pass, precision, shape, place, flops: 0, bound, tensors, setup: None, call }
    }

    /// With so many FLOPs.
    pub fn flops(self, flops: usize) -> Self {
        Self { flops: flops as u64, ..self }
    }

    /// Bound by arithmetic.
    pub fn products(self) -> Self {
        Self { bound: Bound::Products(self.precision), ..self }
    }

    /// At a place of a model.
    pub fn at(self, place: impl Into<String>) -> Self {
        Self { place: place.into(), ..self }
    }

    /// With `setup` before the first call.
    pub fn after<const N: usize>(
        self,
        setup: impl Fn(&dyn Kernels, [&mut Tensor; N]) -> Result<(), OpError> + 'static,
    ) -> Self {
        Self { setup: Some(Box::new(named(setup))), ..self }
    }

    /// Its profile's name, without the kind of tensor core.
    pub fn dtype(&self) -> &'static str {
        match self.precision {
            Precision::Tc(_) => "tc",
            Precision::F32 | Precision::Bf16 => self.precision.name(),
        }
    }

    /// Bytes that a call moves.
    pub fn bytes(&self) -> u64 {
        self.tensors.iter().map(Spec::bytes).sum()
    }

    /// Its tensors in the memory of `kernels`, filled.
    pub fn prepare<'a>(&'a self, kernels: &dyn Kernels) -> Result<Prepared<'a>, OpError> {
        let made = self.tensors.iter().enumerate().map(|(nth, spec)| spec.make(kernels, nth));
        let mut prepared = Prepared { case: self, tensors: made.collect::<Result<_, _>>()? };
        prepared.set_up(kernels)?;
        Ok(prepared)
    }
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}/{}", self.op, self.pass, self.dtype(), self.shape)
    }
}

/// A call that gets its tensors by name.
fn named<const N: usize>(
    call: impl Fn(&dyn Kernels, [&mut Tensor; N]) -> Result<(), OpError>,
) -> impl Fn(&dyn Kernels, &mut [Tensor]) -> Result<(), OpError> {
    move |kernels, tensors| match <&mut [Tensor; N]>::try_from(tensors) {
        Ok(tensors) => call(kernels, tensors.each_mut()),
        Err(_) => unreachable!("a case has as many tensors as its call takes"),
    }
}

/// A case with its tensors.
#[derive(Debug)]
pub struct Prepared<'a> {
    case: &'a Case,
    tensors: Vec<Tensor>,
}

impl Prepared<'_> {
    /// Calls the operation once.
    pub fn run(&mut self, kernels: &dyn Kernels) -> Result<(), OpError> {
        (self.case.call)(kernels, &mut self.tensors)
    }

    /// Fills the tensors anew.
    pub fn reset(&mut self, kernels: &dyn Kernels) -> Result<(), OpError> {
        for (nth, (spec, tensor)) in self.case.tensors.iter().zip(&mut self.tensors).enumerate() {
            elementwise::copy(kernels, tensor.view_mut(), spec.on_host(nth).view())?;
        }
        self.set_up(kernels)
    }

    fn set_up(&mut self, kernels: &dyn Kernels) -> Result<(), OpError> {
        match &self.case.setup {
            Some(setup) => setup(kernels, &mut self.tensors),
            None => Ok(()),
        }
    }

    /// A hash of every bit of every tensor.
    pub fn hash(&self, kernels: &dyn Kernels) -> Result<Hash, OpError> {
        let (mut hasher, mut room) = (Hasher::new(Domain::Bench), HostBuffer::zeroed(0));
        for tensor in &self.tensors {
            let shape = Shape::new(&[tensor.shape().len()]);
            let view = tensor.view().reshape(&shape);
            hasher.update(elementwise::on_host(kernels, view, &mut room)?);
        }
        Ok(hasher.finish())
    }
}

const PERIOD: usize = 1021;
