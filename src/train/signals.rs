//! The wish to stop, from a scheduler, a user or a test.
//!
//! SIGTERM and SIGUSR1 (what Slurm sends before it takes a node away) and SIGINT set a flag; the
//! loops of training and evaluation poll it. A second SIGINT ends the process at once.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1, SIGXFSZ};

/// A flag that asks training to write a checkpoint and stop. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    /// Number of the signal that asked; 0: nobody did.
    signal: Arc<AtomicUsize>,
}

impl Stop {
    /// Nobody has asked, and no signal will.
    pub fn never() -> Self {
        Self::default()
    }

    /// Set by SIGTERM, SIGUSR1 and SIGINT from now on.
    pub fn on_signals() -> io::Result<Self> {
        let stop = Self::default();
        for signal in [SIGTERM, SIGUSR1] {
            signal_hook::flag::register_usize(signal, stop.signal.clone(), signal as usize)?;
        }
        // A write past the limit on file sizes then fails like any other, instead of ending us.
        signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)))?;
        let interrupted = Arc::new(AtomicBool::new(false));
        // In this order: the first SIGINT finds the flag unset and sets it; the second ends us.
        signal_hook::flag::register_conditional_default(SIGINT, interrupted.clone())?;
        signal_hook::flag::register(SIGINT, interrupted)?;
        signal_hook::flag::register_usize(SIGINT, stop.signal.clone(), SIGINT as usize)?;
        Ok(stop)
    }

    /// Asks.
    pub fn ask(&self) {
        self.signal.store(SIGTERM as usize, Ordering::Relaxed);
    }

    /// Whether anybody has asked.
    pub fn asked(&self) -> bool {
        self.signal.load(Ordering::Relaxed) != 0
    }

    /// Name of the signal that asked.
    pub fn signal(&self) -> Option<&'static str> {
        match self.signal.load(Ordering::Relaxed) as i32 {
            0 => None,
            SIGINT => Some("SIGINT"),
            SIGUSR1 => Some("SIGUSR1"),
            _ => Some("SIGTERM"),
        }
    }
}
