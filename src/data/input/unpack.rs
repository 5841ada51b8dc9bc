//! Files as streams of their contents, compressed or not; nothing is unpacked beyond what is read.

use std::fs::File;
use std::io;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::path::Path;

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::BlockDecodingStrategy;
use ruzstd::decoding::FrameDecoder;
use ruzstd::decoding::errors::FrameDecoderError;
use ruzstd::decoding::errors::ReadFrameHeaderError;

use super::Packing;
use crate::data::DataError;

/// Opens a file of which the contents are read.
pub fn open(path: &Path, packing: Packing) -> Result<Box<dyn Read + Send>, DataError> {
    let file = File::open(path).map_err(DataError::read(path))?;
    let file = BufReader::with_capacity(BUFFER_BYTES, file);
    Ok(match packing {
        Packing::Plain => Box::new(file),
        Packing::Gz => Box::new(Named { name: "gzip", inner: MultiGzDecoder::new(file) }),
        Packing::Zst => Box::new(Named { name: "zstd", inner: ZstdFrames::new(file) }),
    })
}

/// A decoder whose errors say what it is.
struct Named<R> {
    name: &'static str,
    inner: R,
}

impl<R: Read> Read for Named<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.inner.read(out).map_err(|e| match e.kind() {
            io::ErrorKind::Interrupted => e,
            kind => io::Error::new(kind, format!("its {} is damaged or cut off: {e}", self.name)),
        })
    }
}

/// One or more frames, one after the other.
pub struct ZstdFrames<R> {
    source: R,
    decoder: FrameDecoder,
    /// A frame has begun and not been checked to its end.
    within: bool,
}

impl<R: BufRead> ZstdFrames<R> {
    /// The contents of all frames of `source`.
    pub fn new(source: R) -> Self {
        Self { source, decoder: FrameDecoder::new(), within: false }
    }

    /// Begins the next frame; false at the end of the source.
    fn begin(&mut self) -> io::Result<bool> {
        while !self.source.fill_buf()?.is_empty() {
            match self.decoder.reset(&mut self.source) {
                Ok(()) => {
                    self.within = true;
                    return Ok(true);
                }
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    let length = u64::from(length);
                    let skipped =
                        io::copy(&mut self.source.by_ref().take(length), &mut io::sink())?;
                    if skipped != length {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Err(e) => return Err(io::Error::other(e)),
            }
        }
        Ok(false)
    }

    fn end(&mut self) -> io::Result<()> {
        self.within = false;
        let (told, computed) =
            (self.decoder.get_checksum_from_data(), self.decoder.get_calculated_checksum());
        match (told, computed) {
            (Some(told), Some(computed)) if told != computed => {
                Err(io::Error::new(io::ErrorKind::InvalidData, "its checksum does not match"))
            }
            _ => Ok(()),
        }
    }
}

impl<R: BufRead> Read for ZstdFrames<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        loop {
            if !self.within && !self.begin()? {
                return Ok(0);
            }
            while !self.decoder.is_finished() && self.decoder.can_collect() == 0 {
                let some = BlockDecodingStrategy::UptoBytes(out.len().max(BUFFER_BYTES));
                self.decoder.decode_blocks(&mut self.source, some).map_err(io::Error::other)?;
            }
            let got = self.decoder.read(out)?;
            if got > 0 {
                return Ok(got);
            }
            if self.decoder.is_finished() {
                self.end()?;
            }
        }
    }
}

const BUFFER_BYTES: usize = 128 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use ruzstd::encoding::CompressionLevel;
    use ruzstd::encoding::compress_to_vec;

    #[test]
    fn frames_follow_each_other_and_cuts_are_found() {
        let text: Vec<u8> =
            (0..300_000u32).flat_map(|i| (i / 7).to_string().into_bytes()).collect();
        let (a, b) = text.split_at(text.len() / 3);
        let mut packed = compress_to_vec(a, CompressionLevel::Fastest);
        // A frame to be skipped: magic, length, contents.
        packed.extend([0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3]);
        packed.extend(compress_to_vec(b, CompressionLevel::Fastest));
        let unpack = |bytes: &[u8]| {
            let mut out = Vec::new();
            ZstdFrames::new(bytes).read_to_end(&mut out).map(|_| out)
        };
        assert!(unpack(&packed).unwrap() == text);
        assert!(unpack(&[]).unwrap().is_empty());
        for cut in [1, 3, 10, packed.len() / 2, packed.len() - 1] {
            assert!(unpack(&packed[..cut]).is_err(), "{cut}");
        }
        assert!(unpack(b"no zstd at all").is_err());
    }
}
