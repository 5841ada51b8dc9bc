//! Rotary positions, in place: heads of a row share one row of the tables.

use half::bf16;

use super::Cpu;
use super::activation::Activation;
use super::lanes::Lanes;
use super::level::at_level;
use crate::ops::OpError;
use crate::ops::host;
use crate::ops::host_mut;
use crate::ops::rope::Direction;
use crate::ops::rope::Kernel;
use crate::ops::rope::Rotate;
use crate::tensor::DType;

impl Kernel for Cpu {
    fn rope_rotate(&self, args: Rotate<'_>) -> Result<(), OpError> {
        match args.x.dtype() {
            DType::Bf16 => self.rope_rotate_of::<bf16>(args),
            _ => self.rope_rotate_of::<f32>(args),
        }
    }
}

impl Cpu {
    fn rope_rotate_of<E: Activation>(&self, args: Rotate<'_>) -> Result<(), OpError> {
        let [n, w] = [args.x.shape()[0], args.x.shape()[1]];
        let half = args.cos.shape()[1];
        let x: &mut [E] = host_mut("rope::rotate x", args.x)?;
        let cos: &[f32] = host("rope::rotate cos", args.cos)?;
        let sin: &[f32] = host("rope::rotate sin", args.sin)?;
        let columns = 2 * half * args.heads;
        if columns == 0 {
            return Ok(());
        }
        let sign = match args.direction {
            Direction::Forward => 1.0,
            Direction::Inverse => -1.0,
        };
        let (seq_len, first) = (args.seq_len, args.first_position);
        let tables = Tables { cos, sin, sign, half, heads: args.heads };
        let (level, tables) = (self.level(), &tables);
        let task = self.rows_per_task(n, columns);
        let items = x.chunks_mut(task * w).enumerate();
        self.for_each(n * columns, items, |(i, x)| {
            for (row, x) in (i * task..).zip(x.chunks_exact_mut(w)) {
                let position = first + row % seq_len;
                at_level!(level, rotate_row<E: Activation>(x: &mut [E], tables: &Tables<'_>, position: usize));
            }
        });
        Ok(())
    }
}

struct Tables<'a> {
    /// `(P, D/2)`.
    cos: &'a [f32],
    /// `(P, D/2)`.
    sin: &'a [f32],
    /// Factor of the sines.
    sign: f32,
    /// `D/2`.
    half: usize,
    /// Heads to rotate.
    heads: usize,
}

/// # Safety
/// `V`'s instruction set is available.
#[inline(always)]
unsafe fn rotate_row<V: Lanes, E: Activation>(x: &mut [E], tables: &Tables<'_>, position: usize) {
    let half = tables.half;
    let cos = tables.cos[position * half..][..half].as_ptr();
    let sin = tables.sin[position * half..][..half].as_ptr();
    // SAFETY: a head has `2 * half` elements, a row of the tables `half`; the rest is this
    // function's contract.
    unsafe {
        for head in x.chunks_exact_mut(2 * half).take(tables.heads) {
            let head = head.as_mut_ptr();
            match half {
                // Known extents unroll.
                16 => rotate_head::<V, E>(head, cos, sin, tables.sign, 16),
                32 => rotate_head::<V, E>(head, cos, sin, tables.sign, 32),
                64 => rotate_head::<V, E>(head, cos, sin, tables.sign, 64),
                _ => rotate_head::<V, E>(head, cos, sin, tables.sign, half),
            }
        }
    }
}

/// # Safety
/// `V`'s instruction set is available; `head` has `2 * half` elements, `cos` and `sin` `half`.
#[inline(always)]
unsafe fn rotate_head<V: Lanes, E: Activation>(
    head: *mut E,
    cos: *const f32,
    sin: *const f32,
    sign: f32,
    half: usize,
) {
    // SAFETY: offsets stay below `half`; the rest is this function's contract.
    unsafe {
        let sign = V::splat(sign);
        let (a, b) = (head, head.add(half));
        let mut i = 0;
        while i + V::LEN <= half {
            let turn = [V::load(cos.add(i)), V::load(sin.add(i)).mul(sign)];
            let [x, y] = rotated([E::load(a.add(i)), E::load(b.add(i))], turn);
            E::store(x, a.add(i));
            E::store(y, b.add(i));
            i += V::LEN;
        }
        let rest = half - i;
        if rest > 0 {
            let turn = [V::load_first(cos.add(i), rest), V::load_first(sin.add(i), rest).mul(sign)];
            let pair = [E::load_first(a.add(i), rest), E::load_first(b.add(i), rest)];
            let [x, y] = rotated(pair, turn);
            E::store_first(x, a.add(i), rest);
            E::store_first(y, b.add(i), rest);
        }
    }
}

/// # Safety
/// `V`'s instruction set is available.
#[inline(always)]
unsafe fn rotated<V: Lanes>([a, b]: [V; 2], [cos, sin]: [V; 2]) -> [V; 2] {
    // SAFETY: by this function's contract.
    unsafe {
        // A product with -1 negates zeros too, which a difference from 0 does not.
        let minus = b.mul(sin).mul(V::splat(-1.0));
        [a.fma(cos, minus), b.fma(cos, a.mul(sin))]
    }
}
