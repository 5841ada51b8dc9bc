//! Golden files: what others computed, kept. See tests/golden/README.md.

mod reference;

use std::path::Path;

use half::bf16;
use neuroshard::backend::cpu::Cpu;
use neuroshard::backend::cpu::Level;
use neuroshard::backend::cpu::tc::sum;
use neuroshard::export::Folder;
use neuroshard::model::Activations;
use neuroshard::model::Batch;
use neuroshard::model::BlockParams;
use neuroshard::model::Dims;
use neuroshard::model::NeuroLlm;
use neuroshard::model::Params;
use neuroshard::model::Passes;
use neuroshard::ops::Precision;
use neuroshard::ops::TensorCore;
use neuroshard::tensor::DType;
use neuroshard::tensor::Tensor;
use safetensors::Dtype;
use safetensors::SafeTensors;

use reference::compare::assert_close;
use reference::compare::tolerance;
use reference::neurollm;
use reference::neurollm::Matrix;

/// A Llama of Hugging Face's transformers, and what PyTorch made of it in f32.
struct Llama {
    name: &'static str,
    dims: Dims,
    seq_len: usize,
    weights: Params<Vec<f32>>,
    tokens: Vec<u32>,
    targets: Vec<u32>,
    logits: Vec<f32>,
    losses: Vec<f32>,
    grads: Params<Vec<f32>>,
}

const LLAMAS: [&str; 3] = ["llama-groups-of-three", "llama-tied", "llama-long"];

fn llama(name: &'static str) -> Llama {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let bytes = std::fs::read(folder.join(name).with_extension("safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let made = &header.metadata().as_ref().unwrap()["made"];
    let made: serde_json::Value = serde_json::from_str(made).unwrap();
    let config = &made["config"];
    let extent = |key: &str| config[key].as_u64().unwrap() as usize;
    let dims = Dims {
        width: extent("width"),
        layers: extent("layers"),
        heads: extent("heads"),
        kv_heads: extent("kv_heads"),
        head_dim: extent("head_dim"),
        ffn: extent("ffn"),
        vocab: extent("vocab"),
        tied: config["tied"].as_bool().unwrap(),
        norm_eps: config["eps"].as_f64().unwrap() as f32,
        rope_base: config["rope_base"].as_f64().unwrap(),
    };
    let names = hugging_face_names(&dims);
    let mapped: usize = names.as_ref().into_named().iter().map(|(_, parts)| parts.len()).sum();
    assert_eq!(file.len(), 2 * mapped + 4, "{name}: every tensor has a place in the model");
    // The rows of the parts, one after the other.
    let read = |prefix: &str| {
        names.as_ref().map(|_, parts: &Vec<String>| {
            parts.iter().flat_map(|part| floats(&file, &format!("{prefix}{part}"))).collect()
        })
    };
    Llama {
        name,
        seq_len: extent("seq_len"),
        weights: read(""),
        tokens: integers(&file, "tokens"),
        targets: integers(&file, "targets"),
        logits: floats(&file, "logits"),
        losses: floats(&file, "losses"),
        grads: read("grad."),
        dims,
    }
}

/// The tensors of a Hugging Face Llama whose rows, one after the other, are each weight.
fn hugging_face_names(dims: &Dims) -> Params<Vec<String>> {
    let block = |layer: usize| {
        let names = BlockParams::<&'static [&'static str]>::HF_NAMES;
        let in_layer = |part: &&str| format!("model.layers.{layer}.{part}");
        let full = |_: &str, parts: &[&str]| {
            Ok::<_, std::convert::Infallible>(parts.iter().map(in_layer).collect())
        };
        names.try_map(full).unwrap()
    };
    Params {
        embedding: vec!["model.embed_tokens.weight".into()],
        blocks: (0..dims.layers).map(block).collect(),
        final_norm: vec!["model.norm.weight".into()],
        lm_head: (!dims.tied).then(|| vec!["lm_head.weight".into()]),
    }
}

fn floats(file: &SafeTensors<'_>, name: &str) -> Vec<f32> {
    let tensor = file.tensor(name).unwrap_or_else(|e| panic!("{name}: {e}"));
    match tensor.dtype() {
        Dtype::F32 => words(tensor.data()).map(f32::from_le_bytes).collect(),
        Dtype::BF16 => {
            let halves = tensor.data().chunks_exact(2);
            halves.map(|b| bf16::from_le_bytes([b[0], b[1]]).to_f32()).collect()
        }
        other => panic!("{name}: {other:?}"),
    }
}

fn integers(file: &SafeTensors<'_>, name: &str) -> Vec<u32> {
    let tensor = file.tensor(name).unwrap();
    assert_eq!(tensor.dtype(), Dtype::I32, "{name}");
    words(tensor.data()).map(u32::from_le_bytes).collect()
}

fn words(data: &[u8]) -> impl Iterator<Item = [u8; 4]> {
    data.chunks_exact(4).map(|b| [b[0], b[1], b[2], b[3]])
}

fn in_f64(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&x| f64::from(x)).collect()
}

