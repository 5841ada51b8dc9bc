//! A proof that some tokens are a sequence of a dataset, to be checked against its root alone.
//!
//! `docs/DATA.md`, section 6, has the encoding. Everything about where the sequence lies follows
//! from the facts and the index, so the proof says none of it twice, and has one encoding only.

use std::ops::Range;

use super::corpus::Corpus;
use super::facts::Facts;
use super::facts::shard_leaf;
use super::manifest::MAX_SHARDS;
use super::manifest::MAX_TOKENS;
use super::manifest::token_bytes;
use super::split::Split;
use super::tokenizer::MAX_VOCAB;
use crate::crypto::ByteTree;
use crate::crypto::Domain;
use crate::crypto::Hash;
use crate::crypto::merkle;

/// Which sequences are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Those that are trained on.
    Training,
    /// Those that are held out.
    HeldOut,
}

/// A sequence that a proof has shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proven {
    /// The root to which the proof leads: compare it with the one that is agreed.
    pub root: Hash,
    /// Which sequences the index counts.
    pub part: Part,
    /// The sequence.
    pub index: u64,
    /// How many such sequences the dataset has.
    pub count: u64,
    /// The sequence's `seq_len + 1` tokens.
    pub tokens: Vec<u32>,
}

/// Why bytes are no proof.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a proof of a sequence: {0}")]
pub struct NoProof(String);

/// The most bytes that a proof may have: of the longest sequence, of four-byte tokens.
pub const MAX_PROOF_BYTES: u64 = 80 << 20;

/// The proof that a corpus of version 2 has sequence `index` of `part`, of `seq_len` predictions.
/// None where there is no such sequence.
pub(super) fn prove(corpus: &Corpus, part: Part, index: u64, seq_len: u32) -> Option<Vec<u8>> {
    let manifest = corpus.manifest();
    let facts = manifest.facts();
    let (range, _) = place(&facts, part, index, seq_len)?;
    let leaves = manifest.shard_leaves();
    let mut out = MAGIC.to_vec();
    out.extend(facts.bytes());
    out.push(part as u8);
    out.extend(seq_len.to_le_bytes());
    out.extend(index.to_le_bytes());
    let mut start = 0;
    for (i, shard) in corpus.shards().iter().enumerate() {
        let end = start + shard.tokens();
        if start < range.end && range.start < end {
            let bytes = in_shard(&range, start, end, u64::from(facts.token_bytes));
            let slice = ByteTree::slice_range(&bytes, shard.payload().len() as u64);
            out.extend((i as u64).to_le_bytes());
            out.extend(start.to_le_bytes());
            out.extend(shard.tokens().to_le_bytes());
            out.extend(&shard.payload()[slice.start as usize..slice.end as usize]);
            let tree = ByteTree::new(Domain::TokenShard);
            out.extend(tree.prove(shard.payload(), shard.values(), &slice).as_flattened());
            merkle::prove(&leaves, i)?.iter().for_each(|hash| out.extend(hash.as_bytes()));
        }
        start = end;
    }
    Some(out)
}

/// Reads a proof. What it shows holds in the dataset whose root it gives, and in no other.
pub fn check_proof(bytes: &[u8]) -> Result<Proven, NoProof> {
    let mut rest = Rest(bytes);
    if rest.take(MAGIC.len())? != MAGIC {
        return Err(NoProof("it does not begin with NSPROOF and a known version".into()));
    }
    let facts = Facts::parse(rest.array()?);
    check_facts(&facts)?;
    let part = match rest.array()? {
        [0] => Part::Training,
        [1] => Part::HeldOut,
        [other] => return Err(NoProof(format!("part {other}"))),
    };
    let seq_len = u32::from_le_bytes(*rest.array()?);
    let index = rest.number()?;
    let Some((range, count)) = place(&facts, part, index, seq_len) else {
        return Err(NoProof(format!("the dataset has no sequence {index} of length {seq_len}")));
    };
    // No more is reserved than the proof has bytes.
    let mut tokens = Vec::with_capacity(bytes.len().min((range.end - range.start) as usize));
    let (mut at, mut shards, mut last) = (range.start, None, None);
    while at < range.end {
        let shard = Shard::read(&mut rest, &facts)?;
        // One shard after the other: the next one has the next number and begins where it ended.
        let next = last.is_none_or(|(index, end)| shard.index == index + 1 && shard.start == end);
        if !next || at < shard.start || shard.end() <= at {
            return Err(NoProof(format!("shard {} is not where token {at} is", shard.index)));
        }
        let root = shard.tokens(&mut rest, &facts, &range, &mut tokens)?;
        if *shards.get_or_insert(root) != root {
            return Err(NoProof(format!("shard {} is of another dataset", shard.index)));
        }
        at = shard.end();
        last = Some((shard.index, shard.end()));
    }
    if !rest.0.is_empty() {
        return Err(NoProof(format!("{} bytes too many", rest.0.len())));
    }
    let Some(shards) = shards else { return Err(NoProof("an empty sequence".into())) };
    if let Some(&token) = tokens.iter().find(|&&t| u64::from(t) >= facts.vocab_size) {
        return Err(NoProof(format!("token {token} of a vocabulary of {}", facts.vocab_size)));
    }
    Ok(Proven { root: facts.root(&shards), part, index, count, tokens })
}

