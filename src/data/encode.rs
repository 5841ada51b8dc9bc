//! Texts into shards: pieces are read in order, encoded on all threads, written in order.

use std::path::Path;

use super::DataError;
use super::manifest::ShardEntry;
use super::manifest::shard_name;
use super::manifest::token_bytes;
use super::provenance::InputEntry;
use super::shard_writer::ShardWriter;
use super::text::Input;
use super::text::Pieces;
use super::tokenizer::Tokenizer;
use crate::crypto::Domain;
use crate::crypto::Hasher;

/// Writes the shards of a corpus into a folder.
pub(super) struct Encoder<'a> {
    dir: &'a Path,
    tokenizer: &'a Tokenizer,
    shard_tokens: u64,
    progress: &'a dyn Fn(u64),
    done_bytes: u64,
    /// Read, not yet encoded.
    pieces: Vec<String>,
    /// Whether a document ends after the piece.
    ends: Vec<bool>,
    writer: Option<ShardWriter>,
    shards: Vec<ShardEntry>,
}

impl<'a> Encoder<'a> {
    /// Nothing written yet. `progress` is told the bytes of text that were passed.
    pub fn new(
        dir: &'a Path,
        tokenizer: &'a Tokenizer,
        shard_tokens: u64,
        progress: &'a dyn Fn(u64),
    ) -> Self {
        Self {
            dir,
            tokenizer,
            shard_tokens,
            progress,
            done_bytes: 0,
            pieces: Vec::new(),
            ends: Vec::new(),
            writer: None,
            shards: Vec::new(),
        }
    }

    /// Appends a text and the end-of-text token. It must be the text that `entry` describes.
    pub fn document(&mut self, input: &Input, entry: &InputEntry) -> Result<(), DataError> {
        let mut pieces = Pieces::open(&input.path)?;
        let mut hasher = Hasher::new(Domain::InputText);
        while let Some(piece) = pieces.next_piece()? {
            hasher.update(piece.as_bytes());
            self.pieces.push(piece);
            self.ends.push(false);
            if self.pieces.len() >= BATCH_PIECES {
                self.flush()?;
            }
        }
        if hasher.finish() != entry.hash {
            return Err(DataError::InputChanged { path: input.path.clone() });
        }
        self.pieces.push(String::new());
        self.ends.push(true);
        Ok(())
    }

    /// Completes the last shard.
    pub fn finish(mut self) -> Result<Vec<ShardEntry>, DataError> {
        self.flush()?;
        self.close_shard()?;
        Ok(self.shards)
    }

    fn flush(&mut self) -> Result<(), DataError> {
        let encoded = self.tokenizer.encode_pieces(&self.pieces)?;
        let ends = std::mem::take(&mut self.ends);
        for (tokens, end) in encoded.iter().zip(ends) {
            self.write(tokens)?;
            if end {
                self.write(&[self.tokenizer.end_of_text()])?;
            }
        }
        self.done_bytes += self.pieces.iter().map(|p| p.len() as u64).sum::<u64>();
        self.pieces.clear();
        (self.progress)(self.done_bytes);
        Ok(())
    }

    fn write(&mut self, mut tokens: &[u32]) -> Result<(), DataError> {
        while !tokens.is_empty() {
            let writer = match &mut self.writer {
                Some(writer) => writer,
                none => {
                    let path = self.dir.join(shard_name(self.shards.len()));
                    let width = token_bytes(self.tokenizer.vocab_size());
                    none.insert(ShardWriter::create(&path, width)?)
                }
            };
            let room = self.shard_tokens - writer.tokens();
            let take = usize::try_from(room).unwrap_or(usize::MAX).min(tokens.len());
            writer.write(&tokens[..take])?;
            tokens = &tokens[take..];
            if writer.tokens() == self.shard_tokens {
                self.close_shard()?;
            }
        }
        Ok(())
    }

    fn close_shard(&mut self) -> Result<(), DataError> {
        if let Some(writer) = self.writer.take() {
            let tokens = writer.tokens();
            let file = shard_name(self.shards.len());
            self.shards.push(ShardEntry { file, tokens, hash: writer.finish()? });
        }
        Ok(())
    }
}

/// Pieces that are held and encoded at once: 16 MiB of text.
const BATCH_PIECES: usize = 256;
