//! Kernels by Hopper's warp groups: what they compute on the emulator, and who computes attention, they
//! or their twins, after which answer of a probe. There the device is a pretender in host memory, whose
//! kernels write a digest of all they are to read: a launcher that hands a kernel by warp groups
//! something else than its twin is found out.

use std::collections::hash_map::DefaultHasher;
use std::hash::Hash;
use std::hash::Hasher;
use std::sync::Arc;
use std::sync::Mutex;

use neuroshard::backend::cpu::{Cpu, Level};
use neuroshard::backend::cuda::Cuda;
use neuroshard::backend::cuda::door::{Address, Arg, Door, Fault, Launch, Matrix, Memory};
use neuroshard::backend::cuda::emulator::{Emulator, Order};
use neuroshard::ops::Kernels;
use neuroshard::ops::OpError;
use neuroshard::ops::Precision;
use neuroshard::ops::TensorCore;
use neuroshard::ops::attention;
use neuroshard::ops::attention::Extents;
use neuroshard::ops::matmul;
use neuroshard::tensor::DType;

use crate::case::{Device, smooth};

#[test]
fn on_the_emulator_they_give_the_cpus_bits() {
    // Sequences, tokens, query heads, key/value heads, head width.
    let shapes = [
        [2, 17, 3, 1, 64],  // a group of three, less than a tile
        [1, 140, 2, 1, 64], // tails, stages that are used again, both halves of a block
        [1, 70, 2, 2, 128], // the widest
    ];
    let open = Emulator::open(&Emulator::usual_path(), TensorCore::Hopper, Order::Random);
    let Ok(emulator) = open.map_err(|why| println!("SKIPPED LOUDLY: {why}")) else { return };
    let launched = Arc::default();
    let cuda = Cuda::new(Arc::new(Mapped(emulator, Arc::clone(&launched))));
    let cpu = Cpu::new(Level::best(), 2).unwrap();
    for [sequences, seq_len, heads, kv_heads, head_dim] in shapes {
        let extents = Extents { sequences, seq_len, heads, kv_heads, head_dim };
        assert!(run(&cuda, extents) == run(&cpu, extents), "{extents:?}");
        let names: Vec<_> = launched.lock().unwrap().drain(..).collect();
        let delta = Pretender::known(&format!("attention_delta_tc_{head_dim}"));
        let [forward, keys, queries] = kernels("wgmma", head_dim);
        assert_eq!(names, [forward, delta, keys, queries]);
    }
    let products = |kernels: &dyn Kernels| {
        let device = Device(kernels, TensorCore::Hopper);
        let precision = Precision::Tc(TensorCore::Hopper);
        let [n, i, o] = [136, 72, 264];
        let inp = device.put(DType::Bf16, &[n, i], &smooth(n * i, 1009));
        let weight = device.put(DType::Bf16, &[o, i], &smooth(o * i, 613));
        let mut out = device.nans(DType::Bf16, &[n, o]);
        let (result, x, w) = (out.view_mut(), inp.view(), weight.view());
        let args = matmul::Forward { out: result, inp: x, weight: w, precision };
        matmul::forward(kernels, args).unwrap();
        let mut dinp = device.nans(DType::Bf16, &[n, i]);
        let (dout, result) = (out.view(), dinp.view_mut());
        let args = matmul::BackwardInput { dinp: result, dout, weight: weight.view(), precision };
        matmul::backward_input(kernels, args).unwrap();
        let mut dweight = device.put(DType::F32, &[o, i], &smooth(o * i, 401));
        let (start, dout, result) = (matmul::Start::Existing, out.view(), dweight.view_mut());
        let args =
            matmul::BackwardWeight { dweight: result, dout, inp: inp.view(), precision, start };
        matmul::backward_weight(kernels, args).unwrap();
        [out, dinp, dweight].map(|x| device.bits(&x))
    };
    assert!(products(&cuda) == products(&cpu));
    let names: Vec<_> = launched.lock().unwrap().drain(..).collect();
    let want = ["matmul_forward", "matmul_backward_input", "matmul_backward_weight"];
    assert_eq!(names, want.map(|name| format!("{name}_wgmma")));
}

