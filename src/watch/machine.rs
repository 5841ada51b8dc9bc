//! How busy this host is.

use std::fs;

use super::gpu::Gpu;
use super::gpu::Gpus;

/// Looks at the host again and again.
#[derive(Debug)]
pub(super) struct Machine {
    /// Busy and all ticks of the CPUs when they were last looked at.
    ticks: Option<[u64; 2]>,
    gpus: Gpus,
}

/// A host between the last look and the one before.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Use {
    /// Part of all its CPUs' time that they worked.
    pub cpu: Option<f64>,
    /// CPUs.
    pub cpus: usize,
    /// Memory in use and in all, in bytes.
    pub memory: Option<[f64; 2]>,
    /// Its GPUs.
    pub gpus: Vec<Gpu>,
}

impl Machine {
    /// Looks a first time.
    pub fn new() -> Self {
        Self { ticks: ticks(), gpus: Gpus::new() }
    }

    /// Looks again.
    pub fn look(&mut self) -> Use {
        let now = ticks();
        let cpu = self.ticks.zip(now).and_then(|([busy, all], [busy_now, all_now])| {
            let all = all_now.checked_sub(all).filter(|all| *all > 0)?;
            Some(busy_now.saturating_sub(busy) as f64 / all as f64)
        });
        self.ticks = now;
        let memory = fs::read_to_string("/proc/meminfo").ok();
        Use {
            cpu,
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            memory: memory.and_then(|text| memory_in(&text)),
            gpus: self.gpus.now(),
        }
    }
}

fn ticks() -> Option<[u64; 2]> {
    ticks_in(&fs::read_to_string("/proc/stat").ok()?)
}

/// Busy and all ticks, of the line of all CPUs: user, nice, system, idle, iowait, irq, softirq, steal.
fn ticks_in(stat: &str) -> Option<[u64; 2]> {
    let numbers = stat.lines().next()?.strip_prefix("cpu ")?.split_whitespace();
    let ticks: Vec<u64> = numbers.take(8).filter_map(|word| word.parse().ok()).collect();
    let idle = ticks.get(3)? + ticks.get(4).unwrap_or(&0);
    let all = ticks.iter().sum::<u64>();
    Some([all.saturating_sub(idle), all])
}

/// Memory in use and in all, in bytes.
fn memory_in(meminfo: &str) -> Option<[f64; 2]> {
    let of = |name: &str| -> Option<f64> {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
        let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kib * 1024.0)
    };
    let (all, free) = (of("MemTotal:")?, of("MemAvailable:")?);
    Some([all - free, all])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_files_are_read() {
        let stat = "cpu  10 5 15 60 10 0 0 0 0 0\ncpu0 1 2 3 4\n";
        assert_eq!(ticks_in(stat), Some([30, 100]));
        assert_eq!(ticks_in("intr 5\n"), None);
        let memory = "MemTotal: 100 kB\nMemFree: 1 kB\nMemAvailable: 25 kB\n";
        assert_eq!(memory_in(memory), Some([75.0 * 1024.0, 100.0 * 1024.0]));
    }
}
