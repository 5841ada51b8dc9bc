//! How much memory the training takes, as it goes.

use std::fs;
use std::time::Duration;
use std::time::Instant;

use crate::ops::Kernels;

/// Asks now and then, since asking takes longer than a small step.
#[derive(Debug)]
pub(super) struct MemoryGauge {
    /// What nobody used of the device's own memory when the run began.
    free_before: Option<u64>,
    last: Option<(Instant, Option<u64>)>,
}

impl MemoryGauge {
    /// Begins now, before the model is there.
    pub fn new(kernels: &dyn Kernels) -> Self {
        Self { free_before: kernels.memory().map(|memory| memory.free_bytes), last: None }
    }

    /// Bytes in use, at most [`PERIOD`] old: of the device's own memory, those that were free when the run
    /// began; else the resident bytes of this process, with the data's pages that it has touched. None
    /// where the system does not tell.
    pub fn bytes(&mut self, kernels: &dyn Kernels) -> Option<u64> {
        match self.last {
            Some((then, bytes)) if then.elapsed() < PERIOD => return bytes,
            _ => {}
        }
        let of_device = self.free_before.zip(kernels.memory());
        let of_device = of_device.map(|(before, now)| before.saturating_sub(now.free_bytes));
        // A device that tells of no change (the emulator) lives in this process.
        let bytes = of_device.filter(|bytes| *bytes > 0).or_else(resident);
        self.last = Some((Instant::now(), bytes));
        bytes
    }
}

/// The resident bytes of this process.
fn resident() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

const PERIOD: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_somewhere() {
        assert!(resident().is_none_or(|bytes| bytes > 1 << 20));
    }
}
