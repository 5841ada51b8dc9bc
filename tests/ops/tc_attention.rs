//! Attention of the `tc` profile: forward, backward, decoding and the cache in bf16.

use neuroshard::backend::cpu::tc::sum;
use neuroshard::ops::OpError;
use neuroshard::ops::Precision;
use neuroshard::ops::TensorCore;
use neuroshard::ops::attention::*;
use neuroshard::tensor::DType;
use neuroshard::tensor::View;
use neuroshard::tensor::ViewMut;

use crate::attention::Inputs;
use crate::attention::extents;
use crate::tc_matmul::CORES;
use crate::*;

const EXTENTS: &[Extents] = &[
    extents([0, 5, 2, 1, 4]),    // nothing
    extents([1, 1, 1, 1, 2]),    // one
    extents([2, 2, 3, 1, 32]),   // two sequences, a group of three
    extents([1, 63, 2, 2, 20]),  // below a tile of queries, a padded width
    extents([1, 64, 3, 1, 20]),  // at it
    extents([2, 65, 2, 1, 32]),  // above it
    extents([1, 127, 1, 1, 64]), // below a tile of keys
    extents([1, 128, 3, 1, 32]), // at it
    extents([1, 129, 3, 1, 20]), // above it
    extents([1, 200, 1, 1, 128]),
    extents([1, 260, 3, 1, 32]), // past two
];

/// What forward and backward write; bf16 numbers widened.
struct Results {
    out: Vec<f32>,
    lse: Vec<f32>,
    dqkv: Vec<f32>,
}

/// Inputs that are bf16 numbers.
fn inputs(extents: Extents, spread: f32) -> Inputs {
    let mut inputs = Inputs::new(extents, spread);
    inputs.qkv = rounded(inputs.qkv);
    inputs.dout = rounded(inputs.dout);
    inputs
}

/// `2^x` as docs/ARITHMETIC.md, 16.7, has it.
fn exp2(x: f32) -> f32 {
    let x = if -125.0 > x { -125.0 } else { x };
    let shift = 12_582_912.0f32;
    let s = x + shift;
    let f = x - (s - shift);
    let mut p = 9.582852944731712e-3f64 as f32;
    for c in [5.5906426161527634e-2, 2.4024099111557007e-1, 6.931241750717163e-1, 1.0f64] {
        p = p.mul_add(f, c as f32);
    }
    let n = s.to_bits().wrapping_sub(shift.to_bits());
    f32::from_bits(p.to_bits().wrapping_add(n << 23))
}

/// A tensor-core chain over f32 numbers that are rounded where they enter it.
fn chain(core: TensorCore, start: f32, pairs: impl Iterator<Item = (f32, f32)>) -> f32 {
    let narrowed = pairs.map(|(a, b)| (bf16::from_f32(a), bf16::from_f32(b)));
    let (a, b): (Vec<_>, Vec<_>) = narrowed.unzip();
    sum::chain(core, start, &a, &b)
}

fn dot(core: TensorCore, a: &[f32], b: &[f32]) -> f32 {
    chain(core, 0.0, a.iter().copied().zip(b.iter().copied()))
}

