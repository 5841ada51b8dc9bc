//! Many clusters in one process: virtual clock, links, attackers, sweeps.

pub mod attack;
