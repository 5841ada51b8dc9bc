//! Event files for TensorBoard, read here by the rules of their formats and nothing else.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

use crate::process::metrics;
use crate::process::neuroshard;
use crate::process::small_run;
use crate::process::train;

/// CRC-32C one bit at a time.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82f6_3b78 * (crc & 1));
        }
    }
    !crc
}

fn masked(bytes: &[u8]) -> u32 {
    crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// The records of a TFRecord file; every checksum must be right.
fn records(bytes: &[u8]) -> Vec<&[u8]> {
    let (mut rest, mut found) = (bytes, Vec::new());
    while !rest.is_empty() {
        let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
        let word = |at: usize| u32::from_le_bytes(rest[at..at + 4].try_into().unwrap());
        assert_eq!(word(8), masked(&rest[..8]), "the length's checksum");
        let data = &rest[12..12 + length];
        assert_eq!(word(12 + length), masked(data), "the data's checksum");
        found.push(data);
        rest = &rest[16 + length..];
    }
    found
}

/// A value of a message of protocol buffers.
#[derive(Debug)]
enum Value<'a> {
    Integer(u64),
    Double(f64),
    Float(f32),
    Bytes(&'a [u8]),
}

fn fields(mut bytes: &[u8]) -> Vec<(u64, Value<'_>)> {
    fn varint(bytes: &mut &[u8]) -> u64 {
        let mut x = 0;
        for shift in (0..64).step_by(7) {
            let byte = bytes[0];
            *bytes = &bytes[1..];
            x |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return x;
            }
        }
        panic!("a number of more than ten bytes");
    }
    fn take<'a>(bytes: &mut &'a [u8], count: usize) -> &'a [u8] {
        let (taken, rest) = bytes.split_at(count);
        *bytes = rest;
        taken
    }
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let value = match key & 7 {
            0 => Value::Integer(varint(&mut bytes)),
            1 => Value::Double(f64::from_le_bytes(take(&mut bytes, 8).try_into().unwrap())),
            2 => {
                let length = varint(&mut bytes) as usize;
                Value::Bytes(take(&mut bytes, length))
            }
            5 => Value::Float(f32::from_le_bytes(take(&mut bytes, 4).try_into().unwrap())),
            other => panic!("wire type {other}"),
        };
        found.push((key >> 3, value));
    }
    found
}

/// What an event says.
#[derive(Debug, Default)]
struct Event {
    wall_time: f64,
    step: u64,
    version: Option<String>,
    is_start: bool,
    scalars: BTreeMap<String, f32>,
}

fn event(bytes: &[u8]) -> Event {
    let mut event = Event::default();
    for (number, value) in fields(bytes) {
        match (number, value) {
            (1, Value::Double(time)) => event.wall_time = time,
            (2, Value::Integer(step)) => event.step = step,
            (3, Value::Bytes(text)) => {
                event.version = Some(String::from_utf8(text.into()).unwrap())
            }
            (5, Value::Bytes(summary)) => {
                for (number, value) in fields(summary) {
                    let (1, Value::Bytes(value)) = (number, value) else { panic!("no value") };
                    let [(1, Value::Bytes(tag)), (2, Value::Float(x))] = fields(value)[..] else {
                        panic!("no scalar: {value:?}")
                    };
                    event.scalars.insert(String::from_utf8(tag.into()).unwrap(), x);
                }
            }
            (7, Value::Bytes(log)) => {
                event.is_start = matches!(fields(log)[..], [(1, Value::Integer(1))]);
            }
            other => panic!("unknown field {other:?}"),
        }
    }
    event
}

/// The event files of a run, in the order of their names.
fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let is_one = |path: &PathBuf| path.to_str().unwrap().contains("/events.out.tfevents.");
    let mut files: Vec<_> = entries.filter(is_one).collect();
    files.sort();
    files
}

/// What TensorBoard shows: by tag, step and value, where a start makes forget what was from its step on.
fn shown(dir: &Path) -> BTreeMap<String, BTreeMap<u64, f32>> {
    let mut shown: BTreeMap<String, BTreeMap<u64, f32>> = BTreeMap::new();
    for file in files(dir) {
        let bytes = fs::read(file).unwrap();
        let events: Vec<Event> = records(&bytes).into_iter().map(event).collect();
        assert_eq!(events[0].version.as_deref(), Some("brain.Event:2"));
        assert!(events[1].is_start && events.iter().all(|e| e.wall_time > 1.7e9));
        for event in events {
            if event.is_start {
                shown.values_mut().for_each(|line| line.retain(|step, _| *step < event.step));
            }
            for (tag, x) in event.scalars {
                assert!(
                    shown.entry(tag).or_default().insert(event.step, x).is_none(),
                    "told twice"
                );
            }
        }
    }
    shown
}

const SETS: [&str; 4] = [
    "metrics.tensorboard=true",
    "train.checkpoint_every=20",
    "train.keep_checkpoints=0",
    "train.eval_every=10",
];

#[test]
fn event_files_say_what_the_metrics_say_also_after_a_resume() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("run");
    train(&dir, &[&SETS[..], &["train.stop_after=30"]].concat()).ok();
    assert_eq!(files(&dir).len(), 1);
    // As if the last ten steps had been lost: 21 to 30 come a second time.
    fs::remove_dir_all(dir.join("checkpoints/00000030")).unwrap();
    let args = small_run(&dir, &[&SETS[..], &["train.stop_after=0"]].concat());
    let args: Vec<&str> = args.iter().map(String::as_str).chain(["--resume"]).collect();
    neuroshard(&args).ok();
    assert_eq!(files(&dir).len(), 2);
    let shown = shown(&dir);
    let lines = metrics(&dir);
    for (kind, key, tag) in [
        ("step", "loss", "train/loss"),
        ("step", "lr", "train/learning_rate"),
        ("step", "grad_norm", "train/gradient_norm"),
        ("step", "tokens", "train/tokens"),
        ("step", "tokens_per_s", "speed/tokens_per_s"),
        ("step", "memory_bytes", "memory/bytes"),
        ("eval", "loss", "eval/loss"),
        ("eval", "perplexity", "eval/perplexity"),
    ] {
        let want: BTreeMap<u64, f32> = lines
            .iter()
            .filter(|line| line["kind"] == kind)
            .map(|line| (line["step"].as_u64().unwrap(), line[key].as_f64().unwrap() as f32))
            .collect();
        assert_eq!(want.len(), if kind == "step" { 40 } else { 4 });
        assert_eq!(shown[tag], want, "{tag}");
    }
}

#[test]
fn one_rank_writes_and_only_if_it_is_asked() {
    let temp = tempfile::tempdir().unwrap();
    let plain = temp.path().join("plain");
    train(&plain, &[]).ok();
    assert!(files(&plain).is_empty());
    let two = temp.path().join("two");
    let args = small_run(&two, &["metrics.tensorboard=true", "parallel.oversubscribe=true"]);
    let args: Vec<&str> = args.iter().map(String::as_str).chain(["--ranks", "2"]).collect();
    neuroshard(&args).ok();
    assert_eq!(files(&two).len(), 1);
    assert_eq!(shown(&two)["train/loss"].len(), 40);
}