/// Output and log2 of the sum of one query.
fn naive_query(x: &Inputs, core: TensorCore, b: usize, h: usize, t: usize) -> (Vec<f32>, f32) {
    let (e, (kh, vh)) = (x.extents, x.kv(h));
    let c = (std::f64::consts::LOG2_E / (e.head_dim as f64).sqrt()) as f32;
    let (mut m, mut mc, mut l, mut o) =
        (f32::NEG_INFINITY, 0.0, [0.0f32; 8], vec![0.0f32; e.head_dim]);
    for tile in (0..=t).step_by(128) {
        let keys: Vec<usize> = (tile..=t.min(tile + 127)).collect();
        let s: Vec<f32> = keys.iter().map(|&j| dot(core, x.at(b, t, h), x.at(b, j, kh))).collect();
        let before = m;
        m = s.iter().fold(m, |m, &s| if s > m { s } else { m });
        mc = m * c;
        let mut p: Vec<f32> = s.iter().map(|s| exp2(s.mul_add(c, -mc))).collect();
        p.resize(128, 0.0);
        let mut sums = [0.0f32; 8];
        p.iter().enumerate().for_each(|(j, p)| sums[j % 8] += p);
        let alpha = exp2(before.mul_add(c, -mc));
        for (l, sum) in l.iter_mut().zip(sums) {
            *l = if tile == 0 { sum } else { l.mul_add(alpha, sum) };
        }
        for (d, o) in o.iter_mut().enumerate() {
            let value = |j: usize| if j < e.seq_len { x.at(b, j, vh)[d] } else { 0.0 };
            let pairs = p.iter().enumerate().map(|(j, &p)| (p, value(tile + j)));
            *o = chain(core, if tile == 0 { 0.0 } else { *o * alpha }, pairs);
        }
    }
    let fours: [f32; 4] = std::array::from_fn(|r| l[r] + l[r + 4]);
    let sum = (fours[0] + fours[2]) + (fours[1] + fours[3]);
    let inverse = 1.0 / sum;
    let out = o.iter().map(|o| bf16::from_f32(o * inverse).to_f32()).collect();
    (out, math::log(sum).mul_add(std::f32::consts::LOG2_E, mc))
}

/// Gradients of one key/value head and of its queries.
fn naive_group(x: &Inputs, core: TensorCore, b: usize, k: usize, r: &mut Results) {
    let e = x.extents;
    let (group, d, len) = (e.heads / e.kv_heads, e.head_dim, e.seq_len);
    let (kh, vh) = x.kv(k * group);
    let c = (std::f64::consts::LOG2_E / (d as f64).sqrt()) as f32;
    let scale = (1.0 / (d as f64).sqrt()) as f32;
    // By head and query: p and ds of every key.
    let mut pairs = Vec::new();
    for h in k * group..(k + 1) * group {
        let mut rows = Vec::new();
        for t in 0..len {
            let (dout, out) = (&x.dout[x.out_at(b, t, h)], &r.out[x.out_at(b, t, h)]);
            let delta = row_sum(d, |i, partial| dout[i].mul_add(out[i], partial));
            let lse = r.lse[(b * e.heads + h) * len + t];
            let mut row = vec![(0.0, 0.0); len];
            for (j, pair) in row.iter_mut().enumerate().take(t + 1) {
                let s = dot(core, x.at(b, t, h), x.at(b, j, kh));
                let p = exp2(s.mul_add(c, -lse));
                *pair = (p, p * (dot(core, dout, x.at(b, j, vh)) - delta));
            }
            for i in 0..d {
                let mut dq = None;
                for tile in (0..=t).step_by(128) {
                    let keys = tile..len.min(tile + 128);
                    let term = chain(core, 0.0, keys.map(|j| (row[j].1, x.at(b, j, kh)[i])));
                    dq = Some(dq.map_or(term, |dq: f32| dq + term));
                }
                let dq = dq.unwrap_or(0.0) * scale;
                r.dqkv[x.packed(b, t, h) + i] = bf16::from_f32(dq).to_f32();
            }
            rows.push(row);
        }
        pairs.push(rows);
    }
    for (j, i) in (0..len).flat_map(|j| (0..d).map(move |i| (j, i))) {
        let (mut dk, mut dv) = (Vec::new(), Vec::new());
        for (h, rows) in pairs.iter().enumerate() {
            let h = k * group + h;
            for tile in (0..len.div_ceil(64)).rev().filter(|tile| tile * 64 + 63 >= j / 128 * 128) {
                for t in tile * 64..tile * 64 + 64 {
                    let there = t < len;
                    let (p, ds) = rows.get(t).map_or((0.0, 0.0), |row| row[j]);
                    dv.push((p, if there { x.dout[x.out_at(b, t, h)][i] } else { 0.0 }));
                    dk.push((ds, if there { x.at(b, t, h)[i] } else { 0.0 }));
                }
            }
        }
        let dk = chain(core, 0.0, dk.into_iter()) * scale;
        r.dqkv[x.packed(b, j, kh) + i] = bf16::from_f32(dk).to_f32();
        let dv = chain(core, 0.0, dv.into_iter());
        r.dqkv[x.packed(b, j, vh) + i] = bf16::from_f32(dv).to_f32();
    }
}

