//! Random products on a device against the model of docs/ARITHMETIC.md, section 16.2, bit by bit.
//!
//! Most are weight gradients, which are chains left unrounded in f32; some run through the two
//! layouts that round to bf16. Inputs come in classes, each of which reaches another clause.

use half::bf16;

use crate::ops::Kernels;
use crate::ops::OpError;
use crate::ops::Precision;
use crate::ops::TensorCore;
use crate::ops::elementwise;
use crate::ops::matmul::*;
use crate::rng::Address;
use crate::rng::Purpose;
use crate::tensor::DType;
use crate::tensor::HostBuffer;
use crate::tensor::Tensor;

/// What the inputs are like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Any finite bits: exponents from end to end.
    Wide,
    /// Exponents within 16 of each other, where every term counts.
    Near,
    /// Zeros of both signs and subnormals among near ones.
    Small,
    /// Every odd row of one factor is the negative of the row before, and the other factor's the
    /// same but for some last bits.
    Cancelling,
    /// Infinities and NaNs among wide ones.
    Special,
}

/// How one class came out.
#[derive(Clone, Debug)]
pub struct Tally {
    /// The class.
    pub class: Class,
    /// Outputs compared.
    pub outputs: u64,
    /// Outputs with other bits.
    pub different: u64,
    /// The first of them, in words.
    pub first: Option<String>,
}

/// All classes.
pub const CLASSES: [Class; 5] =
    [Class::Wide, Class::Near, Class::Small, Class::Cancelling, Class::Special];

/// Compares at least `outputs` outputs of a device with those of the model, each with the tensor
/// core that it is to be. `told` hears how many are done, and may end it by returning false.
pub fn compare(
    device: (&dyn Kernels, TensorCore),
    model: (&dyn Kernels, TensorCore),
    outputs: u64,
    told: &mut dyn FnMut(u64) -> bool,
) -> Result<Vec<Tally>, OpError> {
    let tally = |class| Tally { class, outputs: 0, different: 0, first: None };
    let mut tallies = CLASSES.map(tally).to_vec();
    let (mut done, mut round) = (0, 0);
    // One round of each class at least, however few outputs are asked for.
    while (done < outputs || round < CLASSES.len()) && told(done) {
        let tally = &mut tallies[round % CLASSES.len()];
        let (layout, depth) = (round / CLASSES.len(), round / (3 * CLASSES.len()));
        let side = side(outputs);
        let product = Product {
            layout: LAYOUTS[layout % LAYOUTS.len()],
            side,
            depth: DEPTHS[depth % DEPTHS.len()],
        };
        let inputs = product.inputs(tally.class, round as u64);
        let here = product.run(device, &inputs)?;
        let there = product.run(model, &inputs)?;
        let width = product.width();
        for (i, (a, b)) in here.chunks(width).zip(there.chunks(width)).enumerate() {
            if a != b {
                tally.different += 1;
                tally.first.get_or_insert_with(|| {
                    let (row, column, depth) = (i / side, i % side, product.depth);
                    let layout = product.layout;
                    format!(
                        "round {round}, {layout:?}, K = {depth}, output ({row}, {column}): {a:02x?} \
                         and by the model {b:02x?}, least significant byte first"
                    )
                });
            }
        }
        tally.outputs += (side * side) as u64;
        done += (side * side) as u64;
        round += 1;
    }
    Ok(tallies)
}

/// A layout of matrix products.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    Weight,
    Forward,
    Input,
}

/// Square products of one shape.
struct Product {
    layout: Layout,
    /// Rows and columns of the output.
    side: usize,
    /// K.
    depth: usize,
}

impl Product {
    /// Both factors, `(K, side)` in [`Layout::Weight`], else as the layout wants them.
    fn inputs(&self, class: Class, round: u64) -> [Tensor; 2] {
        let (k, side) = (self.depth, self.side);
        // Rows of `(K, side)`, so that a chain runs down a column.
        let mut down = [0, 1].map(|factor| numbers(class, 2 * round + factor, k * side));
        if class == Class::Cancelling {
            for row in (1..k).step_by(2) {
                for i in 0..side {
                    let (at, before) = (row * side + i, (row - 1) * side + i);
                    down[0][at] = -down[0][before];
                    // Own bits decide where the last bit is another one.
                    let flip = down[1][at].to_bits() & 1;
                    down[1][at] = bf16::from_bits(down[1][before].to_bits() ^ flip);
                }
            }
        }
        let [a, b] = down;
        match self.layout {
            Layout::Weight => {
                [Tensor::from_slice(&a, &[k, side]), Tensor::from_slice(&b, &[k, side])]
            }
            Layout::Forward => [across(&a, k, side), across(&b, k, side)],
            Layout::Input => [across(&a, k, side), Tensor::from_slice(&b, &[k, side])],
        }
    }

