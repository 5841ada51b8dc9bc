//! Many clusters in one process: virtual clock, links, attackers, sweeps.
