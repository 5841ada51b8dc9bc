//! Rotary positions, of the query and key heads of packed rows.

use neuroshard::ops::rope::*;

use crate::*;

/// Rotated heads and all heads of a row, head width: `tiny`, and the 1b preset's head.
const SHAPES: [[usize; 3]; 2] = [[8, 10, 64], [20, 25, 128]];
const SEQ_LEN: usize = 1024;

pub fn cases(size: Size) -> Vec<Case> {
    let mut cases = Vec::new();
    for [heads, all_heads, head_dim] in SHAPES {
        for direction in [Direction::Forward, Direction::Inverse] {
            let pass = if direction == Direction::Forward { "forward" } else { "inverse" };
            let width = all_heads * head_dim;
            let n = (size.rows(width, 1) / SEQ_LEN).max(1) * SEQ_LEN;
            let n = if size == Size::Tiny { 6 } else { n };
            let name = format!("{pass}/f32/{n}x{heads}of{all_heads}x{head_dim}");
            let work = Work::Bytes(2 * n * heads * head_dim * size_of::<f32>());
            let prepare = move || -> Body {
                let seq_len = SEQ_LEN.min(n);
                let table = [seq_len, head_dim / 2];
                let (mut x, mut cos, mut sin) =
                    (painted(&[n, width]), painted(&table), painted(&table));
                // True rotations, so that repeating them does not grow.
                for (c, s) in cos.host_mut::<f32>().iter_mut().zip(sin.host_mut::<f32>()) {
                    (*s, *c) = s.sin_cos();
                }
                Box::new(move |cpu| {
                    let (x, cos, sin) = (x.view_mut(), cos.view(), sin.view());
                    let args = Rotate { x, cos, sin, heads, seq_len, first_position: 0, direction };
                    rotate(cpu, args).unwrap();
                })
            };
            cases.push(Case { op: "rope", name, work, prepare: Box::new(prepare) });
        }
    }
    cases
}