fn naive(x: &Inputs, core: TensorCore) -> Results {
    let e = x.extents;
    let mut results = Results {
        out: vec![0.0; x.dout.len()],
        lse: vec![0.0; e.sequences * e.heads * e.seq_len],
        dqkv: vec![0.0; x.qkv.len()],
    };
    for b in 0..e.sequences {
        for (h, t) in (0..e.heads).flat_map(|h| (0..e.seq_len).map(move |t| (h, t))) {
            let (out, lse) = naive_query(x, core, b, h, t);
            results.out[x.out_at(b, t, h)].copy_from_slice(&out);
            results.lse[(b * e.heads + h) * e.seq_len + t] = lse;
        }
        (0..e.kv_heads).for_each(|k| naive_group(x, core, b, k, &mut results));
    }
    results
}

fn run(x: &Inputs, cpu: &Cpu, core: TensorCore) -> Results {
    let (e, precision) = (x.extents, Precision::Tc(core));
    let (qkv, dout) = (narrow(&x.qkv), narrow(&x.dout));
    let (mut out, mut dqkv) = (bf16_nans(dout.len()), bf16_nans(qkv.len()));
    let mut lse = nans(e.sequences * e.heads * e.seq_len);
    let rows = [e.rows(), e.heads * e.head_dim];
    let packed = [e.rows(), e.qkv_width()];
    let per_query = [e.sequences, e.heads, e.seq_len];
    let (extents, qkv) = (e, View::of(&qkv, &packed));
    let (out_view, lse_view) = (ViewMut::of(&mut out, &rows), ViewMut::of(&mut lse, &per_query));
    let args = Forward { out: out_view, lse: lse_view, qkv, extents, precision };
    forward(cpu, args).unwrap();
    let (out_view, lse_view) = (View::of(&out, &rows), View::of(&lse, &per_query));
    let (dqkv_view, dout) = (ViewMut::of(&mut dqkv, &packed), View::of(&dout, &rows));
    let args =
        Backward { dqkv: dqkv_view, dout, out: out_view, lse: lse_view, qkv, extents, precision };
    backward(cpu, args).unwrap();
    Results { out: widened(&out), lse, dqkv: widened(&dqkv) }
}

fn assert_results(what: &str, got: &Results, want: &Results) {
    assert_bits(&format!("out, {what}"), &got.out, &want.out);
    assert_bits(&format!("lse, {what}"), &got.lse, &want.lse);
    assert_bits(&format!("dqkv, {what}"), &got.dqkv, &want.dqkv);
}

/// Relative to the largest number of the kind: p, ds and results are off by 2^-9 of themselves each,
/// and delta by the rounding of `out`, which enters ds in full.
fn assert_formulas(what: &str, got: &Results, x: &Inputs) {
    let [out, lse, dqkv] = x.naive_f64();
    let nats: Vec<f32> = got.lse.iter().map(|lse| lse * std::f32::consts::LN_2).collect();
    for (got, exact) in [(&got.out, out), (&nats, lse), (&got.dqkv, dqkv)] {
        let largest = exact.iter().fold(0.0f64, |m, x| m.max(x.abs()));
        assert_close(what, got, &exact, 2e-2, largest);
    }
}

#[test]
fn attention_keeps_the_contract() {
    for (i, &extents) in EXTENTS.iter().enumerate() {
        let inputs = inputs(extents, 8.0);
        // The oracle takes seconds: the second core at every third shape.
        for core in CORES.into_iter().take(if i % 3 == 2 { 2 } else { 1 }) {
            let want = naive(&inputs, core);
            let what = format!("{extents:?}, {core:?}");
            each_cpu(|cpu, name| {
                assert_results(&format!("{what}, {name}"), &run(&inputs, cpu, core), &want);
            });
            assert_formulas(&what, &want, &inputs);
        }
    }
}

