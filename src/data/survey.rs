//! The first reading of all inputs: is everything readable, what is it, which documents stay.
//!
//! Inputs are read side by side; what is found depends on their order alone.

use std::collections::HashSet;
use std::fs;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use rayon::prelude::*;

use super::DataError;
use super::input::Input;
use super::input::Item;
use super::input::Reading;
use crate::crypto::Domain;
use crate::crypto::Hash;
use crate::crypto::Hasher;
use crate::crypto::hash_file;

/// What an input holds.
#[derive(Debug)]
pub(super) struct Found {
    /// Of the file.
    pub file_bytes: u64,
    /// Of the file's bytes, domain `InputText`.
    pub file_hash: Hash,
    /// Of all items in order: what a second reading must give.
    pub contents: Hash,
    /// Bytes of text.
    pub text_bytes: u64,
    /// One bit a document, in order: it stays.
    pub stays: Bits,
    /// Documents that stay.
    pub documents: u64,
}

/// What all inputs hold.
#[derive(Debug)]
pub(super) struct Survey {
    /// In the order of the inputs.
    pub inputs: Vec<Found>,
    /// Documents without text.
    pub empty: u64,
    /// Documents equal to an earlier one.
    pub duplicates: u64,
}

/// Bits, packed.
#[derive(Debug, Default)]
pub(super) struct Bits {
    words: Vec<u64>,
    len: usize,
}

impl Bits {
    fn push(&mut self, bit: bool) {
        if self.len.is_multiple_of(64) {
            self.words.push(0);
        }
        if let Some(word) = self.words.last_mut() {
            *word |= u64::from(bit) << (self.len % 64);
        }
        self.len += 1;
    }

    /// Bit `i`; false past the end.
    pub fn get(&self, i: usize) -> bool {
        i < self.len && self.words[i / 64] >> (i % 64) & 1 == 1
    }
}

/// Reads all inputs. `progress` is told the bytes of files that are done.
pub(super) fn survey(
    inputs: &[Input],
    reading: Reading<'_>,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Survey, DataError> {
    let done = AtomicU64::new(0);
    let add = |bytes| progress(done.fetch_add(bytes, Ordering::Relaxed) + bytes);
    let read: Vec<_> = inputs.par_iter().map(|input| read(input, reading, &add)).collect();
    let mut seen = HashSet::new();
    let (mut empty, mut duplicates) = (0, 0);
    let mut found = Vec::with_capacity(inputs.len());
    for input in read {
        let (mut input, keys) = input?;
        for key in keys {
            let stays = match key {
                None => {
                    empty += 1;
                    false
                }
                Some(key) => {
                    let new = seen.insert(key);
                    duplicates += u64::from(!new);
                    new
                }
            };
            input.stays.push(stays);
            input.documents += u64::from(stays);
        }
        found.push(input);
    }
    Ok(Survey { inputs: found, empty, duplicates })
}

/// Contents of an input, hashed as they are read.
pub(super) struct Contents(Hasher);

impl Contents {
    /// Nothing yet.
    pub fn new() -> Self {
        Self(Hasher::new(Domain::Document))
    }

    /// Takes the next item.
    pub fn add(&mut self, item: &Item) {
        match item {
            Item::Text(text) => {
                self.0.update(text.as_bytes());
            }
            Item::Tokens(tokens) => {
                self.0.update(bytemuck::cast_slice(tokens));
            }
            // No text has it, and no token is so large.
            Item::End => {
                self.0.update(&[0xff; 4]);
            }
        }
    }

    /// The hash of all items.
    pub fn finish(&self) -> Hash {
        self.0.finish()
    }
}

/// A document's key is the first 16 bytes of its hash; none where it has no text.
type Keys = Vec<Option<[u8; 16]>>;

/// Reads one input; its `stays` is still empty.
fn read(
    input: &Input,
    reading: Reading<'_>,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<(Found, Keys), DataError> {
    let file_bytes = fs::metadata(&input.path).map_err(DataError::read(&input.path))?.len();
    let (mut contents, mut keys, mut text_bytes) = (Contents::new(), Vec::new(), 0);
    let (mut document, mut document_bytes) = (Hasher::new(Domain::Document), 0);
    let mut told = 0;
    input.read(reading, &mut |item| {
        contents.add(&item);
        text_bytes += item.bytes();
        document_bytes += item.bytes();
        match &item {
            Item::Text(text) => {
                document.update(text.as_bytes());
            }
            Item::Tokens(tokens) => {
                document.update(bytemuck::cast_slice(tokens));
            }
            Item::End => {
                let hash = document.finish();
                let key = hash.as_bytes().first_chunk().copied();
                keys.push(key.filter(|_| document_bytes > 0));
                document = Hasher::new(Domain::Document);
                document_bytes = 0;
            }
        }
        // Text may be longer than its compressed file.
        let now = (item.bytes()).min(file_bytes - told);
        told += now;
        progress(now);
        Ok(())
    })?;
    progress(file_bytes - told);
    if text_bytes == 0 {
        return Err(DataError::EmptyText { path: input.path.clone() });
    }
    let file_hash =
        hash_file(Domain::InputText, &input.path).map_err(DataError::read(&input.path))?;
    let (contents, stays) = (contents.finish(), Bits::default());
    Ok((Found { file_bytes, file_hash, contents, text_bytes, stays, documents: 0 }, keys))
}
