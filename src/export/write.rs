//! Writing a Hugging Face folder: under a temporary name, synced, then renamed.

use std::error;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use half::bf16;
use safetensors::Dtype;

use super::config::{CONFIG, Model};
use super::shards::{INDEX, Shards};
use super::tensors::{Part, Weight, weights};
use super::tokenizer::{TOKENIZER, generation_config, tokenizer_config};
use super::{Error, Staging};

/// How the weights are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Float {
    /// As they are.
    F32,
    /// Rounded to the nearest bf16, to the even one of two.
    Bf16,
}

/// What a folder is to hold, but for the weights.
#[derive(Debug)]
pub struct Contents<'a> {
    /// The model.
    pub model: &'a Model,
    /// The bytes of its `tokenizer.json`.
    pub tokenizer: &'a [u8],
    /// The text of the token that ends a document, where there is one.
    pub end_text: Option<&'a str>,
    /// How its weights are written.
    pub float: Float,
    /// Bytes of tensors in a file, at most, unless a single tensor has more.
    pub max_file_bytes: u64,
}

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exported {
    /// Files of weights.
    pub files: usize,
    /// Tensors in them.
    pub tensors: usize,
    /// Bytes of these.
    pub tensor_bytes: u64,
}

/// Fills a buffer with the weight of a name.
pub type Fill<'a> =
    &'a mut dyn FnMut(&Weight, &mut [f32]) -> Result<(), Box<dyn error::Error + Send + Sync>>;

/// Makes the folder `out`, which must not exist or be empty. `fill` is asked for each weight once,
/// so that no more than the largest is in memory. On an error nothing is left behind.
pub fn write(out: &Path, contents: &Contents<'_>, fill: Fill<'_>) -> Result<Exported, Error> {
    let staging = Staging::create(out)?;
    let all = weights(&contents.model.dims);
    let too_large = |why: String| Error::refused(out, why, "there is no such file");
    let shards = Shards::of(&all, contents.float.dtype(), contents.max_file_bytes);
    let shards = shards.map_err(too_large)?;
    let mut files = Vec::new();
    for file in &shards.files {
        let path = staging.dir().join(&file.name);
        let made = File::create_new(&path).map_err(Error::io("create", &path))?;
        made.set_len(file.size_bytes).map_err(Error::io("extend", &path))?;
        made.write_all_at(&file.head, 0).map_err(Error::io("write", &path))?;
        files.push((path, made));
    }
    let mut values = Vec::new();
    for weight in &all {
        values.resize(weight.shape.iter().product(), 0.0);
        fill(weight, &mut values).map_err(Error::Weights)?;
        let mut rest = &values[..];
        for part in &weight.parts {
            let (mine, others) = rest.split_at(part.shape.iter().product());
            rest = others;
            let (i, offset) = shards.places[&part.name];
            let (path, file) = &files[i];
            write_part(path, file, offset, part, contents.float, mine)?;
        }
    }
    for (path, file) in &files {
        file.sync_all().map_err(Error::io("sync", path))?;
    }
    if let Some(index) = shards.index() {
        staging.write(INDEX, index.as_bytes())?;
    }
    let (model, positions) = (contents.model, contents.model.positions);
    staging.write(TOKENIZER, contents.tokenizer)?;
    let tokenizer = tokenizer_config(contents.end_text, positions);
    staging.write("tokenizer_config.json", tokenizer.as_bytes())?;
    staging.write("generation_config.json", generation_config(model.end).as_bytes())?;
    staging.write(CONFIG, model.to_json(contents.float).as_bytes())?;
    staging.publish()?;
    let (tensors, tensor_bytes) = (shards.places.len(), shards.tensor_bytes());
    Ok(Exported { files: files.len(), tensors, tensor_bytes })
}

/// Writes one tensor into its place, in pieces.
fn write_part(
    path: &Path,
    file: &File,
    mut offset: u64,
    part: &Part,
    float: Float,
    values: &[f32],
) -> Result<(), Error> {
    let mut rounded = Vec::new();
    for piece in values.chunks(PIECE_ELEMENTS) {
        let bytes: &[u8] = match float {
            Float::F32 => bytemuck::cast_slice(piece),
            Float::Bf16 => {
                rounded.clear();
                rounded.extend(piece.iter().map(|&x| bf16::from_f32(x)));
                let lost =
                    piece.iter().zip(&rounded).find(|(x, r)| x.is_finite() && !r.is_finite());
                if let Some((value, _)) = lost {
                    let what = format!("tensor {}: {value} is too large for bf16", part.name);
                    return Err(Error::refused(path, what, "export with --dtype f32"));
                }
                bytemuck::cast_slice(&rounded)
            }
        };
        file.write_all_at(bytes, offset).map_err(Error::io("write", path))?;
        offset += bytes.len() as u64;
    }
    Ok(())
}

impl Float {
    /// Its name in `config.json`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::Bf16 => "bfloat16",
        }
    }

    fn dtype(self) -> Dtype {
        match self {
            Self::F32 => Dtype::F32,
            Self::Bf16 => Dtype::BF16,
        }
    }
}

/// Bytes of tensors in a file where nothing else is asked for: transformers' 5 GB.
pub const DEFAULT_FILE_BYTES: u64 = 5_000_000_000;
/// Elements written at once.
const PIECE_ELEMENTS: usize = 1 << 20;
