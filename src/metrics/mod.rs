//! What a run records, as others read it: lines of `metrics.jsonl`, whole or as they grow, and event
//! files for TensorBoard beside them. Who writes the lines is `train`.

mod config;
mod follow;
mod line;
mod tensorboard;

pub use config::Config;
pub use follow::Follower;
pub use follow::News;
pub use follow::Since;
pub use line::Kind;
pub use line::Line;
pub use tensorboard::EventFile;