#[test]
fn they_serve_once_they_gave_their_twins_bits() {
    for head_dim in [64, 128] {
        let device = Pretender::default();
        let cuda = device.cuda();
        let (names, twins) = (kernels("wgmma", head_dim), kernels("tc", head_dim));
        let got = step(&cuda, head_dim).unwrap();
        let forward = [twins[0], names[0], names[0]];
        let delta = Pretender::known(&format!("attention_delta_tc_{head_dim}"));
        let probe = [twins[0], delta, twins[1], twins[2], delta, names[1], names[2]];
        let want = [&forward[..], &probe, &[delta, names[1], names[2]]].concat();
        assert_eq!(device.launched(), want);
        assert_eq!(step(&cuda, head_dim).unwrap(), got);
        assert_eq!(device.launched(), [names[0], delta, names[1], names[2]]);
        assert_eq!(
            step(&Pretender { maps: false, ..Pretender::default() }.cuda(), head_dim),
            Ok(got)
        );
    }
}

#[test]
fn other_bits_are_not_used() {
    for liar in kernels("wgmma", 64) {
        let device = Pretender { liar, ..Pretender::default() };
        let cuda = device.cuda();
        let got = step(&cuda, 64).unwrap();
        device.launched();
        assert_eq!(step(&cuda, 64).unwrap(), got);
        let launched = device.launched();
        let (forward, backward) = (liar.contains("forward"), liar.contains("backward"));
        let by = |warp_groups: bool| kernels(if warp_groups { "wgmma" } else { "tc" }, 64);
        assert_eq!(launched[0], by(!forward)[0], "{liar}");
        assert_eq!(launched[2..], by(!backward)[1..], "{liar}");
        assert_eq!(step(&Pretender { maps: false, ..Pretender::default() }.cuda(), 64), Ok(got));
    }
}

#[test]
fn other_devices_and_widths_are_left_to_the_twins() {
    let newer = Pretender { capability: (10, 0), ..Pretender::default() };
    let without = Pretender { maps: false, ..Pretender::default() };
    for (device, head_dim) in [(newer, 128), (without, 64), (Pretender::default(), 32)] {
        let cuda = device.cuda();
        step(&cuda, head_dim).unwrap();
        let launched = device.launched();
        let twins = kernels("tc", head_dim);
        assert_eq!(launched.len(), 4, "{launched:?}");
        assert_eq!((launched[0], &launched[2..]), (twins[0], &twins[1..]));
    }
}

#[test]
fn a_probe_that_fails_is_an_error_and_tried_again() {
    let broken = kernels("wgmma", 64)[1];
    let device = Pretender { fails_once: Mutex::new(Some(broken)), ..Pretender::default() };
    let cuda = device.cuda();
    let why = step(&cuda, 64).unwrap_err();
    assert!(matches!(&why, OpError::Launch { cause, .. } if cause.contains(broken)), "{why}");
    device.launched();
    step(&cuda, 64).unwrap();
    let launched = device.launched();
    assert_eq!(launched.last(), Some(&kernels("wgmma", 64)[2]), "{launched:?}");
}

/// Forward, keys and queries of a kind, for heads of `width`.
fn kernels(kind: &str, width: usize) -> [&'static str; 3] {
    ["forward", "backward_keys", "backward_queries"]
        .map(|pass| Pretender::known(&format!("attention_{pass}_{kind}_{width}")))
}

/// Forward and backward of a few tokens; the bits of out, lse and dqkv.
fn step(cuda: &Cuda, head_dim: usize) -> Result<Vec<Vec<u32>>, OpError> {
    run(cuda, Extents { sequences: 3, seq_len: 150, heads: 4, kv_heads: 2, head_dim })
}

