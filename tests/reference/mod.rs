//! What the tests hold results against: plain f64, with no kernel of the crate in it.

pub mod compare;
pub mod neurollm;
