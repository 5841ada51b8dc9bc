//! A trainer's state as flat vectors.

use neuroshard::collective;
use neuroshard::shard;
use neuroshard::shard::Mesh;
use neuroshard::train::{Error, Trainer, weights_layout};

use crate::federation::Job;

#[test]
fn weights_come_back_as_they_were_written() {
    for sets in [
        &["numerics.profile=f32"][..],
        &["numerics.profile=bf16", "model.tied=true"],
        &["numerics.profile=tc"],
    ] {
        let job = Job::new(sets);
        let (mut a, mut b) = (job.trainer(), job.trainer());
        let layout = weights_layout(&job.plan.dims);
        for step in 0..3 {
            a.step(&job.loader.batch(step).unwrap(), 0).unwrap();
        }
        let mut weights = vec![f32::NAN; layout.elements()];
        a.read_weights(&mut weights).unwrap();
        b.write_weights(&weights).unwrap();
        // What passes read was rounded anew: the loss of the same sequence is the same.
        let batch = job.loader.heldout(0).unwrap();
        assert_eq!(a.losses(&batch).unwrap(), b.losses(&batch).unwrap(), "{sets:?}");
        assert_eq!(a.replica_hash().unwrap(), b.replica_hash().unwrap());
        assert_ne!(a.state_hash().unwrap(), b.state_hash().unwrap(), "moments are others");
        // Some tensors alone, from the middle.
        let some = [1, 4, 9];
        let values: Vec<f32> = some
            .iter()
            .flat_map(|&i: &usize| layout.sections()[i].range.clone())
            .map(|at| at as f32 * 1e-6)
            .collect();
        b.write_tensors(&some, &values).unwrap();
        let mut read = vec![f32::NAN; values.len()];
        b.read_tensors(&some, &mut read).unwrap();
        assert_eq!(read, values);
        let mut others = vec![f32::NAN; layout.elements()];
        b.read_weights(&mut others).unwrap();
        for (i, section) in layout.sections().iter().enumerate() {
            let (now, then) = (&others[section.range.clone()], &weights[section.range.clone()]);
            assert_eq!(now == then, !some.contains(&i), "{}", section.name);
        }
    }
}

#[test]
fn a_snapshot_goes_back_to_the_bit() {
    for sets in
        [&["numerics.profile=f32"][..], &["numerics.profile=bf16", "train.guard_deviations=2.0"]]
    {
        let job = Job::new(sets);
        let mut trainer = job.trainer();
        let train = |trainer: &mut Trainer, steps: std::ops::Range<u64>| {
            for step in steps {
                trainer.step(&job.loader.batch(step).unwrap(), 0).unwrap();
            }
            trainer.state_hash().unwrap()
        };
        let then = train(&mut trainer, 0..4);
        let snapshot = trainer.snapshot().unwrap();
        let want = train(&mut trainer, 4..7);
        trainer.restore(&snapshot).unwrap();
        assert_eq!(trainer.state_hash().unwrap(), then);
        assert_eq!(train(&mut trainer, 4..7), want);
        let mut another = job.trainer();
        another.restore(&snapshot).unwrap();
        assert_eq!(train(&mut another, 4..7), want);
    }
}

#[test]
fn steps_that_are_skipped_move_the_schedule_only() {
    let job = Job::new(&[]);
    let mut trainer = job.trainer();
    let before = trainer.replica_hash().unwrap();
    trainer.skip(7);
    assert_eq!((trainer.done(), trainer.replica_hash().unwrap()), (7, before));
    let outcome = trainer.step(&job.loader.batch(7).unwrap(), 0).unwrap();
    assert_eq!((outcome.step, outcome.lr), (8, job.plan.optim.learning_rate(7, 80)));
    // The moments' bias is corrected as in a first step: AdamW's first step is one of the size of
    // the learning rate.
    let (layout, fresh) = (weights_layout(&job.plan.dims), job.trainer());
    let [mut then, mut now] = [vec![0.0f32; layout.elements()], vec![0.0; layout.elements()]];
    fresh.read_weights(&mut then).unwrap();
    trainer.read_weights(&mut now).unwrap();
    let far = then.iter().zip(&now).map(|(a, b)| f64::from((a - b).abs())).fold(0.0, f64::max);
    assert!(far > 0.9 * outcome.lr && far < 1.5 * outcome.lr, "{far} {}", outcome.lr);
}

#[test]
fn ranks_that_have_all_read_alike_and_others_are_refused() {
    for (set, reads, snaps) in [
        ("parallel.zero=0", true, true),
        ("parallel.zero=1", true, false),
        ("parallel.zero=3", false, false),
        ("parallel.stages=2", false, false),
    ] {
        let job = Job::new(&[set]);
        let whole = weights_layout(&job.plan.dims).elements();
        let rank = |world: std::sync::Arc<dyn collective::Communicator>| {
            let mesh =
                Mesh::new(world, job.plan.parallel.stages, job.plan.parallel.shards).unwrap();
            let stages = shard::even_stages(job.plan.dims.layers, mesh.stages());
            let layers = stages[mesh.stage()].clone();
            let mut trainer = Trainer::new(job.kernels.clone(), &job.plan, &mesh, layers).unwrap();
            let refused = |result: Result<(), Error>| matches!(result, Err(Error::Divided { .. }));
            let mut weights = vec![f32::NAN; whole];
            assert_eq!(refused(trainer.read_weights(&mut weights)), !reads, "{set}");
            assert_eq!(refused(trainer.write_weights(&weights)), !reads, "{set}");
            assert_eq!(refused(trainer.snapshot().map(|_| ())), !snaps, "{set}");
            weights
        };
        let ranks = collective::threads(2);
        let read: Vec<_> = std::thread::scope(|scope| {
            let ranks: Vec<_> = ranks.into_iter().map(|r| scope.spawn(|| rank(r))).collect();
            ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
        });
        if reads {
            assert_eq!(read[0], read[1], "{set}");
        }
    }
}