fn run(kernels: &dyn Kernels, extents: Extents) -> Result<Vec<Vec<u32>>, OpError> {
    let device = Device(kernels, TensorCore::Hopper);
    let precision = Precision::Tc(TensorCore::Hopper);
    let (n, row) = (extents.rows(), extents.qkv_width());
    let width = extents.heads * extents.head_dim;
    let qkv = device.put(DType::Bf16, &[n, row], &smooth(n * row, 1009));
    let dout = device.put(DType::Bf16, &[n, width], &smooth(n * width, 613));
    let mut out = device.nans(DType::Bf16, &[n, width]);
    let lines = [extents.sequences, extents.heads, extents.seq_len];
    let mut lse = device.nans(DType::F32, &lines);
    let mut dqkv = device.nans(DType::Bf16, &[n, row]);
    let (o, l) = (out.view_mut(), lse.view_mut());
    let args = attention::Forward { out: o, lse: l, qkv: qkv.view(), extents, precision };
    attention::forward(kernels, args)?;
    let args = attention::Backward {
        dqkv: dqkv.view_mut(),
        dout: dout.view(),
        out: out.view(),
        lse: lse.view(),
        qkv: qkv.view(),
        extents,
        precision,
    };
    attention::backward(kernels, args)?;
    Ok([&out, &lse, &dqkv].map(|x| device.bits(x)).into())
}

