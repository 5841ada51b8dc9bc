//! The first messages of a connection between two ranks: who is there, and whether they belong together.
//!
//! Hello: `NSRK`, version, token (16 bytes), rank, ranks, length and text of the caller's addresses.
//! Reply: `NSRK`, version, status, length and text. Numbers are 32-bit little-endian. The token keeps
//! jobs apart that meet on one network; it is no secret from the machines of the cluster.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// What all ranks of one job know, and no other job.
pub type Token = [u8; 16];

/// A caller introduces itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Of its job.
    pub token: Token,
    /// Its rank.
    pub rank: usize,
    /// Ranks of its job.
    pub ranks: usize,
    /// Where it can be reached itself: addresses with ports, separated by spaces.
    pub addresses: String,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// It belongs here. With rank 0's table of addresses, a line per rank, or empty.
    Welcome(String),
    /// It does not, and why.
    Refused(String),
}

/// Why a handshake failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The connection broke or timed out.
    #[error("{0}")]
    Connection(#[from] io::Error),
    /// Bytes that are no handshake.
    #[error("something that is no rank of NeuroShard speaks there")]
    Garbage,
    /// Another version of this program.
    #[error("it speaks version {0} of the handshake, this program {VERSION}")]
    Version(u32),
}

impl Hello {
    /// Sends it.
    pub fn send(&self, stream: &mut TcpStream) -> Result<(), Failure> {
        let mut bytes = start();
        bytes.extend(self.token);
        bytes.extend((self.rank as u32).to_le_bytes());
        bytes.extend((self.ranks as u32).to_le_bytes());
        put_text(&mut bytes, &self.addresses);
        Ok(stream.write_all(&bytes)?)
    }

    /// Receives one, waiting at most for `patience` between bytes.
    pub fn receive(stream: &mut TcpStream, patience: Duration) -> Result<Self, Failure> {
        stream.set_read_timeout(Some(patience))?;
        check_start(stream)?;
        let mut token = [0; 16];
        stream.read_exact(&mut token)?;
        let (rank, ranks) = (number(stream)? as usize, number(stream)? as usize);
        let addresses = text(stream, MAX_ADDRESSES)?;
        stream.set_read_timeout(None)?;
        Ok(Self { token, rank, ranks, addresses })
    }
}

impl Reply {
    /// Sends it.
    pub fn send(&self, stream: &mut TcpStream) -> Result<(), Failure> {
        let (status, text) = match self {
            Self::Welcome(text) => (0_u32, text),
            Self::Refused(why) => (1, why),
        };
        let mut bytes = start();
        bytes.extend(status.to_le_bytes());
        put_text(&mut bytes, text);
        Ok(stream.write_all(&bytes)?)
    }

    /// Receives one, waiting at most for `patience` between bytes.
    pub fn receive(stream: &mut TcpStream, patience: Duration) -> Result<Self, Failure> {
        stream.set_read_timeout(Some(patience.max(Duration::from_millis(1))))?;
        check_start(stream)?;
        let status = number(stream)?;
        let text = text(stream, MAX_TABLE)?;
        stream.set_read_timeout(None)?;
        match status {
            0 => Ok(Self::Welcome(text)),
            1 => Ok(Self::Refused(text)),
            _ => Err(Failure::Garbage),
        }
    }
}

fn start() -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend(VERSION.to_le_bytes());
    bytes
}

fn check_start(stream: &mut TcpStream) -> Result<(), Failure> {
    let mut magic = [0; 4];
    stream.read_exact(&mut magic)?;
    if magic != *MAGIC {
        return Err(Failure::Garbage);
    }
    match number(stream)? {
        VERSION => Ok(()),
        other => Err(Failure::Version(other)),
    }
}

fn number(stream: &mut TcpStream) -> Result<u32, Failure> {
    let mut bytes = [0; 4];
    stream.read_exact(&mut bytes)?;
    Ok(u32::from_le_bytes(bytes))
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u32).to_le_bytes());
    bytes.extend(text.as_bytes());
}

fn text(stream: &mut TcpStream, most: usize) -> Result<String, Failure> {
    let len = number(stream)? as usize;
    if len > most {
        return Err(Failure::Garbage);
    }
    let mut bytes = vec![0; len];
    stream.read_exact(&mut bytes)?;
    String::from_utf8(bytes).map_err(|_| Failure::Garbage)
}

const MAGIC: &[u8; 4] = b"NSRK";
const VERSION: u32 = 1;
/// Bytes of one rank's addresses.
pub const MAX_ADDRESSES: usize = 4096;
/// Bytes of the table of all ranks' addresses.
const MAX_TABLE: usize = 16 << 20;

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let caller = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (caller, listener.accept().unwrap().0)
    }

    const PATIENCE: Duration = Duration::from_secs(20);

    #[test]
    fn hellos_and_replies_arrive_as_sent() {
        let (mut here, mut there) = pair();
        let hello = Hello { token: [7; 16], rank: 3, ranks: 4, addresses: "10.0.0.1:5".into() };
        hello.send(&mut here).unwrap();
        assert_eq!(Hello::receive(&mut there, PATIENCE).unwrap(), hello);
        for reply in [Reply::Welcome(String::new()), Reply::Refused("no".into())] {
            reply.send(&mut there).unwrap();
            assert_eq!(Reply::receive(&mut here, PATIENCE).unwrap(), reply);
        }
    }

    #[test]
    fn garbage_is_refused_without_allocating_what_it_says() {
        let hello = Hello { token: [7; 16], rank: 3, ranks: 4, addresses: String::new() };
        let bytes_of = |change: fn(&mut Vec<u8>)| {
            let mut bytes = start();
            bytes.extend([7; 16]);
            bytes.extend(3_u32.to_le_bytes());
            bytes.extend(4_u32.to_le_bytes());
            put_text(&mut bytes, "");
            change(&mut bytes);
            let (mut here, mut there) = pair();
            here.write_all(&bytes).unwrap();
            drop(here);
            Hello::receive(&mut there, PATIENCE)
        };
        assert_eq!(bytes_of(|_| {}).unwrap(), hello);
        assert!(matches!(bytes_of(|b| b[0] = b'G'), Err(Failure::Garbage)));
        assert!(matches!(bytes_of(|b| b[4] = 9), Err(Failure::Version(9))));
        // A text of 4 GiB.
        assert!(matches!(bytes_of(|b| b[32..].fill(255)), Err(Failure::Garbage)));
        assert!(matches!(bytes_of(|b| b.truncate(20)), Err(Failure::Connection(_))));
    }
}
