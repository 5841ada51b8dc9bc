//! Reading a Hugging Face folder that may be of another kind, damaged or hostile.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::path::PathBuf;

use half::bf16;
use half::f16;
use safetensors::Dtype;

use super::Error;
use super::config::{CONFIG, Model};
use super::header::{self, Entry};
use super::shards::{INDEX, SINGLE};
use super::tensors::{LM_HEAD, Part, Weight, weights};
use super::tokenizer::TOKENIZER;

/// A folder whose model is one of this program and whose files have all its tensors, in their
/// extents; the values have not been read.
#[derive(Debug)]
pub struct Folder {
    dir: PathBuf,
    model: Model,
    weights: Vec<Weight>,
    tensors: BTreeMap<String, Tensor>,
}

/// A tensor of the folder.
#[derive(Debug)]
struct Tensor {
    file: String,
    entry: Entry,
}

impl Folder {
    /// Opens the folder `dir`. Takes no memory but for names and extents.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let path = dir.join(CONFIG);
        let text = header::read_bounded(&path, MAX_CONFIG_BYTES).map_err(|error| match error {
            Error::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                let remedy = "name a folder as transformers' save_pretrained writes it";
                Error::refused(dir, format!("not a Hugging Face model: no {CONFIG}"), remedy)
            }
            other => other,
        })?;
        let model = Model::from_json(&path, &text)?;
        let tensors = find_tensors(dir)?;
        if model.dims.layers > tensors.len() {
            let (layers, count) = (model.dims.layers, tensors.len());
            let what = format!("num_hidden_layers: {layers}, but the files have {count} tensors");
            return Err(Error::refused(&path, what, OTHER_MODEL));
        }
        let weights = weights(&model.dims);
        let folder = Self { dir: dir.to_owned(), model, weights, tensors };
        folder.check_tensors()?;
        Ok(folder)
    }

    /// What it says of the model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Its weights, in canonical order.
    pub fn weights(&self) -> &[Weight] {
        &self.weights
    }

    /// The element types of its tensors and how many have each.
    pub fn dtypes(&self) -> Vec<(&'static str, usize)> {
        let mut counts = BTreeMap::new();
        for tensor in self.tensors.values() {
            *counts.entry(float_name(tensor.entry.dtype).unwrap_or("?")).or_insert(0) += 1;
        }
        counts.into_iter().collect()
    }

    /// Path and bytes of its `tokenizer.json`; none if it has none.
    pub fn tokenizer(&self) -> Result<Option<(PathBuf, Vec<u8>)>, Error> {
        let path = self.dir.join(TOKENIZER);
        match header::read_bounded(&path, MAX_TOKENIZER_BYTES) {
            Ok(bytes) => Ok(Some((path, bytes))),
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads the values of `weight`, one of [`Self::weights`]: bf16 and f16 become the f32 that
    /// they are. Refuses a value that is no number.
    ///
    /// # Panics
    /// If `values` has another length than the weight (a bug of the caller).
    pub fn read(&self, weight: &Weight, values: &mut [f32]) -> Result<(), Error> {
        assert_eq!(values.len(), weight.shape.iter().product::<usize>(), "{}", weight.name);
        let mut rest = values;
        for part in &weight.parts {
            let (mine, others) = rest.split_at_mut(part.shape.iter().product());
            self.read_part(part, mine)?;
            rest = others;
        }
        Ok(())
    }

    fn read_part(&self, part: &Part, values: &mut [f32]) -> Result<(), Error> {
        let missing = || Error::refused(&self.dir, format!("no tensor {}", part.name), OTHER_MODEL);
        let Tensor { file, entry } = self.tensors.get(&part.name).ok_or_else(missing)?;
        let path = self.dir.join(file);
        let opened = File::open(&path).map_err(Error::io("open", &path))?;
        let (width, mut at) = (entry.dtype.bitsize() / 8, entry.offset);
        let (mut room, mut first) = (Vec::new(), 0);
        for piece in values.chunks_mut(PIECE_ELEMENTS) {
            room.resize(piece.len() * width, 0);
            opened.read_exact_at(&mut room, at).map_err(Error::io("read", &path))?;
            widen(entry.dtype, &room, piece);
            if let Some(i) = piece.iter().position(|x| !x.is_finite()) {
                let (name, value, i) = (&part.name, piece[i], first + i);
                let what = format!("tensor {name}: element {i} is {value}, which is no number");
                return Err(Error::refused(&path, what, "save a model that has not diverged"));
            }
            at += room.len() as u64;
            first += piece.len();
        }
        Ok(())
    }

    /// Whether the files have exactly the model's tensors.
    fn check_tensors(&self) -> Result<(), Error> {
        let mut left: BTreeSet<&str> = self.tensors.keys().map(String::as_str).collect();
        for part in self.weights.iter().flat_map(|w| &w.parts) {
            let Some(Tensor { file, entry }) = self.tensors.get(&part.name) else {
                let remedy = match part.name == LM_HEAD {
                    true => "if the embedding is its LM head, write tie_word_embeddings true",
                    false => OTHER_MODEL,
                };
                let what = format!("tensor {} is missing", part.name);
                return Err(Error::refused(&self.dir, what, remedy));
            };
            left.remove(&part.name[..]);
            let path = self.dir.join(file);
            if entry.shape != part.shape {
                let (got, want) = (&entry.shape, &part.shape);
                let what = format!("tensor {} is {got:?}, should be {want:?}", part.name);
                return Err(Error::refused(&path, what, OTHER_MODEL));
            }
            if float_name(entry.dtype).is_none() {
                let what = format!("tensor {} is of type {}", part.name, entry.dtype);
                let remedy = "F32, BF16 and F16 can be imported: save the model in one of them";
                return Err(Error::refused(&path, what, remedy));
            }
        }
        let Some(name) = left.into_iter().find(|name| !name.ends_with(DERIVED)) else {
            return Ok(());
        };
        let path = self.tensors.get(name).map_or(self.dir.clone(), |t| self.dir.join(&t.file));
        let remedy = match name == LM_HEAD {
            true => "tie_word_embeddings is true: write false if the model has a head of its own",
            false => OTHER_MODEL,
        };
        Err(Error::refused(&path, format!("tensor {name} is none of the model's"), remedy))
    }
}

/// All tensors of a folder, by name.
fn find_tensors(dir: &Path) -> Result<BTreeMap<String, Tensor>, Error> {
    let (single, index) = (dir.join(SINGLE), dir.join(INDEX));
    match (single.exists(), index.exists()) {
        (true, true) => {
            let what = format!("has {SINGLE} and {INDEX}: two models");
            Err(Error::refused(dir, what, "remove the one that is not meant"))
        }
        (true, false) => {
            let entries = header::read(&single)?.into_iter();
            let tensor = |(name, entry)| (name, Tensor { file: SINGLE.to_owned(), entry });
            Ok(entries.map(tensor).collect())
        }
        (false, true) => find_sharded(dir, &index),
        (false, false) => Err(no_weights(dir)),
    }
}

/// The tensors of the files that an index names.
fn find_sharded(dir: &Path, index: &Path) -> Result<BTreeMap<String, Tensor>, Error> {
    let map = header::read_index(index)?;
    let files: BTreeSet<&String> = map.values().collect();
    let mut tensors: BTreeMap<String, Tensor> = BTreeMap::new();
    for file in files {
        let path = dir.join(file);
        for (name, entry) in header::read(&path)? {
            if let Some(other) = tensors.get(&name) {
                let what = format!("tensor {name} is in {} too", other.file);
                return Err(Error::refused(&path, what, "each may be in one file only"));
            }
            match map.get(&name) {
                Some(meant) if meant == file => {}
                Some(meant) => {
                    let what = format!("tensor {name} is here; {INDEX} says in {meant}");
                    return Err(Error::refused(&path, what, OTHER_FILES));
                }
                None => {
                    let what = format!("tensor {name} is not in {INDEX}");
                    return Err(Error::refused(&path, what, OTHER_FILES));
                }
            }
            tensors.insert(name, Tensor { file: file.clone(), entry });
        }
    }
    if let Some((name, file)) = map.iter().find(|(name, _)| !tensors.contains_key(*name)) {
        let what = format!("weight_map: tensor {name} is not in {file}");
        return Err(Error::refused(index, what, OTHER_FILES));
    }
    Ok(tensors)
}

/// Why a folder without safetensors has no weights to be had.
fn no_weights(dir: &Path) -> Error {
    let names = fs::read_dir(dir).into_iter().flatten().flatten();
    let pickle = names
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .find(|name| [".bin", ".pt", ".pth", ".ckpt"].iter().any(|end| name.ends_with(end)));
    match pickle {
        Some(name) => {
            let what =
                format!("{name} is a pickle, which runs code when it is read; it is not read");
            let remedy = "load it in transformers where you trust it, and save_pretrained writes \
                          safetensors";
            Error::refused(dir, what, remedy)
        }
        None => {
            let what = format!("neither {SINGLE} nor {INDEX}");
            Error::refused(dir, what, "get the model's weights in safetensors")
        }
    }
}

/// The f32 that each element is.
fn widen(dtype: Dtype, bytes: &[u8], values: &mut [f32]) {
    let halves = || bytes.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]]));
    match dtype {
        Dtype::BF16 => {
            values.iter_mut().zip(halves()).for_each(|(x, h)| *x = bf16::from_bits(h).to_f32());
        }
        Dtype::F16 => {
            values.iter_mut().zip(halves()).for_each(|(x, h)| *x = f16::from_bits(h).to_f32());
        }
        _ => {
            let words = bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
            values.iter_mut().zip(words).for_each(|(x, word)| *x = word);
        }
    }
}

/// The name of a type that can be read.
fn float_name(dtype: Dtype) -> Option<&'static str> {
    match dtype {
        Dtype::F32 => Some("f32"),
        Dtype::BF16 => Some("bf16"),
        Dtype::F16 => Some("f16"),
        _ => None,
    }
}

/// Ends the name of a tensor that old folders have and that follows from `rope_theta`.
const DERIVED: &str = ".self_attn.rotary_emb.inv_freq";
/// Elements read at once.
const PIECE_ELEMENTS: usize = 1 << 20;
/// A configuration has a few kB.
const MAX_CONFIG_BYTES: u64 = 1 << 20;
/// A tokenizer has a few MB.
const MAX_TOKENIZER_BYTES: u64 = 256 << 20;
const OTHER_MODEL: &str = "config.json and weights are not of one model: get both from one place";
const OTHER_FILES: &str = "index and files are not of one model: get all from one place";
