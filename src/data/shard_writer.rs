//! Writing a token shard.

use std::fs;
use std::fs::File;
use std::io;
use std::io::BufWriter;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;

use super::DataError;
use super::shard_header::Header;
use crate::crypto::ByteTree;
use crate::crypto::Domain;
use crate::crypto::GROUP_BYTES;
use crate::crypto::Hash;

/// Writes a shard under a temporary name; [`ShardWriter::finish`] gives it its own.
pub(super) struct ShardWriter {
    path: PathBuf,
    temporary: PathBuf,
    file: BufWriter<File>,
    token_bytes: u32,
    tokens: u64,
    tree: ByteTree,
    /// Values of the groups that are complete and not the last.
    values: Vec<[u8; 32]>,
    /// Bytes of the group that is not: at most one group, and what a call adds.
    group: Vec<u8>,
}

impl ShardWriter {
    /// Starts the shard that will be at `path`. Tokens have `token_bytes` 2 or 4.
    pub fn create(path: &Path, token_bytes: u32) -> Result<Self, DataError> {
        let temporary = path.with_extension("tmp");
        let mut file =
            BufWriter::new(File::create(&temporary).map_err(DataError::write(&temporary))?);
        file.write_all(&[0; Header::BYTES]).map_err(DataError::write(&temporary))?;
        Ok(Self {
            path: path.to_path_buf(),
            temporary,
            file,
            token_bytes,
            tokens: 0,
            tree: ByteTree::new(Domain::TokenShard),
            values: Vec::new(),
            group: Vec::new(),
        })
    }

    /// Number of tokens so far.
    pub fn tokens(&self) -> u64 {
        self.tokens
    }

    /// Appends tokens, which fit the shard's width.
    pub fn write(&mut self, tokens: &[u32]) -> Result<(), DataError> {
        if self.token_bytes == 2 {
            self.group.extend(tokens.iter().flat_map(|&t| (t as u16).to_le_bytes()));
        } else {
            self.group.extend(tokens.iter().flat_map(|&t| t.to_le_bytes()));
        }
        self.tokens += tokens.len() as u64;
        // The last group waits: only then is it known whether it is the only one.
        let groups = self.group.len().saturating_sub(1) / GROUP_BYTES as usize;
        let bytes = groups * GROUP_BYTES as usize;
        for group in self.group[..bytes].chunks_exact(GROUP_BYTES as usize) {
            self.values.push(self.tree.group_value(self.values.len() as u64, group, u64::MAX));
        }
        self.file.write_all(&self.group[..bytes]).map_err(DataError::write(&self.path))?;
        self.group.drain(..bytes);
        Ok(())
    }

    /// Completes the file, syncs and renames. Returns the hash of the tokens' bytes.
    pub fn finish(mut self) -> Result<Hash, DataError> {
        let len = self.tokens * u64::from(self.token_bytes);
        self.values.push(self.tree.group_value(self.values.len() as u64, &self.group, len));
        let (path, token_bytes, tokens) = (self.path.clone(), self.token_bytes, self.tokens);
        let complete = || -> io::Result<Hash> {
            let missing = || io::Error::other("a shard without groups");
            let hash = self.tree.root(&self.values).ok_or_else(missing)?;
            self.file.write_all(&self.group)?;
            self.file.write_all(self.values.as_flattened())?;
            let header = Header { version: Header::VERSION, token_bytes, tokens, hash };
            let mut file = self.file.into_inner().map_err(io::IntoInnerError::into_error)?;
            io::Seek::rewind(&mut file)?;
            file.write_all(&header.bytes())?;
            file.sync_all()?;
            fs::rename(&self.temporary, &self.path)?;
            Ok(hash)
        };
        complete().map_err(DataError::write(&path))
    }
}
