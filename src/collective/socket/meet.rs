//! From a rendezvous to a connection between every two ranks.
//!
//! Rank 0 listens; the others call it and say where they listen themselves. When all are there, rank 0
//! sends everybody the table of addresses. Then every rank calls those below it and answers those above.
//! Whoever is missing when the patience ends is named to all.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use super::addresses;
use super::handshake::{Failure, Hello, Reply, Token};
use super::rendezvous::{Place, Rendezvous, resolve};
use crate::collective::Error;

/// The connections of a rank: one per other rank, in their order, `None` for itself.
pub type Mesh = Vec<Option<TcpStream>>;

/// Meets the other ranks. The token is that of the job.
pub fn meet(rendezvous: &Rendezvous, patience: Duration) -> Result<(Mesh, Token), Error> {
    let deadline = Instant::now() + patience;
    let party = |token| Party { rank: rendezvous.rank, ranks: rendezvous.ranks, token, deadline };
    if rendezvous.rank > 0 {
        return follow(rendezvous, party, patience);
    }
    match &rendezvous.place {
        Place::Address(address) => {
            let party = party(rendezvous.address_token());
            Ok((lead(&party, &listen_at(address)?, patience)?, party.token))
        }
        Place::File(place) => {
            let path = rendezvous.file(place);
            let party = party(random_token()?);
            let listener = listen()?;
            let port = port_of(&listener)?;
            rendezvous.publish(&path, &party.token, addresses::of_this_host(port))?;
            let mesh = lead(&party, &listener, patience);
            // Everybody has read it, or nobody will any more.
            let _ = std::fs::remove_file(&path);
            Ok((mesh?, party.token))
        }
    }
}

/// A rank on its way to the others.
struct Party {
    rank: usize,
    ranks: usize,
    token: Token,
    deadline: Instant,
}

impl Party {
    fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    fn hello(&self, addresses: String) -> Hello {
        Hello { token: self.token, rank: self.rank, ranks: self.ranks, addresses }
    }

    /// Why a caller does not belong here; its place must be free.
    fn refuse(&self, hello: &Hello, mesh: &[Option<(TcpStream, String)>]) -> Option<String> {
        if hello.token != self.token {
            return Some("it belongs to another job (its token differs)".into());
        }
        if hello.ranks != self.ranks {
            let (ours, theirs) = (self.ranks, hello.ranks);
            return Some(format!("this job has {ours} ranks, the caller's {theirs}"));
        }
        match mesh.get(hello.rank) {
            Some(None) if hello.rank > self.rank => None,
            Some(Some(_)) => Some(format!("there is a rank {} already", hello.rank)),
            _ => Some(format!("rank {} has no business here", hello.rank)),
        }
    }

    /// Waits for all ranks above this one, whose hellos it has then read. A refused caller is told why,
    /// and the wait goes on.
    fn gather(
        &self,
        listener: &TcpListener,
        patience: Duration,
    ) -> Result<Vec<Option<(TcpStream, String)>>, Error> {
        let mut callers: Vec<_> = (0..self.ranks).map(|_| None).collect();
        let (mut missing, mut refused) = (self.ranks - self.rank - 1, Vec::new());
        let (sender, hellos) = channel();
        listener.set_nonblocking(true).map_err(|e| transport("listening", &e))?;
        while missing > 0 {
            accept(listener, &sender)?;
            let Ok((hello, mut stream, ip)) = hellos.recv_timeout(LOOK) else {
                if self.left().is_zero() {
                    return Err(self.too_late(callers, &refused, patience));
                }
                continue;
            };
            let hello: Hello = hello;
            if let Some(why) = self.refuse(&hello, &callers) {
                refused.push(format!("{ip} was refused: {why}"));
                let _ = Reply::Refused(why).send(&mut stream);
                continue;
            }
            missing -= 1;
            callers[hello.rank] = Some((stream, reachable(ip, &hello.addresses)));
        }
        Ok(callers)
    }

    /// Tells those who came who did not.
    fn too_late(
        &self,
        callers: Vec<Option<(TcpStream, String)>>,
        refused: &[String],
        patience: Duration,
    ) -> Error {
        let absent = |rank: &usize| callers[*rank].is_none();
        let missing: Vec<_> = (self.rank + 1..self.ranks).filter(absent).collect();
        let mut what =
            format!("{} did not come within {:.1} s", ranks(&missing), patience.as_secs_f64());
        if let Some(last) = refused.last() {
            what += &format!("; {} callers were refused, the last: {last}", refused.len());
        }
        for (stream, _) in callers.into_iter().flatten() {
            let mut stream = stream;
            let _ = Reply::Refused(what.clone()).send(&mut stream);
        }
        Error::Start { what }
    }
}

