//! Items into shards: one thread reads them in order, all encode them, one writes them in order.

use std::sync::mpsc::SyncSender;
use std::sync::mpsc::sync_channel;
use std::thread;

use rayon::prelude::*;

use super::DataError;
use super::input::Input;
use super::input::Item;
use super::input::Reading;
use super::manifest::ShardEntry;
use super::manifest::shard_name;
use super::manifest::token_bytes;
use super::shard_writer::ShardWriter;
use super::staging::Finished;
use super::staging::Staging;
use super::survey::Contents;
use super::survey::Found;
use super::tokenizer::Tokenizer;

/// What is encoded, and how.
#[derive(Clone, Copy)]
pub(super) struct Job<'a> {
    pub inputs: &'a [Input],
    pub found: &'a [Found],
    pub reading: Reading<'a>,
    pub tokenizer: &'a Tokenizer,
    /// Tokens of a shard, at most.
    pub shard_tokens: u64,
    /// Is told the bytes of text that were passed.
    pub progress: &'a (dyn Fn(u64) + Sync),
}

/// Writes the shards behind those that are `finished` already, and gives the entries of all.
pub(super) fn encode(
    job: Job<'_>,
    staging: &Staging,
    finished: Vec<Finished>,
) -> Result<Vec<ShardEntry>, DataError> {
    let (items, tokens) = finished.last().map_or((0, 0), |last| (last.items, last.tokens));
    let shards: Vec<_> = finished.into_iter().map(|f| f.shard).collect();
    let mut encoder = Encoder { job, staging, items, skip: tokens, writer: None, shards };
    thread::scope(|scope| {
        let (send, receive) = sync_channel(WAITING_BATCHES);
        scope.spawn(move || {
            let mut batches = Batches { send, batch: Batch::default(), skip: items };
            let ended =
                read_staying(job.inputs, job.found, job.reading, &mut |item| batches.push(item));
            batches.end(ended);
        });
        let mut done = 0;
        for batch in receive {
            let batch: Batch = batch?;
            encoder.batch(&batch.items)?;
            done += batch.bytes;
            (job.progress)(done);
        }
        encoder.close_shard()?;
        Ok(encoder.shards)
    })
}

/// Gives the items of the documents that stay to `visit`. The inputs must be what they were when
/// they were surveyed.
pub(super) fn read_staying(
    inputs: &[Input],
    found: &[Found],
    reading: Reading<'_>,
    visit: &mut dyn FnMut(Item) -> Result<(), DataError>,
) -> Result<(), DataError> {
    for (input, found) in inputs.iter().zip(found) {
        let (mut contents, mut document) = (Contents::new(), 0);
        input.read(reading, &mut |item| {
            contents.add(&item);
            let stays = found.stays.get(document);
            document += usize::from(item == Item::End);
            if stays { visit(item) } else { Ok(()) }
        })?;
        if contents.finish() != found.contents {
            return Err(DataError::InputChanged { path: input.path.clone() });
        }
    }
    Ok(())
}

/// Items that are encoded at once.
#[derive(Default)]
struct Batch {
    items: Vec<Item>,
    /// Of text, with what was skipped before.
    bytes: u64,
}

/// Sends items in batches.
struct Batches {
    send: SyncSender<Result<Batch, DataError>>,
    batch: Batch,
    /// Items at the beginning that are in finished shards.
    skip: u64,
}

impl Batches {
    fn push(&mut self, item: Item) -> Result<(), DataError> {
        self.batch.bytes += item.bytes();
        if self.skip > 0 {
            self.skip -= 1;
        } else {
            self.batch.items.push(item);
        }
        if self.batch.bytes >= BATCH_BYTES || self.batch.items.len() >= BATCH_ITEMS {
            let batch = std::mem::take(&mut self.batch);
            return self.send.send(Ok(batch)).map_err(|_| DataError::Stopped);
        }
        Ok(())
    }

    fn end(self, ended: Result<(), DataError>) {
        // Where nobody listens any more, the listener has an error of its own.
        let _ = self.send.send(ended.map(|()| self.batch));
    }
}

/// Writes the shards of a corpus into a folder.
struct Encoder<'a> {
    job: Job<'a>,
    staging: &'a Staging,
    /// Items that are wholly written.
    items: u64,
    /// Tokens of the next item that are in a finished shard.
    skip: u64,
    writer: Option<ShardWriter>,
    shards: Vec<ShardEntry>,
}

impl Encoder<'_> {
    fn batch(&mut self, items: &[Item]) -> Result<(), DataError> {
        let tokenizer = self.job.tokenizer;
        let encoded = items.par_iter().map(|item| match item {
            Item::Text(text) => tokenizer.encode_piece(text),
            Item::Tokens(tokens) => Ok(tokens.clone()),
            Item::End => Ok(vec![tokenizer.end_of_text()]),
        });
        let encoded: Result<Vec<_>, _> = encoded.collect();
        encoded?.iter().try_for_each(|tokens| self.item(tokens))
    }

    fn item(&mut self, tokens: &[u32]) -> Result<(), DataError> {
        let mut at = usize::try_from(std::mem::take(&mut self.skip)).unwrap_or(usize::MAX);
        while at < tokens.len() {
            let writer = match &mut self.writer {
                Some(writer) => writer,
                none => {
                    let path = self.staging.dir().join(shard_name(self.shards.len()));
                    let width = token_bytes(self.job.tokenizer.vocab_size());
                    none.insert(ShardWriter::create(&path, width)?)
                }
            };
            let room = self.job.shard_tokens - writer.tokens();
            let take = usize::try_from(room).unwrap_or(usize::MAX).min(tokens.len() - at);
            writer.write(&tokens[at..at + take])?;
            at += take;
            if writer.tokens() == self.job.shard_tokens {
                self.close_shard()?;
                if let Some(shard) = self.shards.last() {
                    let (shard, tokens) = (shard.clone(), at as u64);
                    self.staging.note(&Finished { shard, items: self.items, tokens })?;
                }
            }
        }
        self.items += 1;
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

/// Text that is encoded at once.
const BATCH_BYTES: u64 = 16 << 20;
/// Items that are encoded at once.
const BATCH_ITEMS: usize = 1 << 16;
/// Batches that wait while one is encoded.
const WAITING_BATCHES: usize = 2;