/// Scores so far apart that probabilities are tiny, products below what the vectors do, and that a
/// later tile scales all before away.
#[test]
fn far_scores_keep_it() {
    let inputs = inputs(extents([1, 150, 2, 1, 6]), 3000.0);
    for core in CORES {
        let want = naive(&inputs, core);
        assert!(want.out.iter().chain(&want.dqkv).all(|x| x.is_finite()));
        each_cpu(|cpu, name| {
            assert_results(&format!("{core:?}, {name}"), &run(&inputs, cpu, core), &want);
        });
    }
}

#[test]
fn decoding_gives_the_bits_of_forward() {
    let core = TensorCore::Hopper;
    for &extents in EXTENTS.iter().filter(|e| e.sequences == 1) {
        let inputs = inputs(extents, 8.0);
        let Extents { seq_len, heads, kv_heads, head_dim, .. } = extents;
        let (width, kv_width) = (extents.qkv_width(), 2 * kv_heads * head_dim);
        // Positions that are not there yet must not be read.
        let positions = seq_len + 3;
        let qkv = narrow(&inputs.qkv);
        let want = run(&inputs, &Cpu::new(Level::PORTABLE, 1).unwrap(), core);
        each_cpu(|cpu, name| {
            let mut cache = bf16_nans(positions * kv_width);
            let halves = [(0, seq_len / 2), (seq_len / 2, seq_len - seq_len / 2)];
            for (first, n) in halves.into_iter().chain([(seq_len - 1, 1), (0, seq_len)]) {
                let qkv = View::of(&qkv, &[seq_len, width]).rows(first..first + n);
                let new = ViewMut::of(&mut cache, &[positions, kv_width]).rows(first..first + n);
                append(cpu, Append { cache: new, qkv }).unwrap();
                let mut out = bf16_nans(n * heads * head_dim);
                let args = Decode {
                    out: ViewMut::of(&mut out, &[n, heads * head_dim]),
                    qkv,
                    cache: View::of(&cache, &[positions, kv_width]),
                    first_position: first,
                    extents: Extents { seq_len: n, ..extents },
                    precision: Precision::Tc(core),
                };
                decode(cpu, args).unwrap();
                let want = &want.out[first * heads * head_dim..][..n * heads * head_dim];
                assert_bits(
                    &format!("{n} from {first}, {extents:?}, {name}"),
                    &widened(&out),
                    want,
                );
            }
            let rows = cache.chunks(kv_width).zip(qkv.chunks(width));
            rows.for_each(|(got, row)| assert_eq!(got, &row[width - kv_width..], "cache"));
            assert!(cache[seq_len * kv_width..].iter().all(|x| x.is_nan()), "{name}");
        });
    }
}

/// Inputs are finite by contract; if not, it must show in the rows that see them.
#[test]
fn numbers_that_are_none_show() {
    for head in 0..3 {
        let mut inputs = inputs(extents([1, 150, 1, 1, 16]), 8.0);
        let at = inputs.packed(0, 140, head) + 5;
        inputs.qkv[at] = f32::NAN;
        each_cpu(|cpu, name| {
            let results = run(&inputs, cpu, TensorCore::Hopper);
            let what = format!("NaN in head {head}, {name}");
            assert!(results.out[inputs.out_at(0, 140, 0)].iter().any(|x| x.is_nan()), "{what}");
            assert!(results.dqkv.iter().any(|x| x.is_nan()), "{what}");
        });
    }
}

#[test]
fn other_types_are_refused() {
    let cpu = Cpu::new(Level::best(), 1).unwrap();
    let extents = extents([1, 2, 1, 1, 4]);
    let (qkv, mut out, mut lse) = (nans(24), bf16_nans(8), nans(2));
    let args = Forward {
        out: ViewMut::of(&mut out, &[2, 4]),
        lse: ViewMut::of(&mut lse, &[1, 1, 2]),
        qkv: View::of(&qkv, &[2, 12]),
        extents,
        precision: Precision::Tc(TensorCore::Hopper),
    };
    let (what, want, got) = ("attention::forward qkv", DType::Bf16, DType::F32);
    assert_eq!(forward(&cpu, args), Err(OpError::Place { what, want, got }));
}
