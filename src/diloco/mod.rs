//! The outer loop between clusters: DiLoCo (Douillard et al. 2023, arXiv:2311.08105), in fragments
//! and overlapped with training where wanted (Streaming DiLoCo, arXiv:2501.18512).
//!
//! A cluster trains `inner_steps` steps from the outer weights, sends the difference (old minus new,
//! the pseudo-gradient), and all clusters move the outer weights by the same aggregate. Elementwise
//! f32 without FMA, sums in f64 in one order, so the bits are the same everywhere
//! (docs/ARITHMETIC.md, section 17). There is no clock and no socket here: [`turn`] drives a
//! [`Cluster`] over any [`Exchange`], the simulator drives many over a virtual network.

mod assignment;
mod cluster;
mod config;
mod drive;
mod error;
mod exchange;
mod fragment;
mod inner;
mod load;
mod manifest;
mod outer;
mod record;
mod reduce;
mod rhythm;
mod save;
mod settings;
mod settle;
mod tensors;

pub use assignment::Assignment;
pub use cluster::Cluster;
pub use cluster::Next;
pub use cluster::Setup;
pub use cluster::Uncounted;
pub use config::Config;
pub use config::Optimizer;
pub use drive::Turn;
pub use drive::turn;
pub use error::Error;
pub use exchange::Exchange;
pub use exchange::InMemory;
pub use exchange::Received;
pub use fragment::Fragment;
pub use fragment::fragments;
pub use inner::Inner;
pub use load::Resume;
pub use outer::Moved;
pub use outer::Outer;
pub use outer::outer_hash;
pub use record::Contributed;
pub use record::RoundRecord;
pub use rhythm::Rhythm;
pub use settings::Settings;
pub use settle::Rejection;
pub use settle::Settled;
pub use settle::settle;
