//! Token files of llm.c and modded-nanogpt: 256 little-endian i32 (magic, version 1, number of
//! tokens, zeros), then the tokens, two bytes each.

use std::fs::File;
use std::io::BufReader;
use std::io::Read;
use std::path::Path;

use super::Item;
use crate::data::DataError;

/// The first four bytes: 20240520.
pub const MAGIC: [u8; 4] = 20_240_520_i32.to_le_bytes();

/// Reads a token file. Between its documents stands the separator of `tokens`, as often as it may;
/// a document ends at the end of its file.
pub fn read(
    path: &Path,
    tokens: Option<(u32, usize)>,
    visit: &mut dyn FnMut(Item) -> Result<(), DataError>,
) -> Result<(), DataError> {
    let fail = |reason: String| DataError::Input { path: path.to_path_buf(), reason };
    let Some((separator, vocab_size)) = tokens else {
        let reason = "holds tokens, whose vocabulary must be known; give the tokenizer.json that \
                      made them with --tokenizer (for GPT-2's tokens that of gpt2)";
        return Err(fail(reason.into()));
    };
    let file = File::open(path).map_err(DataError::read(path))?;
    let length = file.metadata().map_err(DataError::read(path))?.len();
    let mut file = BufReader::with_capacity(1 << 20, file);
    let mut header = [0; HEADER_BYTES];
    if length < HEADER_BYTES as u64 {
        return Err(fail(format!("truncated: {length} bytes, less than a header of 1024")));
    }
    file.read_exact(&mut header).map_err(DataError::read(path))?;
    let word = |i: usize| {
        i32::from_le_bytes([header[4 * i], header[4 * i + 1], header[4 * i + 2], header[4 * i + 3]])
    };
    if header[..4] != MAGIC || word(1) != 1 {
        let reason = format!(
            "magic {} and version {}: only 20240520 and 1 (GPT-2 tokens of two bytes) are known",
            word(0),
            word(1)
        );
        return Err(fail(reason));
    }
    let count = u64::try_from(word(2)).unwrap_or(u64::MAX);
    if length - HEADER_BYTES as u64 != count.saturating_mul(2) {
        return Err(fail(format!(
            "its header tells of {} tokens, but it has {length} bytes",
            word(2)
        )));
    }
    let (mut at, mut open) = (0, false);
    while at < count {
        let take = (count - at).min(CHUNK_TOKENS) as usize;
        let mut bytes = vec![0; 2 * take];
        file.read_exact(&mut bytes).map_err(DataError::read(path))?;
        let tokens: Vec<u32> =
            bytes.chunks_exact(2).map(|b| u32::from(u16::from_le_bytes([b[0], b[1]]))).collect();
        if let Some(i) = tokens.iter().position(|&t| t as usize >= vocab_size) {
            return Err(fail(format!(
                "token {} at {} of a vocabulary of {vocab_size}: another tokenizer made it",
                tokens[i],
                at + i as u64
            )));
        }
        for (i, part) in tokens.split(|&t| t == separator).enumerate() {
            if i > 0 && std::mem::take(&mut open) {
                visit(Item::End)?;
            }
            if !part.is_empty() {
                open = true;
                visit(Item::Tokens(part.to_vec()))?;
            }
        }
        at += take as u64;
    }
    if open { visit(Item::End) } else { Ok(()) }
}

const HEADER_BYTES: usize = 1024;
const CHUNK_TOKENS: u64 = 1 << 20;
