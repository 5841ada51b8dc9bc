//! The inner loop of products alone, to be timed.

use half::bf16;

use super::kernel::Chains;
use super::kernel::Left;
use super::kernel::Right;
use super::pack::Head;
use super::pack::LeftMut;
use super::product::lanes;
use crate::backend::cpu::level::Level;
use crate::ops::TensorCore;

/// Packed factors of [`ROWS`] by `2·LEN` chains over [`DEPTH`].
pub(in crate::backend::cpu) struct Burst {
    level: Level,
    core: TensorCore,
    left: (Vec<f32>, Vec<u32>, Vec<u32>),
    right: (Vec<f32>, Vec<u32>, u32),
    out: Vec<f32>,
}

impl Burst {
    /// Numbers of about the size of a model's activations.
    pub fn new(level: Level, core: TensorCore) -> Self {
        let width = 2 * lanes(level);
        let number = |i: usize| bf16::from_f32((i * 7919 % 1021) as f32 / 510.5 - 0.999);
        let numbers: Vec<bf16> = (0..DEPTH * width.max(ROWS)).map(number).collect();
        let of = |rows| Head { data: &numbers, stride: DEPTH, rows, width: DEPTH };
        let mut left = (vec![0.0; ROWS * DEPTH], vec![0; ROWS * DEPTH], vec![0; ROWS]);
        let (data, fields, largest) = (&mut left.0, &mut left.1, &mut left.2);
        of(ROWS).left(level, LeftMut { data, fields, stride: DEPTH, largest });
        let mut right = (vec![0.0; DEPTH * width], vec![0; DEPTH * width / 2], 0);
        right.2 = of(width).panel_transposed(level, &mut right.0, &mut right.1);
        Self { level, core, left, right, out: vec![0.0; ROWS * width] }
    }

    /// Runs all chains from 0; FLOPs.
    pub fn run(&mut self) -> usize {
        let width = 2 * lanes(self.level);
        let (left, right) = (&self.left, &self.right);
        let left = Left { data: &left.0, fields: &left.1, stride: DEPTH, largest: &left.2 };
        let right = Right { data: &right.0, fields: &right.1, largest: right.2 };
        let chains = Chains { core: self.core, left, right, k: DEPTH, load: false };
        chains.run(self.level, &mut self.out, width);
        2 * ROWS * DEPTH * width
    }
}

const ROWS: usize = 8;
const DEPTH: usize = 128;
