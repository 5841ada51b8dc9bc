//! netsim: an Ethernet switch in user space with delay, jitter, loss, rate and cuts.
//!
//! Kernels without the `netem` queue cannot slow a network down by themselves. So every host of
//! the laboratory (tests/lab/netlab.sh) is a network namespace whose only way out is a TAP device,
//! and this program is the other end of all of them: it reads each frame, decides when it arrives,
//! and writes it to the port where it is due.
//!
//!     netsim run CTL MAX_SECONDS NAME=IP/PREFIX ...    the namespaces NAME must exist
//!     netsim ctl CTL COMMAND ...                       commands: see command.rs
//!
//! A test tool: nothing of it is in the product. It ends with its parent or after MAX_SECONDS.

mod command;
mod switch;
mod tap;

use std::error::Error;
use std::fs;
use std::io::Write;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Signal, set_parent_process_death_signal};

use switch::Switch;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["run", ctl, max_seconds, hosts @ ..] => run(Path::new(ctl), max_seconds, hosts),
        ["ctl", ctl, command @ ..] => control(Path::new(ctl), &command.join(" ")),
        _ => {
            Err("usage: netsim run CTL MAX_SECONDS NAME=IP/PREFIX ... | ctl CTL COMMAND ...".into())
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("netsim: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Sends a command to the running switch and prints its answer.
fn control(ctl: &Path, command: &str) -> Result<(), Box<dyn Error>> {
    // A datagram has a sender only if the sender's socket has a name.
    let own = ctl.with_extension(format!("{}", std::process::id()));
    let socket = UnixDatagram::bind(&own)?;
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut answer = [0; 4096];
    let received = socket.send_to(command.as_bytes(), ctl).and_then(|_| socket.recv(&mut answer));
    fs::remove_file(&own)?;
    let answer = String::from_utf8_lossy(&answer[..received?]).into_owned();
    if let Some(why) = answer.strip_prefix("error: ") {
        return Err(why.into());
    }
    print!("{answer}");
    Ok(())
}

/// Opens a port on every host and forwards frames.
fn run(ctl: &Path, max_seconds: &str, hosts: &[&str]) -> Result<(), Box<dyn Error>> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let end = Instant::now() + Duration::from_secs(max_seconds.parse()?);
    let mut switch = Switch::default();
    for host in hosts {
        let (name, address) = host.split_once('=').ok_or("a host is NAME=IP/PREFIX")?;
        switch.add(name, tap::open(name, address).map_err(|e| format!("{host}: {e}"))?);
    }
    let socket = UnixDatagram::bind(ctl)?;
    socket.set_nonblocking(true)?;
    println!("ready");
    std::io::stdout().flush()?;
    while Instant::now() < end {
        switch.deliver_due()?;
        wait(&switch, &socket)?;
        let mut buffer = [0; 4096];
        while let Ok((len, sender)) = socket.recv_from(&mut buffer) {
            let text = String::from_utf8_lossy(&buffer[..len]).into_owned();
            let answer = command::apply(&text, &mut switch);
            let answer = answer.unwrap_or_else(|why| format!("error: {why}"));
            if let Some(path) = sender.as_pathname() {
                // The asker may be gone; that is its own affair.
                let _ = socket.send_to(answer.as_bytes(), path);
            }
        }
        switch.take_in();
    }
    fs::remove_file(ctl)?;
    Ok(())
}

/// Sleeps until a frame or a command has come, or a frame is due.
fn wait(switch: &Switch, socket: &UnixDatagram) -> Result<(), Box<dyn Error>> {
    let longest = Duration::from_secs(1);
    let pause = switch.next_due().map_or(longest, |due| due.min(longest));
    let pause = Timespec { tv_sec: pause.as_secs() as i64, tv_nsec: pause.subsec_nanos().into() };
    let mut waiting: Vec<PollFd<'_>> =
        switch.taps().map(|tap| PollFd::new(tap, PollFlags::IN)).collect();
    waiting.push(PollFd::new(socket, PollFlags::IN));
    match poll(&mut waiting, Some(&pause)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
