//! Under which addresses other hosts may reach this one.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs};

use crate::collective::hosts::host_name;

/// A listener on every address of this host, IPv6 too where there is any.
pub fn listen(port: u16) -> std::io::Result<TcpListener> {
    TcpListener::bind((Ipv6Addr::UNSPECIFIED, port))
        .or_else(|_| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)))
}

/// This host's addresses with `port`: what its name stands for first, loopback last.
pub fn of_this_host(port: u16) -> Vec<SocketAddr> {
    let named = (host_name().as_str(), port).to_socket_addrs().map(Iterator::collect);
    let mut found: Vec<IpAddr> =
        named.unwrap_or_else(|_| Vec::new()).iter().map(SocketAddr::ip).collect();
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    found.extend(local_v4(&read("/proc/net/fib_trie")));
    found.extend(global_v6(&read("/proc/net/if_inet6")));
    found.push(Ipv4Addr::LOCALHOST.into());
    // A stable order: the addresses that only this host can reach move to the end.
    found.sort_by_key(IpAddr::is_loopback);
    let mut unique = Vec::new();
    for ip in found {
        if !unique.contains(&ip) && unique.len() < MAX {
            unique.push(ip);
        }
    }
    unique.into_iter().map(|ip| SocketAddr::new(ip, port)).collect()
}

/// The local addresses in the kernel's routing table: an address on a line, and below it
/// `/32 host LOCAL`.
fn local_v4(fib_trie: &str) -> Vec<IpAddr> {
    let mut last = None;
    let mut found = Vec::new();
    for line in fib_trie.lines() {
        if let Some((_, address)) = line.split_once("-- ") {
            last = address.trim().parse::<Ipv4Addr>().ok();
        } else if line.contains("/32 host LOCAL") {
            found.extend(last.map(IpAddr::V4));
        }
    }
    found
}

/// The addresses of global scope: 32 digits, index, prefix, scope (00 is global), flags, name.
fn global_v6(if_inet6: &str) -> Vec<IpAddr> {
    let parse = |line: &str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let global = fields.get(3) == Some(&"00");
        let bits = u128::from_str_radix(fields.first()?, 16).ok()?;
        global.then_some(IpAddr::V6(Ipv6Addr::from(bits)))
    };
    if_inet6.lines().filter_map(parse).collect()
}

/// More than a connection should have to try.
const MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_tables_are_read() {
        let trie = "Local:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 10.77.0.0\n        /24 link UNICAST\n     \
                    |-- 10.77.0.1\n        /32 host LOCAL\n     |-- 127.0.0.1\n        /32 host LOCAL\n";
        assert_eq!(
            local_v4(trie),
            ["10.77.0.1", "127.0.0.1"].map(|a| a.parse::<IpAddr>().unwrap())
        );
        let v6 = "fe80000000000000000000fffe000001 02 40 20 80 eth0\n\
                  20010db8000000000000000000000007 02 40 00 80 eth0\n\
                  00000000000000000000000000000001 01 80 10 80 lo\nnonsense\n";
        assert_eq!(global_v6(v6), ["2001:db8::7".parse::<IpAddr>().unwrap()]);
    }

    #[test]
    fn this_host_has_addresses_loopback_last() {
        let found = of_this_host(4000);
        assert!(found.iter().all(|address| address.port() == 4000));
        assert!(found.last().unwrap().ip().is_loopback());
        let first_loopback = found.iter().position(|a| a.ip().is_loopback()).unwrap();
        assert!(found[first_loopback..].iter().all(|a| a.ip().is_loopback()));
    }
}