    /// The output's bytes, computed by `kernels`.
    fn run(
        &self,
        (kernels, core): (&dyn Kernels, TensorCore),
        inputs: &[Tensor; 2],
    ) -> Result<Vec<u8>, OpError> {
        let mut there = Vec::new();
        for inp in inputs {
            let mut tensor = kernels.zeros(inp.dtype(), &inp.shape())?;
            elementwise::copy(kernels, tensor.view_mut(), inp.view())?;
            there.push(tensor);
        }
        let precision = Precision::Tc(core);
        let dtype = if self.layout == Layout::Weight { DType::F32 } else { DType::Bf16 };
        let mut out = kernels.zeros(dtype, &[self.side, self.side])?;
        let (a, b) = (there[0].view(), there[1].view());
        match self.layout {
            Layout::Weight => {
                let (dweight, start) = (out.view_mut(), Start::Zero);
                let args = BackwardWeight { dweight, dout: a, inp: b, precision, start };
                backward_weight(kernels, args)?;
            }
            Layout::Forward => {
                forward(kernels, Forward { out: out.view_mut(), inp: a, weight: b, precision })?;
            }
            Layout::Input => {
                let args = BackwardInput { dinp: out.view_mut(), dout: a, weight: b, precision };
                backward_input(kernels, args)?;
            }
        }
        let mut room = HostBuffer::zeroed(0);
        Ok(elementwise::on_host(kernels, out.view(), &mut room)?.to_vec())
    }

    /// Bytes of an output.
    fn width(&self) -> usize {
        if self.layout == Layout::Weight { 4 } else { 2 }
    }
}

/// `(K, side)` as `(side, K)`.
fn across(down: &[bf16], k: usize, side: usize) -> Tensor {
    let turned: Vec<_> = (0..side * k).map(|i| down[i % k * side + i / k]).collect();
    Tensor::from_slice(&turned, &[side, k])
}

/// `count` random numbers of a class.
fn numbers(class: Class, step: u64, count: usize) -> Vec<bf16> {
    let mut numbers = Vec::with_capacity(count.next_multiple_of(8));
    let address = Address { seed: SEED, purpose: Purpose::Test, step, index: 0 };
    for index in 0..count.div_ceil(8) as u64 {
        for word in address.at(index).words() {
            numbers.extend([number(class, word as u16), number(class, (word >> 16) as u16)]);
        }
    }
    numbers.truncate(count);
    numbers
}

/// A number of a class from 16 random bits.
fn number(class: Class, bits: u16) -> bf16 {
    const EXPONENT: u16 = 0x7f80;
    let finite = |bits: u16| if bits & EXPONENT == EXPONENT { bits ^ 0x4000 } else { bits };
    // Exponents 120..=135 about that of one, by four of the bits.
    let near = |bits: u16| bits & 0x807f | (120 + (bits >> 7 & 15)) << 7;
    let bits = match class {
        Class::Wide => finite(bits),
        Class::Near | Class::Cancelling => near(bits),
        Class::Small => match bits >> 12 & 7 {
            0 | 1 => bits & 0x8000,
            2 | 3 => bits & 0x807f,
            _ => near(bits),
        },
        Class::Special if bits >> 7 & 63 == 0 => bits & 0x8001 | EXPONENT,
        Class::Special => finite(bits),
    };
    bf16::from_bits(bits)
}

/// Rows and columns of an output: so few that a small number of outputs stays small.
fn side(outputs: u64) -> usize {
    if outputs < 1 << 20 { 40 } else { 512 }
}

/// Two unrounded products for each rounded one of either layout.
const LAYOUTS: [Layout; 4] = [Layout::Weight, Layout::Forward, Layout::Weight, Layout::Input];
/// Whole groups, parts of one, and chains of some.
const DEPTHS: [usize; 7] = [16, 32, 8, 64, 24, 200, 128];
const SEED: u64 = 0x7ec0;
