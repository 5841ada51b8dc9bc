//! A TAP device inside a network namespace: Ethernet frames as reads and writes of a file.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::process::Command;

use rustix::fs::OFlags;
use rustix::ioctl::{Opcode, Setter, ioctl};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Makes `net0` with this address in the namespace `name` (of `ip netns add`), up and running.
/// Reads of the file do not block.
pub fn open(name: &str, address: &str) -> io::Result<File> {
    let (name, address) = (name.to_owned(), address.to_owned());
    // A thread moves into a namespace alone; this one ends there and the others stay here.
    let opened = std::thread::spawn(move || {
        let namespace = File::open(format!("/run/netns/{name}"))?;
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
        let tap = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(OFlags::NONBLOCK.bits() as i32)
            .open("/dev/net/tun")?;
        attach(&tap)?;
        // Programs that a thread starts begin in its namespace.
        ip(&["link", "set", "lo", "up"])?;
        ip(&["addr", "add", &address, "dev", "net0"])?;
        ip(&["link", "set", "net0", "up"])?;
        Ok(tap)
    });
    opened.join().map_err(|_| io::Error::other("the thread that opened the device panicked"))?
}

fn ip(args: &[&str]) -> io::Result<()> {
    let status = Command::new("ip").args(args).status()?;
    if status.success() {
        Ok(())
    } else {
        Err(io::Error::other(format!("ip {}: {status}", args.join(" "))))
    }
}

/// The kernel's `struct ifreq` as TUNSETIFF reads it: 40 bytes.
#[repr(C)]
struct InterfaceRequest {
    name: [u8; 16],
    flags: u16,
    unused: [u8; 22],
}

/// Makes the open file the device `net0`.
#[allow(unsafe_code, reason = "no safe wrapper of TUNSETIFF exists")]
fn attach(tap: &File) -> io::Result<()> {
    const TUNSETIFF: Opcode = 0x4004_54ca;
    /// Whole Ethernet frames, without a header of the kernel's own (IFF_TAP, IFF_NO_PI).
    const FRAMES_ONLY: u16 = 0x0002 | 0x1000;
    let mut name = [0; 16];
    name[..4].copy_from_slice(b"net0");
    let request = InterfaceRequest { name, flags: FRAMES_ONLY, unused: [0; 22] };
    // SAFETY: TUNSETIFF reads one `struct ifreq`, whose 40 bytes InterfaceRequest lays out.
    let request = unsafe { Setter::<TUNSETIFF, InterfaceRequest>::new(request) };
    // SAFETY: the request is live for the call, and the kernel keeps no pointer to it.
    Ok(unsafe { ioctl(tap, request) }?)
}