/// The emulator with tensor maps, and what was launched. Launches of probes, which would take long, do
/// nothing: so twins agree, and kernels by warp groups are used.
#[derive(Debug)]
struct Mapped(Emulator, Arc<Mutex<Vec<&'static str>>>);

/// Tokens, or k, of a probe: no test has such.
const PROBES: [i32; 3] = [330, 458, 1096];

impl Door for Mapped {
    fn describe(&self) -> String {
        self.0.describe()
    }
    fn compute_capability(&self) -> (u32, u32) {
        self.0.compute_capability()
    }
    fn memory(&self) -> Result<Memory, Fault> {
        self.0.memory()
    }
    fn alloc(&self, bytes: usize) -> Result<Address, Fault> {
        self.0.alloc(bytes)
    }
    fn free(&self, address: Address) {
        self.0.free(address);
    }
    fn write(&self, to: Address, from: &[u8]) -> Result<(), Fault> {
        self.0.write(to, from)
    }
    fn read(&self, to: &mut [u8], from: Address) -> Result<(), Fault> {
        self.0.read(to, from)
    }
    fn copy(&self, to: Address, from: Address, bytes: usize) -> Result<(), Fault> {
        self.0.copy(to, from, bytes)
    }
    fn clear(&self, to: Address, bytes: usize) -> Result<(), Fault> {
        self.0.clear(to, bytes)
    }
    fn launch(&self, launch: &Launch<'_>) -> Result<(), Fault> {
        let of_probe = |arg: &Arg| matches!(arg, Arg::I32(x) if PROBES.contains(x));
        if launch.args.iter().any(of_probe) {
            return Ok(());
        }
        self.1.lock().unwrap().push(launch.kernel);
        self.0.launch(launch)
    }
    fn synchronize(&self) -> Result<(), Fault> {
        self.0.synchronize()
    }
    fn tensor_map(&self, matrix: &Matrix) -> Result<Option<[u8; 128]>, Fault> {
        Ok(Some(encode(matrix)))
    }
}

/// A device that pretends to compute.
#[derive(Debug)]
struct Pretender {
    memory: Arc<Mutex<Vec<u8>>>,
    launched: Arc<Mutex<Vec<&'static str>>>,
    capability: (u32, u32),
    maps: bool,
    /// A kernel that writes other bits.
    liar: &'static str,
    /// A kernel that fails when it is launched first.
    fails_once: Mutex<Option<&'static str>>,
}

impl Default for Pretender {
    fn default() -> Self {
        Self {
            memory: Arc::new(Mutex::new(vec![0; 256])),
            launched: Arc::default(),
            capability: (9, 0),
            maps: true,
            liar: "",
            fails_once: Mutex::new(None),
        }
    }
}

impl Pretender {
    /// Kernels that run on this very memory.
    fn cuda(&self) -> Cuda {
        Cuda::new(Arc::new(Self {
            memory: self.memory.clone(),
            launched: self.launched.clone(),
            fails_once: Mutex::new(self.fails_once.lock().unwrap().take()),
            ..*self
        }))
    }

    /// What was launched since this was last asked.
    fn launched(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.launched.lock().unwrap())
    }

    /// The kernel of that name.
    fn known(name: &str) -> &'static str {
        KERNELS.iter().find(|(kernel, _)| *kernel == name).expect(name).0
    }

    /// The bytes of a matrix per sequence; from a map, if `mapped`.
    fn read_matrix(&self, at: Address, e: Extents, columns: usize, mapped: bool) -> Vec<u8> {
        let bytes = |at: Address, count: usize| {
            let at = at.0 as usize;
            self.memory.lock().unwrap()[at..at + count].to_vec()
        };
        let direct = Matrix { address: at, count: e.sequences, rows: e.seq_len, columns };
        let matrix = match mapped {
            true => decode(&bytes(at, 128)),
            false => direct,
        };
        assert_eq!(matrix, Matrix { address: matrix.address, ..direct });
        bytes(matrix.address, e.rows() * columns * 2)
    }

    /// Writes a digest of `inputs`, repeated, to `count` bytes from `at` on.
    fn put(&self, kernel: &str, at: Address, count: usize, inputs: &impl Hash) {
        let mut hasher = DefaultHasher::new();
        inputs.hash(&mut hasher);
        (self.liar == kernel).hash(&mut hasher);
        let digest = hasher.finish().to_le_bytes();
        let at = at.0 as usize;
        let mut memory = self.memory.lock().unwrap();
        memory[at..at + count].iter_mut().zip(digest.iter().cycle()).for_each(|(to, x)| *to = *x);
    }

    fn pretend(&self, launch: &Launch<'_>) {
        let name = launch.kernel;
        let (pointers, numbers): (Vec<Arg>, Vec<Arg>) =
            launch.args.iter().partition(|arg| matches!(arg, Arg::Pointer(_)));
        let at: Vec<_> = pointers.iter().map(|arg| Address(arg.word())).collect();
        let numbers: Vec<_> = numbers.iter().map(|arg| arg.word()).collect();
        let head_dim = name.rsplit('_').next().unwrap().parse().unwrap();
        let by_warp_groups = name.contains("wgmma");
        if name.contains("delta") {
            let [rows, tokens, heads] = [0, 1, 2].map(|i| numbers[i] as usize);
            assert_eq!(rows % (tokens * heads), 0);
            let width = rows * head_dim * 2;
            let memory = self.memory.lock().unwrap().clone();
            let inputs =
                [at[1], at[2]].map(|x| memory[x.0 as usize..x.0 as usize + width].to_vec());
            return self.put(name, at[0], rows * 4, &inputs);
        }
        let [seq_len, heads, kv_heads] = [0, 1, 2].map(|i| numbers[i] as usize);
        let [x, y, z] = launch.grid.map(|x| x as usize);
        let (sequences, along_heads, tiles) = if by_warp_groups { (y, x, z) } else { (z, y, x) };
        let e = Extents { sequences, seq_len, heads, kv_heads, head_dim };
        let by_keys = name.contains("keys");
        assert_eq!(along_heads, if by_keys { kv_heads } else { heads });
        let tile = if by_warp_groups || by_keys { 128 } else { 64 };
        assert_eq!(tiles, seq_len.div_ceil(tile));
        let floats = |at: Address| {
            let at = at.0 as usize;
            self.memory.lock().unwrap()[at..at + e.rows() * heads * 4].to_vec()
        };
        let (row, width) = (e.qkv_width(), heads * head_dim);
        if name.contains("forward") {
            let qkv = self.read_matrix(at[2], e, row, by_warp_groups);
            self.put(name, at[0], e.rows() * width * 2, &(&qkv, &numbers, "out"));
            return self.put(name, at[1], e.rows() * heads * 4, &(&qkv, &numbers, "lse"));
        }
        let (qkv, dout, lines) = match by_warp_groups {
            true => (at[3], at[3].plus(128), [at[1], at[2]]),
            false => (at[4], at[1], [at[2], at[3]]),
        };
        let qkv = self.read_matrix(qkv, e, row, by_warp_groups);
        let dout = self.read_matrix(dout, e, width, by_warp_groups);
        let inputs = (qkv, dout, lines.map(floats), numbers);
        let half = e.rows() * row;
        self.put(name, if by_keys { at[0] } else { at[0].plus(half) }, half, &inputs);
    }
}

