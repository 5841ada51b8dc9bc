//! The outer loop between clusters: DiLoCo (Douillard et al. 2023, arXiv:2311.08105).
//!
//! A cluster trains `inner_steps` steps from the outer weights, sends the difference (old minus new,
//! the pseudo-gradient), and all clusters move the outer weights by the same aggregate. Elementwise
//! f32 without FMA, so the bits are the same everywhere; docs/ARITHMETIC.md, section 17.

mod config;
mod outer;

pub use config::Config;
pub use outer::Outer;
