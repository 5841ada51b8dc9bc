//! Rules whose aggregate is a weighted sum: from points and their distances to one point.

pub(super) mod centered_clipping;
pub(super) mod geometric_median;
pub(super) mod krum;
pub(super) mod trust;

#[cfg(test)]
mod tests;
