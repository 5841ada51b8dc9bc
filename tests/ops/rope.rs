//! Rotary positions.

use neuroshard::ops::OpError;
use neuroshard::ops::rope::*;
use neuroshard::tensor::DType;
use neuroshard::tensor::Element;
use neuroshard::tensor::View;
use neuroshard::tensor::ViewMut;

use crate::*;

#[derive(Clone, Copy, Debug)]
struct Shape {
    sequences: usize,
    seq_len: usize,
    heads: usize,
    half: usize,
    /// Columns after the rotated ones.
    others: usize,
    first_position: usize,
}

const fn shape(dims: [usize; 6]) -> Shape {
    let [sequences, seq_len, heads, half, others, first_position] = dims;
    Shape { sequences, seq_len, heads, half, others, first_position }
}

const ROPE_SHAPES: &[Shape] = &[
    shape([0, 3, 2, 4, 1, 0]),     // nothing
    shape([1, 1, 1, 1, 0, 0]),     // one pair
    shape([2, 3, 0, 4, 5, 0]),     // no head
    shape([1, 5, 3, 3, 7, 2]),     // an odd half, below a vector
    shape([2, 3, 2, 8, 0, 1]),     // a vector of eight
    shape([2, 7, 3, 16, 5, 0]),    // heads of 32
    shape([1, 9, 2, 17, 3, 4]),    // above a vector
    shape([1, 4, 2, 31, 1, 0]),    // a tail greater than one
    shape([2, 129, 5, 32, 64, 0]), // heads of 64
    shape([3, 67, 3, 64, 128, 9]), // heads of 128
    shape([1, 61, 4, 48, 31, 3]),  // heads of 96, rows of an odd width
];

impl Shape {
    fn rows(&self) -> usize {
        self.sequences * self.seq_len
    }

    fn width(&self) -> usize {
        2 * self.half * self.heads + self.others
    }

    fn positions(&self) -> usize {
        self.first_position + self.seq_len + 1
    }

    /// x, cos, sin.
    fn inputs(&self) -> [Vec<f32>; 3] {
        let x = paint_wild(self.rows() * self.width(), 251, 1e4);
        let angle = |i: usize| {
            let (p, i) = (i / self.half, i % self.half);
            p as f64 * 10_000f64.powf(-(i as f64) / self.half as f64)
        };
        let table = |f: fn(f64) -> f64| {
            (0..self.positions() * self.half).map(|i| f(angle(i)) as f32).collect()
        };
        [x, table(f64::cos), table(f64::sin)]
    }

    /// Calls `f(a, b, table)` for every pair: indices of its elements, and of its angle.
    fn each_pair(&self, mut f: impl FnMut(usize, usize, usize)) {
        for row in 0..self.rows() {
            let position = self.first_position + row % self.seq_len;
            for head in 0..self.heads {
                for i in 0..self.half {
                    let a = row * self.width() + head * 2 * self.half + i;
                    f(a, a + self.half, position * self.half + i);
                }
            }
        }
    }

    fn run<E: Element>(&self, cpu: &Cpu, x: &mut [E], tables: [&[f32]; 2], direction: Direction) {
        let table = [self.positions(), self.half];
        rotate(
            cpu,
            Rotate {
                x: ViewMut::of(x, &[self.rows(), self.width()]),
                cos: View::of(tables[0], &table),
                sin: View::of(tables[1], &table),
                heads: self.heads,
                seq_len: self.seq_len,
                first_position: self.first_position,
                direction,
            },
        )
        .unwrap();
    }
}

#[test]
fn rotations_keep_the_contract() {
    for shape in ROPE_SHAPES {
        let [x, cos, sin] = shape.inputs();
        for direction in [Direction::Forward, Direction::Inverse] {
            let sign = if direction == Direction::Forward { 1.0 } else { -1.0 };
            let (mut want, mut exact) =
                (x.clone(), Vec::from_iter(x.iter().map(|&x| f64::from(x))));
            shape.each_pair(|a, b, at| {
                let (c, s) = (cos[at], sign * sin[at]);
                (want[a], want[b]) = (x[a].mul_add(c, -(x[b] * s)), x[b].mul_add(c, x[a] * s));
                let (c, s) = (f64::from(c), f64::from(s));
                let (xa, xb) = (f64::from(x[a]), f64::from(x[b]));
                (exact[a], exact[b]) = (xa * c - xb * s, xb * c + xa * s);
            });
            each_cpu(|cpu, name| {
                let mut got = x.clone();
                shape.run(cpu, &mut got, [&cos, &sin], direction);
                assert_bits(&format!("{shape:?}, {direction:?}, {name}"), &got, &want);
            });
            assert_close("formula", &want, &exact, 1e-7, 1e4);
        }
    }
}