/// A shard as a proof has it.
struct Shard {
    index: u64,
    start: u64,
    tokens: u64,
}

impl Shard {
    fn read(rest: &mut Rest<'_>, facts: &Facts) -> Result<Self, NoProof> {
        let (index, start, tokens) = (rest.number()?, rest.number()?, rest.number()?);
        let end = start.checked_add(tokens);
        if index >= facts.shards || tokens == 0 || end.is_none_or(|end| end > facts.tokens) {
            return Err(NoProof(format!("shard {index} lies outside the dataset")));
        }
        Ok(Self { index, start, tokens })
    }

    fn end(&self) -> u64 {
        self.start + self.tokens
    }

    /// Appends what the shard has of the tokens `range` to `out`, and gives the root over all
    /// shards to which it leads.
    fn tokens(
        &self,
        rest: &mut Rest<'_>,
        facts: &Facts,
        range: &Range<u64>,
        out: &mut Vec<u32>,
    ) -> Result<Hash, NoProof> {
        let width = u64::from(facts.token_bytes);
        let len = self.tokens * width;
        let bytes = in_shard(range, self.start, self.end(), width);
        let slice = ByteTree::slice_range(&bytes, len);
        let data = rest.take((slice.end - slice.start) as usize)?;
        let beside = rest.hashes(ByteTree::beside(len, &slice))?;
        let tree = ByteTree::new(Domain::TokenShard);
        let missing = || NoProof("a slice that is none".into());
        let hash = tree.slice_root(len, &slice, data, beside).ok_or_else(missing)?;
        let path = rest.hashes(merkle::path_len(self.index, facts.shards))?;
        let path: Vec<_> = path.iter().map(|&hash| Hash(hash)).collect();
        let leaf = shard_leaf(self.start, self.tokens, &hash);
        let at = (bytes.start - slice.start) as usize..(bytes.end - slice.start) as usize;
        out.extend(data[at].chunks_exact(width as usize).map(|token| match token {
            [a, b] => u32::from(u16::from_le_bytes([*a, *b])),
            [a, b, c, d] => u32::from_le_bytes([*a, *b, *c, *d]),
            // The width is 2 or 4.
            _ => u32::MAX,
        }));
        merkle::root_by_path(leaf, self.index, facts.shards, &path).ok_or_else(missing)
    }
}

/// The facts are those of a possible manifest.
fn check_facts(facts: &Facts) -> Result<(), NoProof> {
    let vocab = facts.vocab_size;
    let possible = (1..=MAX_VOCAB as u64).contains(&vocab)
        && facts.token_bytes == token_bytes(vocab as usize)
        && (1..=MAX_SHARDS as u64).contains(&facts.shards)
        && facts.tokens <= MAX_SHARDS as u64 * MAX_TOKENS;
    if possible { Ok(()) } else { Err(NoProof("facts of no possible dataset".into())) }
}

/// The tokens of a sequence, inputs and targets, and how many such sequences there are.
fn place(facts: &Facts, part: Part, index: u64, seq_len: u32) -> Option<(Range<u64>, u64)> {
    let split = Split::new(facts.split, facts.tokens).ok()?;
    let seq_len = u64::from(seq_len);
    if seq_len == 0 || seq_len > split.max_seq_len() {
        return None;
    }
    let count = match part {
        Part::Training => split.num_train(seq_len),
        Part::HeldOut => split.num_heldout(seq_len),
    };
    if index >= count {
        return None;
    }
    let start = match part {
        Part::Training => split.train_start(index, seq_len),
        Part::HeldOut => split.heldout_start(index, seq_len),
    };
    Some((start..start + seq_len + 1, count))
}

/// The bytes that a shard with the tokens `start..end` has of the tokens `range`.
fn in_shard(range: &Range<u64>, start: u64, end: u64, width: u64) -> Range<u64> {
    let (from, to) = (range.start.max(start), range.end.min(end));
    (from - start) * width..(to - start) * width
}

/// What of a proof has not been read.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], NoProof> {
        let taken = self.0.split_at_checked(len);
        let (taken, rest) = taken.ok_or_else(|| NoProof("truncated".into()))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<&'a [u8; N], NoProof> {
        let (array, rest) =
            self.0.split_first_chunk().ok_or_else(|| NoProof("truncated".into()))?;
        self.0 = rest;
        Ok(array)
    }

    fn number(&mut self) -> Result<u64, NoProof> {
        Ok(u64::from_le_bytes(*self.array()?))
    }

    fn hashes(&mut self, count: usize) -> Result<&'a [[u8; 32]], NoProof> {
        Ok(self.take(32 * count)?.as_chunks().0)
    }
}

/// `NSPROOF`, and the version.
const MAGIC: &[u8; 8] = b"NSPROOF\x01";
