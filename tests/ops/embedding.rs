//! Embedding rows, and their gradients.

use half::bf16;
use neuroshard::ops::OpError;
use neuroshard::ops::embedding::*;
use neuroshard::tensor::DType;
use neuroshard::tensor::View;
use neuroshard::tensor::ViewMut;

use crate::*;

/// Half the tokens are one and the same, as in real text, but worse.
fn tokens(n: usize, vocab: usize) -> Vec<u32> {
    let token = |i: usize| if i.is_multiple_of(2) { vocab / 2 } else { i * i * 7919 % vocab };
    (0..n).map(|i| token(i) as u32).collect()
}

const VOCABS: [usize; 3] = [1, 13, 1009];

#[test]
fn forward_copies_rows() {
    for (&(n, c), vocab) in SHAPES.iter().flat_map(|s| VOCABS.map(|v| (s, v))) {
        let (table, tokens) = (paint_wild(vocab * c, 251, 1e30), tokens(n, vocab));
        let row = |&t: &u32| table[t as usize * c..][..c].to_vec();
        let want: Vec<f32> = tokens.iter().flat_map(row).collect();
        each_cpu(|cpu, name| {
            let mut out = nans(n * c);
            forward(
                cpu,
                Forward {
                    out: ViewMut::of(&mut out, &[n, c]),
                    tokens: View::of(&tokens, &[n]),
                    table: View::of(&table, &[vocab, c]),
                },
            )
            .unwrap();
            assert_bits(&format!("{n} x {c} of {vocab}, {name}"), &out, &want);
        });
    }
}

#[test]
fn backward_adds_rows_in_order() {
    for (&(n, c), vocab) in SHAPES.iter().flat_map(|s| VOCABS.map(|v| (s, v))) {
        let (before, tokens) = (paint(vocab * c, 241), tokens(n, vocab));
        let dout = paint_wild(n * c, 251, 1e4);
        let mut want = before.clone();
        for (&token, dout) in tokens.iter().zip(dout.chunks_exact(c)) {
            let row = &mut want[token as usize * c..][..c];
            row.iter_mut().zip(dout).for_each(|(d, x)| *d += x);
        }
        let (mut exact, mut size) = (wide(&before), wide(&before));
        size.iter_mut().for_each(|x| *x = x.abs());
        for (at, &x) in dout.iter().enumerate() {
            let to = tokens[at / c] as usize * c + at % c;
            exact[to] += f64::from(x);
            size[to] += f64::from(x).abs();
        }
        for ((&got, exact), size) in want.iter().zip(exact).zip(size) {
            // One rounding of half an ulp per addition.
            let bound = (n as f64 + 1.0) * f64::from(f32::EPSILON) / 2.0 * size;
            assert!((f64::from(got) - exact).abs() <= bound, "{got:e} is not near {exact:e}");
        }
        each_cpu(|cpu, name| {
            let mut dtable = before.clone();
            backward(
                cpu,
                Backward {
                    dtable: ViewMut::of(&mut dtable, &[vocab, c]),
                    tokens: View::of(&tokens, &[n]),
                    dout: View::of(&dout, &[n, c]),
                },
            )
            .unwrap();
            assert_bits(&format!("{n} x {c} of {vocab}, {name}"), &dtable, &want);
        });
    }
}

#[test]
fn a_token_outside_the_vocabulary_changes_nothing() {
    each_cpu(|cpu, name| {
        let (n, c, vocab) = (200, 129, 13);
        let (table, mut tokens) = (paint(vocab * c, 241), tokens(n, vocab));
        tokens[101] = u32::MAX;
        tokens[150] = 13;
        let refused = |what| Err(OpError::Token { what, index: 101, token: u32::MAX, vocab });
        let mut out = nans(n * c);
        let args = Forward {
            out: ViewMut::of(&mut out, &[n, c]),
            tokens: View::of(&tokens, &[n]),
            table: View::of(&table, &[vocab, c]),
        };
        assert_eq!(forward(cpu, args), refused("embedding::forward tokens"), "{name}");
        assert_bits("out", &out, &nans(n * c));
        let mut dtable = table.clone();
        let args = Backward {
            dtable: ViewMut::of(&mut dtable, &[vocab, c]),
            tokens: View::of(&tokens, &[n]),
            dout: View::of(&out, &[n, c]),
        };
        assert_eq!(backward(cpu, args), refused("embedding::backward tokens"), "{name}");
        assert_bits("dtable", &dtable, &table);
    });
}