#[test]
fn bf16_is_widened_and_rounded() {
    for shape in ROPE_SHAPES {
        let [x, cos, sin] = shape.inputs();
        let x = narrow(&x);
        for direction in [Direction::Forward, Direction::Inverse] {
            let sign = if direction == Direction::Forward { 1.0 } else { -1.0 };
            let (before, mut want) = (widened(&x), widened(&x));
            let mut exact = wide(&want);
            shape.each_pair(|a, b, at| {
                let (c, s, xa, xb) = (cos[at], sign * sin[at], before[a], before[b]);
                (want[a], want[b]) = (xa.mul_add(c, -(xb * s)), xb.mul_add(c, xa * s));
                let [c, s, xa, xb] = [c, s, xa, xb].map(f64::from);
                (exact[a], exact[b]) = (xa * c - xb * s, xb * c + xa * s);
            });
            let want = rounded(want);
            each_cpu(|cpu, name| {
                let mut got = x.clone();
                shape.run(cpu, &mut got, [&cos, &sin], direction);
                let what = format!("{shape:?}, {direction:?}, {name}");
                assert_bits(&what, &widened(&got), &want);
            });
            assert_close("formula", &want, &exact, 1.0 / 256.0, 1.0);
        }
    }
}

#[test]
fn the_inverse_undoes_it() {
    let shape = shape([2, 33, 3, 32, 8, 5]);
    let [x, cos, sin] = shape.inputs();
    let cpu = Cpu::new(Level::best(), 2).unwrap();
    let mut there_and_back = x.clone();
    shape.run(&cpu, &mut there_and_back, [&cos, &sin], Direction::Forward);
    assert_ne!(there_and_back, x);
    shape.run(&cpu, &mut there_and_back, [&cos, &sin], Direction::Inverse);
    let exact: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
    assert_close("there and back", &there_and_back, &exact, 5e-7, 1e4);
}

#[test]
fn special_values_stay_in_their_pair() {
    let shape = shape([1, 3, 2, 19, 4, 1]);
    let [mut x, cos, sin] = shape.inputs();
    let specials = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, 1e-45, -0.0];
    for (i, special) in specials.into_iter().enumerate() {
        x[7 + 17 * i] = special;
    }
    let mut want = x.clone();
    shape.each_pair(|a, b, at| {
        let (c, s) = (cos[at], sin[at]);
        (want[a], want[b]) = (x[a].mul_add(c, -(x[b] * s)), x[b].mul_add(c, x[a] * s));
    });
    each_cpu(|cpu, name| {
        let mut got = x.clone();
        shape.run(cpu, &mut got, [&cos, &sin], Direction::Forward);
        assert_bits(name, &got, &want);
    });
}

#[test]
fn tables_are_f32() {
    let cpu = Cpu::new(Level::best(), 1).unwrap();
    let mut x = narrow(&paint(6 * 10, 7));
    let (table, narrow_table) = (paint(4 * 2, 5), narrow(&paint(4 * 2, 5)));
    let args = Rotate {
        x: ViewMut::of(&mut x, &[6, 10]),
        cos: View::of(&table, &[4, 2]),
        sin: View::of(&narrow_table, &[4, 2]),
        heads: 2,
        seq_len: 3,
        first_position: 1,
        direction: Direction::Forward,
    };
    let (what, want, got) = ("rope::rotate sin", DType::F32, DType::Bf16);
    assert_eq!(rotate(&cpu, args), Err(OpError::Place { what, want, got }));
}

#[test]
fn bad_extents_are_refused() {
    let cpu = Cpu::new(Level::best(), 1).unwrap();
    let (mut x, table) = (paint(6 * 10, 7), paint(4 * 2, 5));
    let mut run = |heads, seq_len, first_position| {
        let (x, table) = (ViewMut::of(&mut x, &[6, 10]), View::of(&table, &[4, 2]));
        let (cos, sin, direction) = (table, table, Direction::Forward);
        let args = Rotate { x, cos, sin, heads, seq_len, first_position, direction };
        rotate(&cpu, args).map_err(|error| match error {
            OpError::Extent { what, .. } => what,
            other => panic!("{other}"),
        })
    };
    assert_eq!(run(2, 3, 1), Ok(()));
    assert_eq!(run(3, 3, 1), Err("rope::rotate heads"));
    assert_eq!(run(2, 4, 0), Err("rope::rotate x"));
    assert_eq!(run(2, 0, 0), Err("rope::rotate x"));
    assert_eq!(run(2, 3, 2), Err("rope::rotate first_position"));
}
