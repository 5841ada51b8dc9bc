//! How one training is spread over ranks: who computes which shards and layers, who owns what.
//!
//! The ranks form a mesh of `stages` x data ranks. A *stage* is a contiguous range of layers; the
//! data ranks of a stage divide the S logical shards of the batch among them and own slices of
//! the stage's state (ZeRO; Rajbhandari et al. 2020, arXiv:1910.02054). Nothing here changes a
//! result: the order of every sum is that of the S shards (docs/ARITHMETIC.md, section 15).

mod available;
mod config;
mod division;
mod forecast;
mod memory;
mod mesh;
mod placement;
mod plan;
mod remedy;
mod search;
mod stages;
mod table;
mod tree;

pub use available::{left_bytes, memory_of_ranks};
pub use config::{Config, DEFAULT_SHARDS, Zero, default_shards};
pub use division::Division;
pub use forecast::{Forecast, Machine, Traffic};
pub use memory::{Job, Place, RankMemory};
pub use mesh::{Mesh, fit};
pub use placement::{Placement, PlacementInput, StageCosts, place};
pub use plan::{BLOCK_ELEMENTS, parts_of};
pub use remedy::DoesNotFit;
pub use search::{Choice, NoChoice, fastest};
pub use stages::even_stages;
pub use tree::{Counter, tree_sum, tree_values};