/// Logits, losses and gradients of our model against the file's.
fn check(llama: &Llama, level: Level, precision: Precision, passes: Passes) {
    let Llama { dims, seq_len, tokens, targets, .. } = llama;
    let cpu = Cpu::new(level, 2).unwrap();
    let shapes = Params::shapes(dims);
    let params = llama.weights.as_ref().zip(shapes);
    let params = params.map(|_, (values, shape)| Tensor::from_slice(values, &shape));
    let model = NeuroLlm::new(&cpu, *dims, precision, params, *seq_len).unwrap();
    let sequences = tokens.len() / seq_len;
    let mut acts = Activations::new(&cpu, dims, precision, (sequences, *seq_len), passes).unwrap();
    let mut grads = model.gradients(&cpu).unwrap();
    let scale = 1.0 / tokens.len() as f32;
    model.forward_backward(&cpu, Batch { tokens, targets }, scale, &mut acts, &mut grads).unwrap();
    grads.finish(&cpu).unwrap();

    // Twice, because PyTorch rounds too.
    let tolerance = 2.0 * tolerance(precision, dims, tokens.len());
    let what = |name: &str| format!("{}, {level}, {precision:?}, {passes:?}: {name}", llama.name);
    let logits = tokens.chunks(*seq_len).flat_map(|t| model.logits(&cpu, t).unwrap());
    let logits = logits.collect::<Vec<_>>();
    assert_close(&what("logits"), &logits, &in_f64(&llama.logits), tolerance);
    assert_close(&what("losses"), acts.losses().host(), &in_f64(&llama.losses), tolerance);
    grads.params.as_ref().zip(llama.grads.as_ref()).map(|name, (got, want): (&Tensor, _)| {
        assert_close(&what(name), got.host(), &in_f64(want), tolerance);
    });
}

#[test]
fn hugging_face_llamas_give_the_same() {
    for name in LLAMAS {
        let llama = llama(name);
        for level in [Level::PORTABLE, Level::best()] {
            for passes in [Passes::Stored, Passes::Recomputed] {
                check(&llama, level, Precision::F32, passes);
                check(&llama, level, Precision::Bf16, passes);
            }
        }
    }
}

/// Two independent witnesses agree: the f64 reference, and PyTorch.
#[test]
fn hugging_face_llamas_give_the_references() {
    for name in LLAMAS {
        let Llama { dims, seq_len, weights, tokens, targets, logits, losses, grads, .. } =
            llama(name);
        let weights = weights.zip(Params::shapes(&dims));
        let weights = weights.map(|_, (values, shape)| Matrix::of(&values, &shape));
        let trace = neurollm::forward(&dims, &weights, &tokens, seq_len);
        let want = neurollm::backward(&dims, &weights, (&tokens, &targets), seq_len, &trace);
        let tolerance = tolerance(Precision::F32, &dims, tokens.len());
        assert_close(&format!("{name}: logits"), &logits, &trace.logits.data, tolerance);
        let want_losses = neurollm::losses(&trace.logits, &targets);
        assert_close(&format!("{name}: losses"), &losses, &want_losses, tolerance);
        grads.zip(want).map(|weight, (got, want)| {
            assert_close(&format!("{name}: {weight}"), &got, &want.data, tolerance);
        });
    }
}

/// A folder that transformers wrote itself: f16, tied, in several files.
#[test]
fn a_folder_of_transformers_gives_its_logits() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/hf-folder");
    let folder = Folder::open(&dir).unwrap();
    let dims = folder.model().dims;
    assert_eq!(folder.dtypes(), [("f16", 20)]);
    assert_eq!((dims.heads, dims.kv_heads, dims.tied, dims.rope_base), (6, 2, true, 20_000.0));
    assert_eq!((folder.model().positions, folder.model().end), (40, Some(3)));
    let said = std::fs::read_to_string(dir.join("logits.json")).unwrap();
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    let tokens: Vec<u32> = serde_json::from_value(said["tokens"].clone()).unwrap();
    let logits: Vec<Vec<f64>> = serde_json::from_value(said["logits"].clone()).unwrap();
    let mut weights = folder.weights().iter().map(|weight| {
        let mut tensor = Tensor::zeros(DType::F32, &weight.shape);
        folder.read(weight, tensor.host_mut()).unwrap();
        tensor
    });
    let params = Params::shapes(&dims).map(|_, _| weights.next().unwrap());
    let cpu = Cpu::new(Level::best(), 2).unwrap();
    let model = NeuroLlm::new(&cpu, dims, Precision::F32, params, tokens.len()).unwrap();
    let got = model.logits(&cpu, &tokens).unwrap();
    let tolerance = 2.0 * tolerance(Precision::F32, &dims, tokens.len());
    assert_close("logits of the folder", &got, &logits.concat(), tolerance);
}

/// Sums of a tensor core, made by rational arithmetic.
#[test]
fn tensor_core_sums_are_the_files() {
    let mut counts = [0; 2];
    for line in include_str!("golden/tensor_core.txt").lines().filter(|l| !l.starts_with('#')) {
        let [core, c, a, b, want] = line.split(' ').collect::<Vec<_>>()[..] else {
            panic!("{line}")
        };
        let core = match core {
            "hopper" => TensorCore::Hopper,
            "ampere" => TensorCore::Ampere,
            _ => panic!("{line}"),
        };
        let number = |digits: &str| u32::from_str_radix(digits, 16).unwrap();
        let factors = |digits: &str| -> Vec<bf16> {
            let places = (0..digits.len()).step_by(4);
            places.map(|i| bf16::from_bits(number(&digits[i..i + 4]) as u16)).collect()
        };
        let (a, b) = (factors(a), factors(b));
        assert_eq!(a.len(), core.group(), "{line}");
        let got = sum::sum(core, f32::from_bits(number(c)), &a, &b).to_bits();
        assert_eq!(got, number(want), "{line}: {got:08x}");
        counts[usize::from(core == TensorCore::Ampere)] += 1;
    }
    assert!(counts.iter().all(|&n| n > 100), "{counts:?} lines");
}
