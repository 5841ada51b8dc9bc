//! How busy this host's GPUs are: asked of `nvidia-smi`, which comes with every driver, by a thread of its
//! own, since a driver may take long to answer.

use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// A GPU now.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Gpu {
    /// Its number, from 0.
    pub index: u32,
    /// As its maker calls it.
    pub name: String,
    /// Part of the time that it computed, in percent.
    pub busy: f64,
    /// Memory in use and in all, in MiB.
    pub memory_mib: [f64; 2],
}

/// Asks again and again.
#[derive(Debug)]
pub(super) struct Gpus {
    known: Arc<Mutex<Vec<Gpu>>>,
    /// The thread ends when this is gone.
    _asking: mpsc::Sender<()>,
}

impl Gpus {
    /// Begins to ask; waits for the first answer for a while.
    pub fn new() -> Self {
        let known = Arc::new(Mutex::new(Vec::new()));
        let (asking, end) = mpsc::channel::<()>();
        let (answered, first) = mpsc::channel();
        let shared = known.clone();
        let ask = move || {
            while let Some(found) = ask() {
                *shared.lock().unwrap_or_else(PoisonError::into_inner) = found;
                let _ = answered.send(());
                if end.recv_timeout(PERIOD) == Err(mpsc::RecvTimeoutError::Disconnected) {
                    break;
                }
            }
        };
        // Without a thread there is nothing to show. One that finds no GPU ends, and is not waited for.
        if thread::Builder::new().name("nvidia-smi".into()).spawn(ask).is_ok() {
            let _ = first.recv_timeout(FIRST);
        }
        Self { known, _asking: asking }
    }

    /// What was answered last.
    pub fn now(&self) -> Vec<Gpu> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// One answer; none where there is no driver or it fails.
fn ask() -> Option<Vec<Gpu>> {
    let fields = "index,name,utilization.gpu,memory.used,memory.total";
    let mut command = Command::new("nvidia-smi");
    command.arg(format!("--query-gpu={fields}")).arg("--format=csv,noheader,nounits");
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| parsed(&String::from_utf8_lossy(&output.stdout)))
}

/// One GPU a line; what it does not know, it writes as words in brackets, which are no numbers.
fn parsed(text: &str) -> Vec<Gpu> {
    let gpu = |line: &str| {
        let [index, name, busy, used, total] =
            *line.split(',').map(str::trim).collect::<Vec<_>>().as_slice()
        else {
            return None;
        };
        let number = |text: &str| text.parse::<f64>().unwrap_or(f64::NAN);
        Some(Gpu {
            index: index.parse().ok()?,
            name: name.to_owned(),
            busy: number(busy),
            memory_mib: [number(used), number(total)],
        })
    };
    text.lines().take(MOST).filter_map(gpu).collect()
}

/// Between two questions.
const PERIOD: Duration = Duration::from_secs(2);
/// So long the first answer is waited for.
const FIRST: Duration = Duration::from_secs(3);
/// More GPUs than a host has.
const MOST: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read() {
        let text = "0, NVIDIA H200, 97, 61234, 143771\n1, NVIDIA H200, [N/A], 5, 143771\nno GPU\n";
        let found = parsed(text);
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].name.as_str(), found[0].busy), ("NVIDIA H200", 97.0));
        assert_eq!(found[0].memory_mib, [61_234.0, 143_771.0]);
        assert!(found[1].busy.is_nan());
    }
}
