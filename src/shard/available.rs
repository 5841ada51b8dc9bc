//! Memory that ranks may use: declared in the run file, or what their host has left.

use std::fs;
use std::path::Path;

use super::config::Config;
use crate::collective::Communicator;
use crate::collective::Error;
use crate::ops::DeviceMemory;

/// Memory that each rank of `world` may use, in bytes, by world rank; collective. Declared memory
/// (`parallel.memory_gib`) goes first; else the ranks of a device with memory of its own
/// (`device`), or of a host, share what it has left now, so ask before anything large is
/// allocated. [`u64::MAX`] where the system does not tell.
pub fn memory_of_ranks(
    world: &dyn Communicator,
    config: &Config,
    device: Option<&DeviceMemory>,
) -> Result<Vec<u64>, Error> {
    if let Some(declared) = config.declared_bytes(world.size()) {
        return Ok(declared);
    }
    let mut mine = host_id().to_vec();
    let place = device.map_or("", |device| &device.place);
    mine.extend(place.bytes().chain(std::iter::repeat(0)).take(PLACE_BYTES));
    let left = device.map(|device| device.free_bytes).or_else(left_bytes);
    mine.extend(left.unwrap_or(u64::MAX).to_le_bytes());
    let mut all = vec![0; mine.len() * world.size()];
    world.all_gather(&mine, &mut all)?;
    let ranks: Vec<(&[u8], u64)> = all
        .chunks(mine.len())
        .map(|rank| {
            let (host, left) = rank.split_at(HOST_ID_BYTES + PLACE_BYTES);
            (host, left.iter().rev().fold(0, |bytes, &byte| bytes << 8 | u64::from(byte)))
        })
        .collect();
    Ok(shares(&ranks))
}

/// What this host has left for processes of this one's control group, in bytes; none where the
/// system does not tell.
pub fn left_bytes() -> Option<u64> {
    let of_host = available_in(&fs::read_to_string("/proc/meminfo").ok()?)?;
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let of_groups = folders_in(&groups).into_iter().filter_map(|(folder, names)| {
        let read = |name: &str| fs::read_to_string(Path::new(&folder).join(name)).ok();
        let [limit, used, stat] = [read(names[0])?, read(names[1])?, read("memory.stat")?];
        left_in(&limit, &used, &stat)
    });
    Some(of_groups.fold(of_host, u64::min))
}

/// An equal share of its host's memory for every rank: each is given as its host and what it saw
/// to be left there, of which the least counts.
fn shares(ranks: &[(&[u8], u64)]) -> Vec<u64> {
    let share = |host: &[u8]| {
        let here = ranks.iter().filter(|(other, _)| *other == host);
        let least = here.clone().map(|(_, left)| *left).min().unwrap_or(0);
        if least == u64::MAX { least } else { least / here.count().max(1) as u64 }
    };
    ranks.iter().map(|(host, _)| share(host)).collect()
}

/// `MemAvailable` of `/proc/meminfo`, in bytes.
fn available_in(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// The folders of the memory control groups in `/proc/self/cgroup`, every ancestor's too, with
/// the names of the files for limit and use: of version 2 (`0::/path`) and 1 (`9:memory:/path`).
fn folders_in(groups: &str) -> Vec<(String, [&'static str; 2])> {
    let mut folders = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) =
            (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let (root, names) = match controllers {
            "" => ("/sys/fs/cgroup", ["memory.max", "memory.current"]),
            list if list.split(',').any(|name| name == "memory") => {
                ("/sys/fs/cgroup/memory", ["memory.limit_in_bytes", "memory.usage_in_bytes"])
            }
            _ => continue,
        };
        // A path from outside this process's view of the groups begins with `..`.
        let path = path.trim_matches('/').split('/').filter(|part| !part.is_empty());
        let mut folder = root.to_owned();
        folders.push((folder.clone(), names));
        for part in path.take_while(|part| *part != "..") {
            folder = format!("{folder}/{part}");
            folders.push((folder.clone(), names));
        }
    }
    folders
}

/// What a control group has left: its limit less its use, pages of files that nobody uses aside.
/// None without a limit.
fn left_in(limit: &str, used: &str, stat: &str) -> Option<u64> {
    let limit: u64 = limit.trim().parse().ok()?;
    let used: u64 = used.trim().parse().ok()?;
    let reclaimable = stat.lines().find_map(|line| line.strip_prefix("inactive_file "));
    let reclaimable: u64 = reclaimable.and_then(|n| n.trim().parse().ok()).unwrap_or(0);
    Some(limit.saturating_sub(used.saturating_sub(reclaimable)))
}

/// What tells this host from others: the identity of its kernel's boot.
fn host_id() -> [u8; HOST_ID_BYTES] {
    let mut id = [0; HOST_ID_BYTES];
    let boot = fs::read("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let len = boot.len().min(HOST_ID_BYTES);
    id[..len].copy_from_slice(&boot[..len]);
    id
}

/// The length of a UUID as text.
const HOST_ID_BYTES: usize = 36;
/// A device's address on the bus is shorter.
const PLACE_BYTES: usize = 28;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meminfo_is_read() {
        let text = "MemTotal:       24629620 kB\nMemFree: 5 kB\nMemAvailable:   24017532 kB\n";
        assert_eq!(available_in(text), Some(24_017_532 << 10));
        for text in ["", "MemTotal: 5 kB\n", "MemAvailable: many kB\n", "MemAvailable: 5 MB\n"] {
            assert_eq!(available_in(text), None, "{text}");
        }
    }

    #[test]
    fn groups_of_both_versions_are_found_with_their_ancestors() {
        let two = folders_in("0::/system.slice/slurm/job_7\n");
        let paths: Vec<_> = two.iter().map(|(path, _)| path.as_str()).collect();
        let root = "/sys/fs/cgroup";
        let want = ["", "/system.slice", "/system.slice/slurm", "/system.slice/slurm/job_7"];
        assert_eq!(paths, want.map(|rest| format!("{root}{rest}")));
        assert!(two.iter().all(|(_, names)| names[0] == "memory.max"));
        let one = folders_in("11:cpu,cpuacct:/a\n9:memory:/docker/x\nnonsense\n");
        assert_eq!(one.len(), 3);
        assert_eq!(one[2].0, "/sys/fs/cgroup/memory/docker/x");
        assert_eq!(one[2].1[0], "memory.limit_in_bytes");
        assert_eq!(folders_in("0::/../other\n").len(), 1);
    }

    #[test]
    fn a_groups_cache_is_no_use() {
        let stat = "anon 500\ninactive_file 200\nactive_file 100\n";
        assert_eq!(left_in("1000\n", "700\n", stat), Some(500));
        assert_eq!(left_in("1000\n", "1400\n", ""), Some(0));
        assert_eq!(left_in("max\n", "700\n", stat), None);
    }

    #[test]
    fn ranks_of_a_host_share_it() {
        let (a, b) = (&b"a"[..], &b"b"[..]);
        let ranks = [(a, 900), (a, 1000), (b, 400), (a, 950)];
        assert_eq!(shares(&ranks), [300, 300, 400, 300]);
        assert_eq!(shares(&[(a, u64::MAX), (a, u64::MAX)]), [u64::MAX; 2]);
    }

    #[test]
    fn this_host_has_memory_left() {
        assert!(left_bytes().is_none_or(|bytes| bytes > 1 << 20));
    }
}