/// Rank 0: waits for all, then tells everybody where everybody listens.
fn lead(party: &Party, listener: &TcpListener, patience: Duration) -> Result<Mesh, Error> {
    let callers = party.gather(listener, patience)?;
    let lines = callers.iter().map(|caller| caller.as_ref().map_or("", |(_, text)| text));
    let table = lines.collect::<Vec<_>>().join("\n");
    let welcome = |(rank, caller): (usize, Option<(TcpStream, String)>)| {
        caller
            .map(|(mut stream, _)| {
                let sent = Reply::Welcome(table.clone()).send(&mut stream);
                sent.map(|()| stream).map_err(|_| Error::Lost { rank })
            })
            .transpose()
    };
    callers.into_iter().enumerate().map(welcome).collect()
}

/// The other ranks.
fn follow(
    rendezvous: &Rendezvous,
    party: impl Fn(Token) -> Party,
    patience: Duration,
) -> Result<(Mesh, Token), Error> {
    let listener = listen()?;
    let own: Vec<_> =
        addresses::of_this_host(port_of(&listener)?).iter().map(ToString::to_string).collect();
    let (stream, table, token) = call_first(rendezvous, &party, &own.join(" "), patience)?;
    let party = party(token);
    let mut mesh: Mesh = (0..party.ranks).map(|_| None).collect();
    mesh[0] = Some(stream);
    let lines: Vec<_> = table.lines().collect();
    for (rank, place) in mesh.iter_mut().enumerate().take(party.rank).skip(1) {
        let addresses = lines.get(rank).copied().unwrap_or_default();
        *place = Some(call(&party, rank, addresses, patience)?);
    }
    for (rank, caller) in party.gather(&listener, patience)?.into_iter().enumerate() {
        if let Some((mut stream, _)) = caller {
            let welcomed = Reply::Welcome(String::new()).send(&mut stream);
            welcomed.map_err(|_| Error::Lost { rank })?;
            mesh[rank] = Some(stream);
        }
    }
    Ok((mesh, token))
}

/// Calls rank 0 until it answers with the table.
fn call_first(
    rendezvous: &Rendezvous,
    party: &impl Fn(Token) -> Party,
    own: &str,
    patience: Duration,
) -> Result<(TcpStream, String, Token), Error> {
    let mut tried = String::from("nobody was called yet");
    loop {
        let (token, found, whom) = match &rendezvous.place {
            Place::Address(address) => {
                (rendezvous.address_token(), resolve(address)?, address.clone())
            }
            Place::File(place) => {
                let path = rendezvous.file(place);
                match look(rendezvous, &path)? {
                    Some((token, found, host)) => {
                        (token, found, format!("{host}, as {} says,", path.display()))
                    }
                    None => ([0; 16], Vec::new(), format!("a file {}", path.display())),
                }
            }
        };
        let party = party(token);
        for address in found {
            match knock(&party, address, own, patience) {
                Ok((stream, Reply::Welcome(table))) => return Ok((stream, table, token)),
                Ok((_, Reply::Refused(why))) => {
                    return Err(Error::Start { what: format!("rank 0 at {address} says: {why}") });
                }
                Err(failure) => tried = format!("{address}: {failure}"),
            }
        }
        if party.left().is_zero() {
            let waited = patience.as_secs_f64();
            let what =
                format!("rank 0 is missing: {whom} did not answer within {waited:.1} s ({tried})");
            return Err(Error::Start { what });
        }
        thread::sleep(RETRY.min(party.left()));
    }
}

/// Calls a rank between rank 0 and this one; addresses are separated by spaces.
fn call(
    party: &Party,
    rank: usize,
    addresses: &str,
    patience: Duration,
) -> Result<TcpStream, Error> {
    let mut tried = String::from("it told no address");
    loop {
        for address in addresses.split(' ').filter_map(|a| a.parse::<SocketAddr>().ok()) {
            match knock(party, address, "", patience) {
                Ok((stream, Reply::Welcome(_))) => return Ok(stream),
                Ok((_, Reply::Refused(why))) => tried = format!("{address}: {why}"),
                Err(failure) => tried = format!("{address}: {failure}"),
            }
        }
        if party.left().is_zero() {
            let waited = patience.as_secs_f64();
            let what = format!("rank {rank} did not answer within {waited:.1} s ({tried})");
            return Err(Error::Start { what });
        }
        thread::sleep(RETRY.min(party.left()));
    }
}