/// A map that says what it is of, as kernels/emulator/hopper.cc reads it.
fn encode(matrix: &Matrix) -> [u8; 128] {
    let mut map = [0; 128];
    let words = [matrix.count as u64, matrix.rows as u64, matrix.columns as u64, matrix.address.0];
    for (to, word) in map.chunks_mut(8).zip(words) {
        to.copy_from_slice(&word.to_le_bytes());
    }
    map
}

fn decode(map: &[u8]) -> Matrix {
    let word = |i: usize| u64::from_le_bytes(map[8 * i..8 * i + 8].try_into().unwrap());
    let [count, rows, columns] = [0, 1, 2].map(|i| word(i) as usize);
    Matrix { address: Address(word(3)), count, rows, columns }
}

impl Door for Pretender {
    fn describe(&self) -> String {
        "pretender".into()
    }
    fn compute_capability(&self) -> (u32, u32) {
        self.capability
    }
    fn memory(&self) -> Result<Memory, Fault> {
        Ok(Memory { free_bytes: 1 << 40, total_bytes: 1 << 40 })
    }
    fn alloc(&self, bytes: usize) -> Result<Address, Fault> {
        let mut memory = self.memory.lock().unwrap();
        let at = memory.len();
        memory.resize((at + bytes).next_multiple_of(256), 0);
        Ok(Address(at as u64))
    }
    fn free(&self, _: Address) {}
    fn write(&self, to: Address, from: &[u8]) -> Result<(), Fault> {
        let to = to.0 as usize;
        self.memory.lock().unwrap()[to..to + from.len()].copy_from_slice(from);
        Ok(())
    }
    fn read(&self, to: &mut [u8], from: Address) -> Result<(), Fault> {
        let from = from.0 as usize;
        to.copy_from_slice(&self.memory.lock().unwrap()[from..from + to.len()]);
        Ok(())
    }
    fn copy(&self, to: Address, from: Address, bytes: usize) -> Result<(), Fault> {
        let (to, from) = (to.0 as usize, from.0 as usize);
        self.memory.lock().unwrap().copy_within(from..from + bytes, to);
        Ok(())
    }
    fn clear(&self, to: Address, bytes: usize) -> Result<(), Fault> {
        self.memory.lock().unwrap()[to.0 as usize..to.0 as usize + bytes].fill(0);
        Ok(())
    }
    fn launch(&self, launch: &Launch<'_>) -> Result<(), Fault> {
        let (_, threads) = KERNELS.iter().find(|(name, _)| *name == launch.kernel).unwrap();
        assert_eq!(launch.block, [*threads, 1, 1], "{}", launch.kernel);
        if self.fails_once.lock().unwrap().take_if(|name| *name == launch.kernel).is_some() {
            let cause = "it is broken".to_owned();
            return Err(Fault::Launch { kernel: launch.kernel, cause });
        }
        self.launched.lock().unwrap().push(launch.kernel);
        self.pretend(launch);
        Ok(())
    }
    fn synchronize(&self) -> Result<(), Fault> {
        Ok(())
    }
    fn tensor_map(&self, matrix: &Matrix) -> Result<Option<[u8; 128]>, Fault> {
        assert!(matrix.address.0.is_multiple_of(16) && matrix.columns.is_multiple_of(8));
        Ok(self.maps.then(|| encode(matrix)))
    }
}

/// All kernels of attention on tensor cores, and the threads of a block.
const KERNELS: &[(&str, u32)] = &[
    ("attention_forward_tc_32", 128),
    ("attention_forward_tc_64", 128),
    ("attention_forward_tc_128", 128),
    ("attention_forward_wgmma_64", 384),
    ("attention_forward_wgmma_128", 384),
    ("attention_delta_tc_32", 256),
    ("attention_delta_tc_64", 256),
    ("attention_delta_tc_128", 256),
    ("attention_backward_keys_tc_32", 256),
    ("attention_backward_keys_tc_64", 256),
    ("attention_backward_keys_tc_128", 256),
    ("attention_backward_queries_tc_32", 128),
    ("attention_backward_queries_tc_64", 128),
    ("attention_backward_queries_tc_128", 128),
    ("attention_backward_keys_wgmma_64", 384),
    ("attention_backward_keys_wgmma_128", 384),
    ("attention_backward_queries_wgmma_64", 384),
    ("attention_backward_queries_wgmma_128", 384),
];
