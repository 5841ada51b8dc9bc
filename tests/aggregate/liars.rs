//! f liars with anything codes can say leave the aggregate among the honest.

use neuroshard::aggregate::{Clip, Config, Rule};
use neuroshard::codec::{Codes, Layout, MAX_CODE, MAX_EXPONENT, MIN_EXPONENT};

use super::updates::{Vector, aggregate, all_configs, dense, distance, honest, mean, noise, wide};

/// A liar's update of one chunk.
fn liar(layout: &Layout, exponent: i32, code: impl Fn(usize) -> i32) -> Vector {
    let mut codes = Codes::default();
    codes.push_dense(exponent, (0..layout.elements()).map(code));
    Vector::of_blocks(vec![codes])
}

/// A liar's update, by the number of the liar.
type Lie<'a> = &'a dyn Fn(usize, &Layout) -> Vector;

/// Codes of about 10^30: 2^24 * 2^76.
const LARGE: i32 = 76;

#[test]
fn liars_do_not_leave_the_honest_spread() {
    let layout = Layout::new([("a", 60)]);
    let (n, f) = (16, 3);
    let values = honest(&layout, n - f, 400);
    let centre = mean(&values.iter().collect::<Vec<_>>());
    let spread = values.iter().map(|v| distance(v, &centre)).fold(0.0, f64::max);
    let lies: [(&str, Lie<'_>); 7] = [
        ("far, together", &|_, l| liar(l, LARGE, |_| MAX_CODE)),
        ("far, apart", &|i, l| liar(l, LARGE, move |k| if k % 3 == i { MAX_CODE } else { -7 })),
        ("as far as can be", &|i, l| liar(l, MAX_EXPONENT, move |_| (i as i32 - 1) * MAX_CODE)),
        ("one element", &|_, l| liar(l, LARGE, |k| if k == 5 { -MAX_CODE } else { 0 })),
        ("nothing", &|_, l| liar(l, 0, |_| 0)),
        ("next to nothing", &|_, l| liar(l, MIN_EXPONENT, |k| k as i32 % 2)),
        ("each ten times farther", &|i, l| liar(l, 10 + 3 * i as i32, |k| k as i32 - 30)),
    ];
    for (name, lie) in lies {
        for places in [[0, 1, 2], [13, 14, 15], [2, 7, 11]] {
            let mut vectors = dense(&layout, &values);
            places.iter().enumerate().for_each(|(i, &at)| vectors.insert(at, lie(i, &layout)));
            for config in all_configs(n, f) {
                // The mean has no defence; a liar's own mix stays what it is.
                let is_bare = config.rule == Rule::Mean;
                let out = wide(&aggregate(&config, &layout, &vectors).0);
                // Clipped honest updates are other points, nearer to the origin.
                let reach = match config.clip {
                    Clip::None => spread,
                    _ => spread + 0.3 * distance(&centre, &vec![0.0; out.len()]),
                };
                // Trust rescales a mean to the length of a member.
                let reach = if config.rule == Rule::TrustWeighted { 2.0 * reach } else { reach };
                let found = distance(&out, &centre);
                // Theory allows up to sqrt(kappa), 5 spreads where 3 of 8 buckets lie.
                let holds = found <= 3.0 * reach;
                assert!(holds || is_bare, "{name} {places:?} {config:?}: {found} of {reach}");
            }
        }
    }
}

/// Updates that agree on little are far from each other, and a short one is near to all of them: it
/// is mixed into everything, unless distances are of directions.
#[test]
fn short_liars_are_nobodys_neighbours() {
    let layout = Layout::new([("a", 600)]);
    // Norms of some 24; the mean of many would be 2.4 in each element's own direction.
    let signal: Vec<f64> = (0..600).map(|k| if k % 3 == 0 { 0.25 } else { -0.25 }).collect();
    let values: Vec<Vec<f64>> =
        (0..6).map(|i| noise(i, 600).iter().zip(&signal).map(|(x, s)| x + s).collect()).collect();
    let centre = mean(&values.iter().collect::<Vec<_>>());
    let lies: [(&str, Lie<'_>); 3] = [
        ("backward", &|_, l| liar(l, -4, |k| if k % 3 == 0 { -1 } else { 1 })),
        ("nothing", &|_, l| liar(l, 0, |_| 0)),
        ("next to nothing", &|i, l| liar(l, -60, move |k| (k + i) as i32 % 3 - 1)),
    ];
    for (name, lie) in lies {
        let mut vectors = dense(&layout, &values);
        vectors.extend((0..2).map(|i| lie(i, &layout)));
        for (clip, is_owned) in [(Clip::Equal, false), (Clip::Median, true)] {
            let config = Config { clip, faulty: Some(2), ..Config::default() };
            let (out, outcome) = aggregate(&config, &layout, &vectors);
            let liars: f64 = outcome.peers[6..].iter().filter_map(|share| share.weight).sum();
            let found = distance(&wide(&out), &centre) / distance(&centre, &vec![0.0; 600]);
            // A third of all, and all that the mean of n - f of n points leaves to two of them.
            assert_eq!(liars > 0.3, is_owned, "{name} {clip:?}: {liars}");
            assert_eq!(found < 0.12, !is_owned, "{name} {clip:?}: {found}");
        }
    }
}

/// The control: where rules hold, the plain mean is seen to fail.
#[test]
fn one_liar_owns_the_mean() {
    let layout = Layout::new([("a", 60)]);
    let mut vectors = dense(&layout, &honest(&layout, 15, 400));
    vectors.push(liar(&layout, LARGE, |_| MAX_CODE));
    let (out, outcome) = aggregate(&Config::plain_mean(), &layout, &vectors);
    assert!(out.iter().all(|x| *x > 1e28));
    assert!(outcome.peers.iter().all(|share| share.weight == Some(1.0 / 16.0)));
    let (out, outcome) = aggregate(&Config::default(), &layout, &vectors);
    assert!(out.iter().all(|x| x.abs() < 2.0));
    assert!(outcome.peers[15].clip < 1e-20);
}