/// One call: hello and the reply to it, which comes when the other is ready.
fn knock(
    party: &Party,
    address: SocketAddr,
    own: &str,
    patience: Duration,
) -> Result<(TcpStream, Reply), Failure> {
    let left = party.left();
    let mut stream = TcpStream::connect_timeout(&address, left.clamp(RETRY, CONNECT))?;
    party.hello(own.to_owned()).send(&mut stream)?;
    // Rank 0's patience began a little earlier or later than ours; it knows who is missing.
    let reply = Reply::receive(&mut stream, left + patience.min(SLACK))?;
    Ok((stream, reply))
}

/// What the file says by now: token, addresses, and rank 0's host.
fn look(
    rendezvous: &Rendezvous,
    path: &Path,
) -> Result<Option<(Token, Vec<SocketAddr>, String)>, Error> {
    let found = rendezvous.look(path)?;
    Ok(found.map(|(token, contents)| (token, contents.addresses, contents.host)))
}

/// Accepts callers that wait, each greeted by a thread of its own, so that one that stays silent keeps
/// nobody waiting.
fn accept(
    listener: &TcpListener,
    hellos: &Sender<(Hello, TcpStream, IpAddr)>,
) -> Result<(), Error> {
    loop {
        let (mut stream, from) = match listener.accept() {
            Ok(accepted) => accepted,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            // Callers that hung up, or too many files at the moment: others may still come.
            Err(_) => return Ok(()),
        };
        let hellos = hellos.clone();
        let greet = move || {
            let _ = stream.set_nonblocking(false);
            match Hello::receive(&mut stream, GREETING) {
                // Nobody waits any more if all have come.
                Ok(hello) => _ = hellos.send((hello, stream, from.ip().to_canonical())),
                Err(failure @ (Failure::Version(_) | Failure::Garbage)) => {
                    let _ = Reply::Refused(failure.to_string()).send(&mut stream);
                }
                Err(Failure::Connection(_)) => {}
            }
        };
        let spawned = thread::Builder::new().name("greeting".into()).spawn(greet);
        spawned.map_err(|e| transport("starting a thread", &e))?;
    }
}

/// Where a caller can be reached: at the address that its call came from, else at one it tells.
fn reachable(ip: IpAddr, told: &str) -> String {
    let port = told.split(' ').find_map(|a| a.parse::<SocketAddr>().ok()).map(|a| a.port());
    match port {
        Some(port) if !told.is_empty() => format!("{} {told}", SocketAddr::new(ip, port)),
        _ => String::new(),
    }
}

/// Where rank 0 waits by `host:port`: on loopback if that is meant, else on all its addresses, because
/// the name may mean another address here than elsewhere.
fn listen_at(address: &str) -> Result<TcpListener, Error> {
    let found = resolve(address)?;
    let port = found.first().map_or(0, SocketAddr::port);
    let literal = address.rsplit_once(':').map_or("", |(host, _)| host);
    let listener = match literal.parse::<Ipv4Addr>() {
        Ok(ip) if ip.is_loopback() => TcpListener::bind((ip, port)),
        _ => addresses::listen(port),
    };
    listener.map_err(|e| Error::Start { what: format!("rank 0 cannot listen at {address}: {e}") })
}

fn listen() -> Result<TcpListener, Error> {
    addresses::listen(0).map_err(|e| transport("listening", &e))
}

fn port_of(listener: &TcpListener) -> Result<u16, Error> {
    listener.local_addr().map(|a| a.port()).map_err(|e| transport("listening", &e))
}

fn random_token() -> Result<Token, Error> {
    let mut token = [0; 16];
    let read = std::fs::File::open("/dev/urandom")
        .and_then(|mut random| io::Read::read_exact(&mut random, &mut token));
    read.map_err(|e| transport("reading /dev/urandom", &e))?;
    Ok(token)
}

fn transport(what: &str, cause: &io::Error) -> Error {
    Error::Transport { what: what.into(), cause: cause.to_string() }
}

fn ranks(which: &[usize]) -> String {
    let word = if which.len() == 1 { "rank" } else { "ranks" };
    let list: Vec<_> = which.iter().map(usize::to_string).collect();
    format!("{word} {}", list.join(", "))
}

/// Between looks at the listener.
const LOOK: Duration = Duration::from_millis(10);
/// Between calls that nobody answered.
const RETRY: Duration = Duration::from_millis(100);
/// For a connection to come about.
const CONNECT: Duration = Duration::from_secs(2);
/// For a caller to say who it is.
const GREETING: Duration = Duration::from_secs(5);
/// How much longer than its own patience a rank waits for what rank 0 says about missing ranks.
const SLACK: Duration = Duration::from_secs(5);
