//! Sends what is written to the disk while more is written, instead of all at the end.

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};

/// Tells the thread that flushes how much there is to flush.
pub(super) struct Flush {
    written_bytes: AtomicU64,
    wake: SyncSender<()>,
}

impl Flush {
    /// `bytes` more have been written.
    pub fn wrote(&self, bytes: u64) {
        let before = self.written_bytes.fetch_add(bytes, Ordering::Relaxed);
        if before / EVERY_BYTES != (before + bytes) / EVERY_BYTES {
            // If it has been woken and not yet looked, once is enough.
            let _ = self.wake.try_send(());
        }
    }
}

/// Runs `write`, which writes to `files`, and keeps the disk busy meanwhile. After it the disk has
/// everything.
pub(super) fn while_flushing<T, E>(
    files: &[&File],
    write: impl FnOnce(&Flush) -> Result<T, E>,
    failed: impl FnOnce(io::Error) -> E,
) -> Result<T, E> {
    std::thread::scope(|scope| {
        let (wake, woken) = sync_channel(1);
        let flusher = scope.spawn(move || {
            woken.into_iter().try_for_each(|()| files.iter().try_for_each(|f| f.sync_data()))
        });
        let flush = Flush { written_bytes: AtomicU64::new(0), wake };
        let written = write(&flush);
        // Without it the thread would wait for ever.
        drop(flush);
        let flushed = match flusher.join() {
            Ok(flushed) => flushed,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        let written = written?;
        flushed.and_then(|()| files.iter().try_for_each(|f| f.sync_all())).map_err(failed)?;
        Ok(written)
    })
}

/// Enough for a disk to be at its best, little enough to begin soon.
const EVERY_BYTES: u64 = 32 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn what_is_written_and_what_fails_comes_out() {
        let mut file = tempfile::tempfile().unwrap();
        let other = file.try_clone().unwrap();
        let write = |flush: &Flush| {
            let part = vec![7; 1 << 20];
            for _ in 0..(3 * EVERY_BYTES) >> 20 {
                file.write_all(&part)?;
                flush.wrote(1 << 20);
            }
            Ok::<_, io::Error>("done")
        };
        assert_eq!(while_flushing(&[&other], write, |e| e).unwrap(), "done");
        assert_eq!(other.metadata().unwrap().len(), 3 * EVERY_BYTES);
        let fails = |_: &Flush| Err::<(), _>(io::Error::other("first"));
        assert_eq!(while_flushing(&[&other], fails, |e| e).unwrap_err().to_string(), "first");
        // A pipe cannot be synced.
        let (_reader, writer) = std::io::pipe().unwrap();
        let pipe = File::from(std::os::fd::OwnedFd::from(writer));
        assert!(while_flushing(&[&pipe], |_| Ok::<_, io::Error>(()), |e| e).is_err());
    }
}
