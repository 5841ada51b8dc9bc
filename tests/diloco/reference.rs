//! DiLoCo and Streaming DiLoCo in plain loops over whole flat vectors, to compare with in bits.

use neuroshard::aggregate::Input;
use neuroshard::codec;
use neuroshard::codec::{About, Codes, Layout, Update};
use neuroshard::crypto::PeerId;
use neuroshard::diloco::{Optimizer, Settings};
use neuroshard::train::{Trainer, weights_layout};

use crate::federation::Job;

/// A fragment: which elements of the flat vector, and how an update names them.
struct Piece {
    elements: Vec<usize>,
    layout: Layout,
    due: u64,
}

/// Outer weights of all of the model after `steps` inner steps of `peers` clusters, and the local
/// weights of the first.
pub fn train(job: &Job, settings: &Settings, peers: usize, steps: u64) -> (Vec<f32>, Vec<f32>) {
    let mut trainers: Vec<Trainer> = (0..peers).map(|_| job.trainer()).collect();
    let whole = weights_layout(&job.plan.dims);
    let mut outer = flat(&trainers[0]);
    let mut momentum = vec![0.0; outer.len()];
    let mut residuals = vec![vec![0.0; outer.len()]; peers];
    let mut sent: Vec<Vec<(u64, Vec<f32>)>> = Vec::new();
    let pieces = pieces(&whole, settings);
    sent.resize_with(pieces.len(), Vec::new);
    for step in 1..=steps {
        for (peer, trainer) in trainers.iter_mut().enumerate() {
            let place = (step - 1) * peers as u64 + peer as u64;
            trainer.step(&job.loader.batch(place).unwrap(), 0).unwrap();
        }
        for (p, piece) in pieces.iter().enumerate() {
            if step >= piece.due && (step - piece.due).is_multiple_of(settings.inner_steps) {
                let round = (step - piece.due) / settings.inner_steps;
                let about = About { job: job.id, round, fragment: p as u32 };
                let locals: Vec<_> = trainers.iter().map(flat).collect();
                let mean = exchange(job, settings, piece, about, &outer, &locals, &mut residuals);
                sent[p].push((step + settings.overlap_steps, mean));
            }
            while sent[p].first().is_some_and(|(at, _)| *at <= step || step == steps) {
                let (_, mean) = sent[p].remove(0);
                outer_step(settings, piece, &mean, &mut outer, &mut momentum);
                for trainer in &mut trainers {
                    blend(settings, piece, trainer, &outer);
                }
            }
        }
    }
    (outer, flat(&trainers[0]))
}

fn flat(trainer: &Trainer) -> Vec<f32> {
    let mut weights = vec![f32::NAN; weights_layout(&trainer.plan().dims).elements()];
    trainer.read_weights(&mut weights).unwrap();
    weights
}

fn pieces(whole: &Layout, settings: &Settings) -> Vec<Piece> {
    let count = settings.fragments;
    let owner = |name: &str| match name.split('.').collect::<Vec<_>>()[..] {
        ["blocks", layer, _] => layer.parse::<usize>().unwrap() % count,
        ["embedding"] => 0,
        _ => count - 1,
    };
    let piece = |p: usize| {
        let mine: Vec<_> = whole.sections().iter().filter(|s| owner(&s.name) == p).collect();
        Piece {
            elements: mine.iter().flat_map(|s| s.range.clone()).collect(),
            layout: Layout::new(mine.iter().map(|s| (s.name.clone(), s.range.len()))),
            due: (p as u64 + 1) * settings.inner_steps / count as u64,
        }
    };
    (0..count).map(piece).collect()
}

/// Every cluster's update, written and read again, and their aggregate.
fn exchange(
    job: &Job,
    settings: &Settings,
    piece: &Piece,
    about: About,
    outer: &[f32],
    locals: &[Vec<f32>],
    residuals: &mut [Vec<f32>],
) -> Vec<f32> {
    let codec = job.codec.as_ref();
    let mut blobs = Vec::new();
    for (local, residual) in locals.iter().zip(residuals) {
        let decay = settings.residual_decay as f32;
        let next = |&i: &usize| decay * residual[i] + (outer[i] - local[i]);
        let mut u: Vec<f32> = piece.elements.iter().map(next).collect();
        blobs.push(codec::encode(codec, &piece.layout, &about, &mut u).unwrap());
        piece.elements.iter().zip(u).for_each(|(&i, left)| residual[i] = left);
    }
    let parse = |blob| Update::parse(blob, codec, &piece.layout, &about).unwrap();
    let updates: Vec<_> = blobs.iter().map(|blob| parse(blob)).collect();
    let input = |(i, update)| Input { peer: PeerId::numbered(i as u64), update };
    let mut inputs: Vec<Input<'_>> = Vec::new();
    for (i, update) in updates.iter().enumerate() {
        update.block(0, &mut Codes::default()).unwrap();
        inputs.push(input((i, update)));
    }
    let mut mean = vec![f32::NAN; piece.elements.len()];
    job.aggregator().aggregate(about.round, &piece.layout, &inputs, &mut mean).unwrap();
    mean
}

fn outer_step(
    settings: &Settings,
    piece: &Piece,
    mean: &[f32],
    outer: &mut [f32],
    momentum: &mut [f32],
) {
    let (mu, eta) = (settings.momentum as f32, settings.lr as f32);
    for (&i, &a) in piece.elements.iter().zip(mean) {
        momentum[i] = mu * momentum[i] + a;
        outer[i] -= match settings.optimizer {
            Optimizer::Nesterov => eta * (a + mu * momentum[i]),
            Optimizer::HeavyBall => eta * momentum[i],
            Optimizer::Sgd => eta * a,
        };
    }
}

fn blend(settings: &Settings, piece: &Piece, trainer: &mut Trainer, outer: &[f32]) {
    let (alpha, rest) = (settings.blend as f32, (1.0 - settings.blend) as f32);
    let mut local = flat(trainer);
    for &i in &piece.elements {
        local[i] = if alpha == 0.0 { outer[i] } else { alpha * local[i] + rest * outer[i] };
    }
    trainer.write_weights(&local).unwrap();
}