#[test]
fn special_values_stay_in_their_element() {
    let specials = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e-45, -0.0];
    let (n, c) = (specials.len(), 37);
    let mut dout = paint(n * c, 251);
    specials.iter().enumerate().for_each(|(i, &x)| dout[i * c + 5 + i] = x);
    let tokens: Vec<u32> = (0..n as u32).rev().collect();
    let want: Vec<f32> =
        tokens.iter().flat_map(|&t| dout[t as usize * c..][..c].to_vec()).collect();
    each_cpu(|cpu, name| {
        let (mut out, mut dtable) = (nans(n * c), vec![0.0; n * c]);
        let (tokens, table) = (View::of(&tokens, &[n]), View::of(&dout, &[n, c]));
        forward(cpu, Forward { out: ViewMut::of(&mut out, &[n, c]), tokens, table }).unwrap();
        assert_bits(name, &out, &want);
        let dtable_view = ViewMut::of(&mut dtable, &[n, c]);
        backward(cpu, Backward { dtable: dtable_view, tokens, dout: table }).unwrap();
        let sums: Vec<f32> = want.iter().map(|x| 0.0 + x).collect();
        assert_bits(name, &dtable, &sums);
    });
}

#[test]
fn bf16_rows_are_copied_and_added_to_f32() {
    for (&(n, c), vocab) in SHAPES.iter().flat_map(|s| VOCABS.map(|v| (s, v))) {
        let (table, tokens) = (narrow(&paint_wild(vocab * c, 251, 1e30)), tokens(n, vocab));
        let row = |&t: &u32| table[t as usize * c..][..c].to_vec();
        let want: Vec<bf16> = tokens.iter().flat_map(row).collect();
        let (before, dout) = (paint(vocab * c, 241), narrow(&paint_wild(n * c, 251, 1e4)));
        let mut sums = before.clone();
        for (&token, dout) in tokens.iter().zip(dout.chunks_exact(c)) {
            let row = &mut sums[token as usize * c..][..c];
            row.iter_mut().zip(dout).for_each(|(d, x)| *d += x.to_f32());
        }
        each_cpu(|cpu, name| {
            let tokens = View::of(&tokens, &[n]);
            let (mut out, mut dtable) = (bf16_nans(n * c), before.clone());
            let (out_view, table) = (ViewMut::of(&mut out, &[n, c]), View::of(&table, &[vocab, c]));
            forward(cpu, Forward { out: out_view, tokens, table }).unwrap();
            assert!(bits_of(&out) == bits_of(&want), "{n} x {c} of {vocab}, {name}");
            let (dtable_view, dout) =
                (ViewMut::of(&mut dtable, &[vocab, c]), View::of(&dout, &[n, c]));
            backward(cpu, Backward { dtable: dtable_view, tokens, dout }).unwrap();
            assert_bits(&format!("{n} x {c} of {vocab}, {name}"), &dtable, &sums);
        });
    }
}

#[test]
fn types_are_checked() {
    let cpu = Cpu::new(Level::best(), 1).unwrap();
    let (table, x) = (narrow(&paint(20, 7)), paint(8, 7));
    let (mut out, tokens) = (nans(8), View::of(&[0u32, 1], &[2]));
    let (out, table) = (ViewMut::of(&mut out, &[2, 4]), View::of(&table, &[5, 4]));
    let (what, want, got) = ("embedding::forward out", DType::Bf16, DType::F32);
    let result = forward(&cpu, Forward { out, tokens, table });
    assert_eq!(result, Err(OpError::Place { what, want, got }));
    let mut dtable = bf16_nans(20);
    let (dtable, dout) = (ViewMut::of(&mut dtable, &[5, 4]), View::of(&x, &[2, 4]));
    let (what, want, got) = ("embedding::backward dtable", DType::F32, DType::Bf16);
    let result = backward(&cpu, Backward { dtable, tokens, dout });
    assert_eq!(result, Err(OpError::Place { what, want, got }));
}

#[test]
fn wrong_shapes_are_refused() {
    let cpu = Cpu::new(Level::best(), 1).unwrap();
    let (mut out, table) = (nans(6), paint(20, 7));
    let args = Forward {
        out: ViewMut::of(&mut out, &[2, 3]),
        tokens: View::of(&[0u32, 1], &[2]),
        table: View::of(&table, &[5, 4]),
    };
    assert_eq!(forward(&cpu, args), refused("embedding::forward table", &[5, 3], &[5, 4]));
    let mut dtable = nans(12);
    let args = Backward {
        dtable: ViewMut::of(&mut dtable, &[4, 3]),
        tokens: View::of(&[0u32, 1, 2], &[3]),
        dout: View::of(&table[..6], &[2, 3]),
    };
    assert_eq!(backward(&cpu, args), refused("embedding::backward tokens", &[2], &[3]));
}
