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

    /// Asks, because time is up.
    pub fn ask_for_time(&self) {
        let _ = self.signal.compare_exchange(0, TIME, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Whether anybody has asked.
    pub fn asked(&self) -> bool {
        self.signal.load(Ordering::Relaxed) != 0
    }

    /// What asked, as this rank's vote: a bit of its own for every reason, 0 for nothing. The OR
    /// of all ranks' votes is what the job does.
    pub fn vote(&self) -> u64 {
        let signal = self.signal.load(Ordering::Relaxed);
        match signal as i32 {
            0 => 0,
            SIGINT => 1 << 1,
            SIGUSR1 => 1 << 2,
            _ if signal == TIME => 1 << 3,
            _ => 1 << 0,
        }
    }
}

/// What `votes` say, in words.
pub fn reasons(votes: u64) -> String {
    let all = ["SIGTERM", "SIGINT", "SIGUSR1", "the wall clock"];
    let said = all.iter().enumerate().filter(|(bit, _)| votes >> bit & 1 == 1);
    said.map(|(_, name)| *name).collect::<Vec<_>>().join(" and ")
}

/// In place of a signal's number: the wall clock.
const TIME: usize = 1 << 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn votes_of_many_ranks_add_up_to_words() {
        let (quiet, asked, late) = (Stop::never(), Stop::never(), Stop::never());
        asked.ask();
        late.ask_for_time();
        assert_eq!((quiet.vote(), quiet.asked()), (0, false));
        assert_eq!(
            reasons(quiet.vote() | asked.vote() | late.vote()),
            "SIGTERM and the wall clock"
        );
        asked.ask_for_time();
        assert_eq!(reasons(asked.vote()), "SIGTERM");
    }
}
