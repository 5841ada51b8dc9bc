//! A run as it goes, in a terminal: its losses, speed, time to the end, checkpoints, and how busy this
//! machine is.
//!
//! It reads the run's folder, not the process that writes it: `metrics.jsonl` as it grows (across a resume
//! too), `config.toml`, `device.json`, names in `checkpoints/`. So it works over ssh, on any host that
//! sees the folder, and never disturbs the run. [`Watched`] is what is known, [`text`] one picture of
//! it for pipes, [`live`] a picture again and again on a terminal, which it always leaves as it was.

mod error;
mod frame;
mod gpu;
mod history;
mod machine;
mod plots;
mod terminal;
mod text;
mod thinned;
mod watched;

pub use error::Error;
pub use terminal::live;
pub use text::text;
pub use watched::Watched;
