//! What of a machine is here: processor, memory, and how fast they are, in about a second.

use std::fs;
use std::time::Duration;

use crate::backend;
use crate::backend::cpu::Level;
use crate::bench::Bound;
use crate::bench::Ceilings;
use crate::bench::Effort;
use crate::ops::Precision;
use crate::plot::si;
use crate::shard;

/// Lines of the machine: what, and what is said of it.
pub fn lines() -> Vec<(&'static str, String)> {
    let mut lines = vec![("CPU", processor()), ("level", levels())];
    lines.extend(nodes().map(|words| ("NUMA", words)));
    lines.extend(memory().map(|words| ("memory", words)));
    lines.extend(speed().map(|words| ("speed", words)));
    lines
}

/// Its name, and the cores that this process may use.
fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let allowed = std::thread::available_parallelism().map_or(1, usize::from);
    let all = text.lines().filter(|line| line.starts_with("processor")).count().max(allowed);
    let cores = match allowed < all {
        true => format!("{allowed} of {all} hardware threads are ours"),
        false => format!("{all} hardware thread{}", if all == 1 { "" } else { "s" }),
    };
    format!("{}, {cores}", name_in(&text).unwrap_or(std::env::consts::ARCH))
}

/// The processor's name in `/proc/cpuinfo`, which some architectures do not tell.
fn name_in(cpuinfo: &str) -> Option<&str> {
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim()).filter(|name| !name.is_empty())
}

/// The instruction set that `auto` takes, and the others.
fn levels() -> String {
    let best = Level::best();
    let others: Vec<_> = Level::available().iter().map(|level| level.name()).collect();
    let slow =
        if best == Level::PORTABLE { "; no AVX2: kernels are several times slower" } else { "" };
    format!("{best} (device.level = \"auto\"), of {}{slow}", others.join(", "))
}

/// The nodes of memory, with their CPUs; none where there is one or the system does not tell.
fn nodes() -> Option<String> {
    let entries = fs::read_dir("/sys/devices/system/node").ok()?.flatten();
    let number = |name: &str| name.strip_prefix("node")?.parse::<usize>().ok();
    let mut nodes: Vec<(usize, String)> = entries
        .filter_map(|entry| {
            let number = number(entry.file_name().to_str()?)?;
            let cpus = fs::read_to_string(entry.path().join("cpulist")).ok()?;
            Some((number, cpus.trim().to_owned()))
        })
        .collect();
    nodes.sort();
    let words = nodes.iter().map(|(number, cpus)| match cpus.is_empty() {
        true => format!("node {number} without CPUs"),
        false => format!("node {number}: CPUs {cpus}"),
    });
    let words = words.collect::<Vec<_>>().join("; ");
    match nodes.len() {
        0 => None,
        1 => Some(format!("one node; {words}")),
        n => Some(format!("{n} nodes; {words}; a rank for each is fastest")),
    }
}

/// All memory, and what this process may still take.
fn memory() -> Option<String> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    let left = shard::left_bytes()? as f64;
    let gib = f64::from(1u32 << 30);
    Some(format!("{:.1} GiB, {:.1} GiB left for this process", kib * 1024.0 / gib, left / gib))
}

/// Copies and multiply-adds of all threads together.
fn speed() -> Option<String> {
    let kernels = backend::select(&backend::Config::default()).ok()?;
    let mut ceilings = Ceilings::new(kernels.as_ref(), &EFFORT).ok()?;
    let copy = ceilings.rate(kernels.as_ref(), Bound::Copy).ok()?;
    let products = ceilings.rate(kernels.as_ref(), Bound::Products(Precision::F32)).ok()?;
    Some(format!(
        "{} copied (reads and writes), {} of multiply-adds in f32, measured now",
        si(copy, "B/s"),
        si(products, "FLOP/s")
    ))
}

/// A glance: the medians of three short measurements.
const EFFORT: Effort = Effort {
    warm_up: Duration::ZERO,
    time: Duration::ZERO,
    rounds: (1, 1),
    ceilings: 3,
    flush_at_most: 128 << 20,
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_has_a_name_where_the_kernel_tells() {
        let text = "processor\t: 0\nmodel name\t: AMD EPYC 9654 96-Core Processor\n";
        assert_eq!(name_in(text), Some("AMD EPYC 9654 96-Core Processor"));
        assert_eq!(name_in("processor : 0\nBogoMIPS : 50\n"), None);
        assert_eq!(name_in("model name :\n"), None);
    }
}
